/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of doctor*.c. */
#ifndef VSWITCHD_DOCTOR_H
#define VSWITCHD_DOCTOR_H

#include "daemon.h"

#define OK   "ok"
#define WARN "warn"
#define FAIL "fail"

/* A finding. `fix` may be "". */
__attribute__((format(printf, 5, 6))) void add(json_t *list, const char *check, const char *level,
					       const char *fix, const char *fmt, ...);
/* Whether `word` is one of a line of words in /proc/cpuinfo. */
bool cpuinfo_has(const char *line_name, const char *word);
/* The first line of a file below host_root(); "" when unreadable. */
const char *host_line(const char *path, char *buf, size_t len);

/* doctor-vm.c: what speaks against attaching those that run, and for slow calls of those attached
 */
void check_vms(struct daemon *d, json_t *list);

#endif
