/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an operator wants to know at once: one call makes the log line, the journal's entry
 * (MESSAGE_ID and the fields ELISA_EVENT, ELISA_VM, ELISA_PORT, ELISA_REASON) and a notification
 * for those who have called events.subscribe. From the event loop's thread only; log.h is for all
 * others.
 */
#ifndef VSWITCHD_EVENT_H
#define VSWITCHD_EVENT_H

#include <stdbool.h>
#include "log.h"

struct daemon;
struct vs_fdb_stats;

enum event {
	EVENT_DAEMON,	/* ready, stopping; the trusted context */
	EVENT_CONFIG,	/* read again, refused, saved */
	EVENT_WATCHDOG, /* the data path's own test */
	EVENT_VM_ATTACHED,
	EVENT_VM_DETACHED,
	EVENT_VM_REFUSED, /* not attached */
	EVENT_VM_KILLED,
	EVENT_VM_RESET,
	EVENT_VM_GONE,	    /* its process has ended */
	EVENT_CLIENT,	    /* local clients: joined, left, refused */
	EVENT_PORT_CHANGED, /* added, set, deleted */
	EVENT_PORT_LINK,
	EVENT_FDB_MOVED, /* addresses seen at another port than before */
	EVENT_NIC,
	EVENT_CAPTURE,
	EVENT_COUNT
};

/* `vm`, `port`, `reason` (a short word): NULL or "" when there is none. */
__attribute__((format(printf, 8, 9))) void event_at(const struct log_where *where, struct daemon *d,
						    enum event event, const char *priority,
						    const char *vm, const char *port,
						    const char *reason, const char *fmt, ...);
#define event_say(d, event, priority, vm, port, ...) \
	event_at(LOG_HERE, d, event, priority, vm, port, NULL, __VA_ARGS__)
#define event_say_why(d, event, priority, vm, port, reason, ...) \
	event_at(LOG_HERE, d, event, priority, vm, port, reason, __VA_ARGS__)

/* "vm-attached" and the like; NULL past the last. */
const char *event_name(unsigned int event);
/*
 * Each second: what nobody tells us, the guests' links and addresses that move; with what fdb_stats()
 * says.
 */
void event_tick(struct daemon *d, const struct vs_fdb_stats *fdb);

#endif
