/* SPDX-License-Identifier: BSD-3-Clause */
/* What messages say, wherever they go. */
#include "log.h"

#include <stdio.h>

void log_text(char text[LOG_TEXT_LEN], const char *fmt, va_list ap)
{
	vsnprintf(text, LOG_TEXT_LEN, fmt, ap);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
}

void log_at(const struct log_where *where, const char *priority, const char *fmt, ...)
{
	char text[LOG_TEXT_LEN];
	va_list ap;

	va_start(ap, fmt);
	log_text(text, fmt, ap);
	va_end(ap);
	log_entry(where, priority, NULL, 0, text);
}
