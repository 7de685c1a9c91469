/* SPDX-License-Identifier: BSD-3-Clause */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool to_journal, with_debug;

/* systemd says in JOURNAL_STREAM which stream it connected; stderr may have been redirected since.
 */
void log_init(bool debug)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	with_debug = debug;
	to_journal = stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
		     !fstat(STDERR_FILENO, &st) && st.st_dev == dev && st.st_ino == ino;
}

static const char *priority_word(const char *priority)
{
	if (!strcmp(priority, SD_ERR))
		return "error: ";
	if (!strcmp(priority, SD_WARNING))
		return "warning: ";
	return "";
}

void log_line(const char *priority, const char *fmt, ...)
{
	char text[1024], stamp[32] = "";
	struct timespec now;
	struct tm tm;
	va_list ap;

	if (!with_debug && !strcmp(priority, SD_DEBUG))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* What others named (a VM, a file) must not forge a line. */
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	if (to_journal) {
		fprintf(stderr, "%s%s\n", priority, text);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%F %T", &tm);
	fprintf(stderr, "%s.%03ld elisa-vswitchd: %s%s\n", stamp, now.tv_nsec / 1000000,
		priority_word(priority), text);
}
