/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One line a message, on stderr: with the priority prefixes of sd-daemon(3) when stderr goes to the
 * journal, with a time stamp otherwise. Any thread.
 */
#ifndef VSWITCHD_LOG_H
#define VSWITCHD_LOG_H

#include <stdbool.h>
#include <systemd/sd-daemon.h>

void log_init(bool debug);
__attribute__((format(printf, 2, 3))) void log_line(const char *priority, const char *fmt, ...);

#define log_error(...)	 log_line(SD_ERR, __VA_ARGS__)
#define log_warning(...) log_line(SD_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_line(SD_NOTICE, __VA_ARGS__)
#define log_info(...)	 log_line(SD_INFO, __VA_ARGS__)
#define log_debug(...)	 log_line(SD_DEBUG, __VA_ARGS__)

#endif
