/* SPDX-License-Identifier: BSD-3-Clause */
/* Where messages go: log_init(), log_entry(). */
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static bool with_debug;
static bool to_stream;	/* stderr is the journal's: a line with a prefix is an entry */
static bool to_journal; /* ... and it takes fields, too */
static int journal;

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
	if (!to_stream || access(JOURNAL_SOCKET, W_OK))
		return;
	journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	to_journal = journal >= 0;
}

static const char *priority_word(const char *priority)
{
	if (!strcmp(priority, SD_ERR))
		return "error: ";
	if (!strcmp(priority, SD_WARNING))
		return "warning: ";
	return "";
}

/* In the journal's own protocol: NAME=value, a line each. Values have no end of line in them. */
struct entry {
	char text[LOG_TEXT_LEN + 1024];
	size_t used;
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
	e->used += (size_t)len;
	e->text[e->used - 1] = '\n';
}

/*
 * sd_journal_sendv() waits while the journal is busy: an event loop, and whoever guests wait for, must
 * not. 0 or -errno.
 */
static int journal_send(const struct log_where *where, const char *priority,
			const struct log_field *fields, unsigned int count, const char *text)
{
	const struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};
	struct entry e = {.used = 0};

	/* Each with a byte for the end of its line. */
	entry_add(&e, "MESSAGE=%s ", text);
	entry_add(&e, "PRIORITY=%c ", priority[1]); /* sd-daemon(3): "<5>" */
	entry_add(&e, "SYSLOG_IDENTIFIER=%s ", program_invocation_short_name);
	entry_add(&e, "CODE_FILE=%s ", where->file);
	entry_add(&e, "CODE_LINE=%d ", where->line);
	entry_add(&e, "CODE_FUNC=%s ", where->func);
	for (unsigned int i = 0; i < count && i < LOG_FIELDS_MAX; i++)
		if (fields[i].value && *fields[i].value)
			entry_add(&e, "%s=%s ", fields[i].name, fields[i].value);
	if (sendto(journal, e.text, e.used, MSG_DONTWAIT | MSG_NOSIGNAL,
		   (const struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return 0;
}

/* The journal's other way, without fields. Neither waits. 0 or -errno. */
static int stream_send(const char *priority, const char *text)
{
	char line[LOG_TEXT_LEN + 8];
	int len = snprintf(line, sizeof(line), "%s%s\n", priority, text);

	if (send(STDERR_FILENO, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	if (errno == ENOTSOCK && write(STDERR_FILENO, line, (size_t)len) >= 0)
		return 0;
	return -errno;
}

static int to_systemd(const struct log_where *where, const char *priority,
		      const struct log_field *fields, unsigned int count, const char *text)
{
	int ret = to_journal ? journal_send(where, priority, fields, count, text) : -ENOTCONN;

	/* One that is busy with entries will not be faster with lines. */
	return !ret || ret == -EAGAIN ? ret : stream_send(priority, text);
}

/* What was lost is told before the next that is not. */
static void systemd_send(const struct log_where *where, const char *priority,
			 const struct log_field *fields, unsigned int count, const char *text)
{
	static unsigned int lost;
	unsigned int missing = __atomic_exchange_n(&lost, 0, __ATOMIC_RELAXED);
	char told[80];

	snprintf(told, sizeof(told), "the journal was too busy for %u messages before this", missing);
	if (missing && to_systemd(LOG_HERE, SD_WARNING, NULL, 0, told))
		__atomic_add_fetch(&lost, missing, __ATOMIC_RELAXED);
	if (to_systemd(where, priority, fields, count, text))
		__atomic_add_fetch(&lost, 1, __ATOMIC_RELAXED);
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
	else
		systemd_send(where, priority, fields, count, text);
}
