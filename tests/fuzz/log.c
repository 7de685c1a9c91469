/* SPDX-License-Identifier: BSD-3-Clause */
/* The daemon's log, for fuzzers: made as ever, but only the last complaints are kept. */
#include "../../vswitch/daemon/log.h"
#include "inside.h"

#include <stdio.h>
#include <string.h>

#define KEPT 8

unsigned int inside_complaints;
static char kept[KEPT][LOG_TEXT_LEN];

void log_init(bool debug)
{
	(void)debug;
}

void log_entry(const struct log_where *where, const char *priority, const struct log_field *fields,
	       unsigned int count, const char *text)
{
	(void)where;
	(void)fields;
	(void)count;
	if (strcmp(priority, SD_WARNING) && strcmp(priority, SD_ERR))
		return;
	snprintf(kept[inside_complaints++ % KEPT], LOG_TEXT_LEN, "%s", text);
}

bool inside_complained_of(const char *text)
{
	for (unsigned int i = 0; i < KEPT && i < inside_complaints; i++)
		if (strstr(kept[i], text))
			return true;
	return false;
}

void inside_forget_log(void)
{
	inside_complaints = 0;
}
