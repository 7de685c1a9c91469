/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One line a message: an entry of the journal with its fields when stderr goes there, else on
 * stderr with a time stamp. Any thread.
 */
#ifndef VSWITCHD_LOG_H
#define VSWITCHD_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <systemd/sd-daemon.h>

#define LOG_TEXT_LEN 1024

struct log_where {
	const char *file, *func;
	int line;
};
#define LOG_HERE (&(const struct log_where){__FILE__, __func__, __LINE__})

/* A field of the journal, besides those that each entry has. */
struct log_field {
	const char *name, *value; /* value NULL: not there */
};
#define LOG_FIELDS_MAX 8

void log_init(bool debug);
/* What others named (a VM, a file) must not forge a line: control characters become spaces. */
void log_text(char text[LOG_TEXT_LEN], const char *fmt, va_list ap);
/* `text` is of log_text(). */
void log_entry(const struct log_where *where, const char *priority, const struct log_field *fields,
	       unsigned int count, const char *text);
__attribute__((format(printf, 3, 4))) void log_at(const struct log_where *where,
						  const char *priority, const char *fmt, ...);

#define log_line(priority, ...) log_at(LOG_HERE, priority, __VA_ARGS__)
#define log_error(...)		log_line(SD_ERR, __VA_ARGS__)
#define log_warning(...)	log_line(SD_WARNING, __VA_ARGS__)
#define log_notice(...)		log_line(SD_NOTICE, __VA_ARGS__)
#define log_info(...)		log_line(SD_INFO, __VA_ARGS__)
#define log_debug(...)		log_line(SD_DEBUG, __VA_ARGS__)

#endif
