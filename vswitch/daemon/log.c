/* SPDX-License-Identifier: BSD-3-Clause */
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#define SD_JOURNAL_SUPPRESS_LOCATION /* it would be ours, not the caller's */
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static bool with_debug;
static bool to_stream;	/* stderr is the journal's: a line with a prefix is an entry */
static bool to_journal; /* ... and it takes fields, too */

/* systemd says in JOURNAL_STREAM which stream it connected; stderr may have been redirected since.
 */
void log_init(bool debug)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	with_debug = debug;
	to_stream = stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
		    !fstat(STDERR_FILENO, &st) && st.st_dev == dev && st.st_ino == ino;
	to_journal = to_stream && !access(JOURNAL_SOCKET, W_OK);
}

static const char *priority_word(const char *priority)
{
	if (!strcmp(priority, SD_ERR))
		return "error: ";
	if (!strcmp(priority, SD_WARNING))
		return "warning: ";
	return "";
}

void log_text(char text[LOG_TEXT_LEN], const char *fmt, va_list ap)
{
	vsnprintf(text, LOG_TEXT_LEN, fmt, ap);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
}

/* Fields of the journal, in one buffer. */
struct entry {
	char text[LOG_TEXT_LEN + 1024];
	size_t used;
	struct iovec vec[LOG_FIELDS_MAX + 5];
	int count;
};

__attribute__((format(printf, 2, 3))) static void entry_add(struct entry *e, const char *fmt, ...)
{
	size_t room = sizeof(e->text) - e->used;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(e->text + e->used, room, fmt, ap);
	va_end(ap);
	if (len < 0 || (size_t)len >= room)
		return;
	e->vec[e->count++] = (struct iovec){e->text + e->used, (size_t)len};
	e->used += (size_t)len;
}

static int journal_send(const struct log_where *where, const char *priority,
			const struct log_field *fields, unsigned int count, const char *text)
{
	struct entry e = {.used = 0};

	entry_add(&e, "MESSAGE=%s", text);
	entry_add(&e, "PRIORITY=%c", priority[1]); /* sd-daemon(3): "<5>" */
	entry_add(&e, "CODE_FILE=%s", where->file);
	entry_add(&e, "CODE_LINE=%d", where->line);
	entry_add(&e, "CODE_FUNC=%s", where->func);
	for (unsigned int i = 0; i < count && i < LOG_FIELDS_MAX; i++)
		if (fields[i].value && *fields[i].value)
			entry_add(&e, "%s=%s", fields[i].name, fields[i].value);
	return sd_journal_sendv(e.vec, e.count);
}

static void stderr_send(const char *priority, const char *text)
{
	char stamp[32] = "";
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%F %T", &tm);
	fprintf(stderr, "%s.%03ld elisa-vswitchd: %s%s\n", stamp, now.tv_nsec / 1000000,
		priority_word(priority), text);
}

void log_entry(const struct log_where *where, const char *priority, const struct log_field *fields,
	       unsigned int count, const char *text)
{
	if (!with_debug && !strcmp(priority, SD_DEBUG))
		return;
	if (!to_stream)
		stderr_send(priority, text);
	else if (!to_journal || journal_send(where, priority, fields, count, text))
		fprintf(stderr, "%s%s\n", priority, text);
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
