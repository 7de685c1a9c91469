/* SPDX-License-Identifier: BSD-3-Clause */
#include "event.h"
#include "daemon.h"

#include <string.h>
#include <time.h>

/* The ids are for good: an operator's rules name them (journalctl MESSAGE_ID=...). */
static const struct {
	const char *name, *id;
} events[EVENT_COUNT] = {
	[EVENT_DAEMON] = {"daemon", "ccbc827f565d4665b1e78ea704e882ad"},
	[EVENT_CONFIG] = {"config", "558818dd07e84a8daef47d1aef0fc690"},
	[EVENT_WATCHDOG] = {"watchdog", "a9188970870d4606a1a408ad12698ff4"},
	[EVENT_VM_ATTACHED] = {"vm-attached", "16afcb3d5ec54e3c88dc92f500daac36"},
	[EVENT_VM_DETACHED] = {"vm-detached", "b2faf380acd34a9aa906bc5369393607"},
	[EVENT_VM_REFUSED] = {"vm-refused", "21210542708441a99bd1d5699394a24d"},
	[EVENT_VM_KILLED] = {"vm-killed", "0ea418395b9a41299b7ddbefa9609142"},
	[EVENT_VM_RESET] = {"vm-reset", "e3277bd31995489a8ded6aaf5ae56283"},
	[EVENT_VM_GONE] = {"vm-gone", "6d2fa7c72d2e44a4a8858c52582e6368"},
	[EVENT_CLIENT] = {"client", "b2e6fd3651fe442b9749f90a5820335e"},
	[EVENT_PORT_CHANGED] = {"port-changed", "20e7c81e3ac148c681a7190c9e7744a8"},
	[EVENT_PORT_LINK] = {"port-link", "e06054163f124eb9810f1081cac24c18"},
	[EVENT_FDB_MOVED] = {"fdb-moved", "def529271b234ef99df6f269b6824e3c"},
	[EVENT_NIC] = {"nic", "ea276822938647bb8637ed670a567e0b"},
	[EVENT_CAPTURE] = {"capture", "975669e93cd14236b1870605fed39600"},
};

const char *event_name(unsigned int event)
{
	return event < EVENT_COUNT ? events[event].name : NULL;
}

/* Names come from outside: what is not UTF-8 has no place in JSON. */
static json_t *text_json(const char *text)
{
	char ascii[LOG_TEXT_LEN];
	json_t *json = json_string(text);

	if (json)
		return json;
	snprintf(ascii, sizeof(ascii), "%s", text);
	for (char *p = ascii; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	return json_string(ascii);
}

static json_t *event_json(enum event event, const char *priority, const struct log_field *fields,
			  unsigned int count, const char *text)
{
	static const char *const keys[] = {NULL, NULL, "vm", "port", "reason"};
	static const char *const words[] = {"emerg",   "alert",	 "crit", "error",
					    "warning", "notice", "info", "debug"};
	struct timespec now;
	json_t *json;

	clock_gettime(CLOCK_REALTIME, &now);
	json = json_pack("{s:s, s:s, s:I, s:o}", "event", events[event].name, "priority",
			 words[(priority[1] - '0') & 7], "time_us",
			 (json_int_t)now.tv_sec * 1000000 + now.tv_nsec / 1000, "text",
			 text_json(text));
	for (unsigned int i = 2; i < count; i++)
		if (fields[i].value && *fields[i].value)
			json_object_set_new(json, keys[i], text_json(fields[i].value));
	return json;
}

void event_at(const struct log_where *where, struct daemon *d, enum event event,
	      const char *priority, const char *vm, const char *port, const char *reason,
	      const char *fmt, ...)
{
	const struct log_field fields[] = {
		{"MESSAGE_ID", events[event].id},
		{"ELISA_EVENT", events[event].name},
		{"ELISA_VM", vm},
		{"ELISA_PORT", port},
		{"ELISA_REASON", reason},
	};
	const unsigned int count = sizeof(fields) / sizeof(fields[0]);
	char text[LOG_TEXT_LEN];
	va_list ap;

	va_start(ap, fmt);
	log_text(text, fmt, ap);
	va_end(ap);
	log_entry(where, priority, fields, count, text);
	if (control_subscribers(d))
		control_publish(d, event_json(event, priority, fields, count, text));
}

/* A guest may let its link flap as it likes: it makes one line a second of it at most. */
static void tick_link(struct daemon *d, struct port *port)
{
	struct vs_port_info info;

	if (vs_port_info(d->vs, port->id, &info) || info.link == port->link_told)
		return;
	port->link_told = info.link;
	if (!port->nic) /* NICs say more about it themselves */
		event_say(d, EVENT_PORT_LINK, SD_INFO, port->guest ? port->guest->name : NULL,
			  port->set.vs.name, "port %s: link %s", port->set.vs.name,
			  info.link ? "up" : "down");
}

void event_tick(struct daemon *d, const struct vs_fdb_stats *fdb)
{
	struct port *port;

	TAILQ_FOREACH(port, &d->ports, link)
	tick_link(d, port);
	if (fdb->moved != d->fdb_moved)
		event_say(d, EVENT_FDB_MOVED, SD_INFO, NULL, NULL,
			  "addresses moved from one port to another: %llu times",
			  (unsigned long long)(fdb->moved - d->fdb_moved));
	d->fdb_moved = fdb->moved;
}
