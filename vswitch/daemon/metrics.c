/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The text formats "Prometheus 0.0.4" and "OpenMetrics 1.0" over the JSON of `stats`. They differ
 * in two things: OpenMetrics names a counter in its family's head without "_total", and has a sample
 * "_created" with each, from when on it counts. Prometheus has only gauges for that.
 */
#include "daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
	FILE *f;
	bool openmetrics;
	json_t *stats;
};

/* A counter's name has no "_total" here. */
struct family {
	const char *name, *key, *help;
};

#define LABELS_LEN 512

/* ---- lines ---- */

static void head(struct text *t, const char *name, bool counter, const char *help)
{
	const char *suffix = counter && !t->openmetrics ? "_total" : "";

	fprintf(t->f, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, suffix, help, name, suffix,
		counter ? "counter" : "gauge");
}

/* name="value", with what the formats want escaped. */
static void label(char labels[LABELS_LEN], const char *name, const char *value)
{
	size_t used = strlen(labels);

	used += (size_t)snprintf(labels + used, LABELS_LEN - used, "%s%s=\"", used ? "," : "",
				 name);
	for (; *value && used < LABELS_LEN - 4; value++) {
		if (*value == '"' || *value == '\\')
			labels[used++] = '\\';
		labels[used++] = (unsigned char)*value < ' ' ? ' ' : *value;
	}
	labels[used++] = '"';
	labels[used] = '\0';
}

static void sample(struct text *t, const char *name, bool counter, const char *labels,
		   json_int_t value)
{
	fprintf(t->f, "%s%s%s%s%s %lld\n", name, counter ? "_total" : "", *labels ? "{" : "",
		labels, *labels ? "}" : "", (long long)value);
}

static json_int_t value_of(json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	return json_is_boolean(value) ? json_is_true(value) : json_integer_value(value);
}

/* In seconds, as both formats want it. */
static void moment(struct text *t, const char *name, const char *labels, json_t *epoch)
{
	const json_int_t us = value_of(epoch, "since_us");

	fprintf(t->f, "%s%s%s%s %lld.%06lld\n", name, *labels ? "{" : "", labels,
		*labels ? "}" : "", (long long)(us / (json_int_t)SEC),
		(long long)(us % (json_int_t)SEC));
}

/* A counter's value, and its beginning if `epoch` is one. */
static void counted(struct text *t, const char *name, const char *labels, json_int_t value,
		    json_t *epoch)
{
	char created[80];

	sample(t, name, true, labels, value);
	if (!t->openmetrics || !epoch)
		return;
	snprintf(created, sizeof(created), "%s_created", name);
	moment(t, created, labels, epoch);
}

static void single(struct text *t, const char *name, bool counter, const char *help,
		   json_int_t value)
{
	head(t, name, counter, help);
	if (counter)
		counted(t, name, "", value, json_object_get(t->stats, "epoch"));
	else
		sample(t, name, false, "", value);
}

/* One family after the other, each for all of `objects`; the values are in `part` of them. */
static void families(struct text *t, const struct family *f, size_t count, bool counter,
		     json_t *objects, const char *what, const char *part)
{
	char labels[LABELS_LEN];
	const char *name;
	json_int_t value;
	json_t *object;

	for (size_t i = 0; i < count; i++) {
		head(t, f[i].name, counter, f[i].help);
		json_object_foreach(objects, name, object)
		{
			labels[0] = '\0';
			label(labels, what, name);
			value = value_of(part ? json_object_get(object, part) : object, f[i].key);
			if (counter)
				counted(t, f[i].name, labels, value,
					json_object_get(object, "epoch"));
			else
				sample(t, f[i].name, false, labels, value);
		}
	}
}

#define FAMILIES(table) table, sizeof(table) / sizeof((table)[0])

/* ---- ports ---- */

static const struct family port_counters[] = {
	{"elisa_port_tx_frames", "tx_frames",
	 "Frames that the port's guest has sent and that somebody got."},
	{"elisa_port_tx_bytes", "tx_bytes", "Bytes of elisa_port_tx_frames_total."},
	{"elisa_port_rx_frames", "rx_frames", "Frames delivered to the port's guest."},
	{"elisa_port_rx_bytes", "rx_bytes", "Bytes of elisa_port_rx_frames_total."},
	{"elisa_port_tx_unicast_frames", "tx_unicast", "Sent frames to one address."},
	{"elisa_port_tx_multicast_frames", "tx_multicast", "Sent frames to a group address."},
	{"elisa_port_tx_broadcast_frames", "tx_broadcast", "Sent frames to all."},
	{"elisa_port_tx_flooded_frames", "tx_flooded",
	 "Sent frames that went to more than one port: groups, all, and unknown addresses."},
	{"elisa_port_tx_calls", "tx_calls", "Calls of the switch to send."},
	{"elisa_port_tx_checksums", "tx_csum", "Sent frames whose checksum the switch filled in."},
	{"elisa_port_tx_segmented_frames", "tx_segmented", "Sent frames that the switch cut up."},
	{"elisa_port_tx_segments", "tx_segments", "Segments that they were cut into."},
	{"elisa_port_tx_bells", "tx_bells", "Times that the guest was told to wake a receiver."},
};

static void port_info(struct text *t, json_t *ports)
{
	static const char *const keys[] = {"transport", "bound_to"};
	char labels[LABELS_LEN];
	const char *name;
	json_t *port;

	head(t, "elisa_port_info", false, "1 for each port; its transport and who uses it.");
	json_object_foreach(ports, name, port)
	{
		labels[0] = '\0';
		label(labels, "port", name);
		for (size_t i = 0; i < 2; i++)
			label(labels, keys[i], json_string_value(json_object_get(port, keys[i])));
		sample(t, "elisa_port_info", false, labels, 1);
	}
}

static void port_start(struct text *t, json_t *ports)
{
	char labels[LABELS_LEN];
	const char *name;
	json_t *port;

	head(t, "elisa_port_start_time_seconds", false,
	     "From when on the port's counters count, in seconds since 1970.");
	json_object_foreach(ports, name, port)
	{
		labels[0] = '\0';
		label(labels, "port", name);
		moment(t, "elisa_port_start_time_seconds", labels, json_object_get(port, "epoch"));
	}
}

/* All reasons, so that a first drop is seen as a rise. */
static void port_drops(struct text *t, json_t *ports)
{
	char labels[LABELS_LEN];
	const char *name;
	json_t *port;

	head(t, "elisa_port_drops", true,
	     "Frames dropped: tx- what the port's guest sent, rx- what was meant for it.");
	json_object_foreach(ports, name, port)
	{
		for (unsigned int i = 0; vs_drop_name(i); i++) {
			labels[0] = '\0';
			label(labels, "port", name);
			label(labels, "reason", vs_drop_name(i));
			counted(t, "elisa_port_drops", labels,
				value_of(json_object_get(port, "drops"), vs_drop_name(i)),
				json_object_get(port, "epoch"));
		}
	}
}

static const struct family queue_counters[] = {
	{"elisa_queue_tx_frames", "tx_frames", "Frames sent by this queue."},
	{"elisa_queue_tx_bytes", "tx_bytes", "Bytes sent by this queue."},
	{"elisa_queue_rx_frames", "rx_frames", "Frames delivered to this queue."},
	{"elisa_queue_rx_bytes", "rx_bytes", "Bytes delivered to this queue."},
};

static void queue_labels(char labels[LABELS_LEN], const char *port, json_t *queue)
{
	char number[24];

	labels[0] = '\0';
	label(labels, "port", port);
	snprintf(number, sizeof(number), "%lld", (long long)value_of(queue, "queue"));
	label(labels, "queue", number);
}

static void queue_family(struct text *t, json_t *ports, const struct family *f, bool counter)
{
	char labels[LABELS_LEN];
	json_t *port, *queue;
	const char *name;
	size_t i;

	head(t, f->name, counter, f->help);
	json_object_foreach(ports, name, port)
	{
		json_array_foreach(json_object_get(port, "queues"), i, queue)
		{
			queue_labels(labels, name, queue);
			if (counter)
				counted(t, f->name, labels, value_of(queue, f->key),
					json_object_get(port, "epoch"));
			else
				sample(t, f->name, false, labels, value_of(queue, f->key));
		}
	}
}

/* Reasons that were seen. */
static void queue_drops(struct text *t, json_t *ports)
{
	json_t *port, *queue, *count;
	const char *name, *reason;
	char labels[LABELS_LEN];
	size_t i;

	head(t, "elisa_queue_drops", true, "Frames dropped at this queue; reasons that were seen.");
	json_object_foreach(ports, name, port)
	{
		json_array_foreach(json_object_get(port, "queues"), i, queue)
		{
			json_object_foreach(json_object_get(queue, "drops"), reason, count)
			{
				queue_labels(labels, name, queue);
				label(labels, "reason", reason);
				counted(t, "elisa_queue_drops", labels, json_integer_value(count),
					json_object_get(port, "epoch"));
			}
		}
	}
}

static void ports_text(struct text *t)
{
	static const struct family up = {"elisa_port_up", "link",
					 "1: the port has link: up, in use, a queue set up."};
	static const struct family set_up = {"elisa_queue_up", "set_up",
					     "1: the guest has set this queue up."};
	json_t *ports = json_object_get(t->stats, "ports");

	port_info(t, ports);
	port_start(t, ports);
	families(t, &up, 1, false, ports, "port", NULL);
	families(t, FAMILIES(port_counters), true, ports, "port", NULL);
	port_drops(t, ports);
	queue_family(t, ports, &set_up, false);
	for (size_t i = 0; i < sizeof(queue_counters) / sizeof(queue_counters[0]); i++)
		queue_family(t, ports, &queue_counters[i], true);
	queue_drops(t, ports);
}

/* ---- VMs, NICs, the rest ---- */

static const struct family vm_counters[] = {
	{"elisa_vm_calls", "calls", "Calls of the switch by the VM's vCPUs since it was attached."},
	{"elisa_vm_exits", "exits", "VM exits while armed."},
	{"elisa_vm_exits_gate", "exits_gate", "VM exits while in the gate."},
	{"elisa_vm_exits_trusted", "exits_trusted", "VM exits while inside the switch."},
	{"elisa_vm_kills", "kills", "Kills for what a vCPU did inside."},
};

static void vms_text(struct text *t)
{
	json_t *vms = json_object_get(t->stats, "vms"), *vm, *count;
	const char *name, *reason;
	char labels[LABELS_LEN];

	head(t, "elisa_vm_attached", false, "1: attached, 0: waiting, draining or killed.");
	json_object_foreach(vms, name, vm)
	{
		labels[0] = '\0';
		label(labels, "vm", name);
		label(labels, "transport", json_string_value(json_object_get(vm, "transport")));
		sample(t, "elisa_vm_attached", false, labels,
		       !strcmp(json_string_value(json_object_get(vm, "state")), "attached"));
	}
	families(t, FAMILIES(vm_counters), true, vms, "vm", "totals");
	head(t, "elisa_vm_exits_inside", true,
	     "VM exits inside the switch or its gate, by reason.");
	json_object_foreach(vms, name, vm)
	{
		json_t *by = json_object_get(json_object_get(vm, "totals"), "inside_by_reason");

		json_object_foreach(by, reason, count)
		{
			labels[0] = '\0';
			label(labels, "vm", name);
			label(labels, "reason", reason);
			sample(t, "elisa_vm_exits_inside", true, labels, json_integer_value(count));
		}
	}
}

static const struct family nic_device[] = {
	{"elisa_nic_rx_frames", "rx_frames", "Frames received, by the device's own count."},
	{"elisa_nic_rx_bytes", "rx_bytes", "Bytes received, by the device's own count."},
	{"elisa_nic_rx_missed_frames", "rx_missed", "Frames that the device had no room for."},
	{"elisa_nic_rx_errors", "rx_errors", "Frames received with errors."},
	{"elisa_nic_rx_no_buffer", "rx_no_mbuf", "Times that there was no buffer to receive into."},
	{"elisa_nic_tx_frames", "tx_frames", "Frames sent, by the device's own count."},
	{"elisa_nic_tx_bytes", "tx_bytes", "Bytes sent, by the device's own count."},
	{"elisa_nic_tx_errors", "tx_errors", "Frames that the device failed to send."},
	{"elisa_nic_tx_full", "tx_full", "Frames that found the device's send queue full."},
	{"elisa_nic_starts", "starts", "Times that the device was started."},
};

static const struct family nic_counters[] = {
	{"elisa_nic_resets", "resets", "Resets after a VM that served it has died."},
	{"elisa_nic_lost_buffers", "lost_buffers", "Buffers lost with such VMs."},
};

static void nics_text(struct text *t)
{
	static const struct family up = {"elisa_nic_up", "up", "1: it has a link."};
	json_t *nics = json_object_get(t->stats, "nics"), *nic;
	char labels[LABELS_LEN];
	const char *name;

	if (!json_object_size(nics))
		return;
	families(t, &up, 1, false, nics, "nic", "link");
	head(t, "elisa_nic_speed_bytes", false, "Speed of the link, in bytes a second.");
	json_object_foreach(nics, name, nic)
	{
		labels[0] = '\0';
		label(labels, "nic", name);
		sample(t, "elisa_nic_speed_bytes", false, labels,
		       value_of(json_object_get(nic, "link"), "speed_mbps") * 125000);
	}
	families(t, FAMILIES(nic_device), true, nics, "nic", "ethdev");
	families(t, FAMILIES(nic_counters), true, nics, "nic", NULL);
}

static void daemon_text(struct text *t)
{
	char labels[LABELS_LEN] = "";
	json_t *fdb = json_object_get(t->stats, "fdb");

	label(labels, "version", ELISA_VERSION);
	head(t, "elisa_build_info", false, "1; the daemon's version.");
	sample(t, "elisa_build_info", false, labels, 1);
	single(t, "elisa_uptime_seconds", false, "Since the daemon was started.",
	       value_of(t->stats, "uptime_s"));
	head(t, "elisa_start_time_seconds", false,
	     "From when on the switch's counters count, in seconds since 1970.");
	moment(t, "elisa_start_time_seconds", "", json_object_get(t->stats, "epoch"));
	single(t, "elisa_context_ready", false,
	       "1: there is a trusted context, so VMs can be attached.",
	       value_of(t->stats, "context"));
	single(t, "elisa_kills", true, "VMs killed for what they did inside.",
	       value_of(t->stats, "kills"));
	single(t, "elisa_fdb_capacity", false, "Addresses that the table can hold.",
	       value_of(fdb, "capacity"));
	single(t, "elisa_fdb_entries", false, "Addresses in the table.", value_of(fdb, "used"));
	single(t, "elisa_fdb_static_entries", false, "Static addresses among them.",
	       value_of(fdb, "static"));
	single(t, "elisa_fdb_learned", true, "Addresses learned.", value_of(fdb, "learned"));
	single(t, "elisa_fdb_moved", true, "Addresses that were seen at another port than before.",
	       value_of(fdb, "moved"));
	single(t, "elisa_fdb_aged", true, "Addresses forgotten because they were silent.",
	       value_of(fdb, "aged"));
	single(t, "elisa_fdb_full", true, "Addresses not learned because the table was full.",
	       value_of(fdb, "full"));
}

char *metrics_text(struct daemon *d, bool openmetrics, size_t *len)
{
	struct text t = {.openmetrics = openmetrics, .stats = stats_json(d, NULL)};
	char *text = NULL;

	t.f = open_memstream(&text, len);
	if (!t.f) {
		json_decref(t.stats);
		return NULL;
	}
	daemon_text(&t);
	ports_text(&t);
	vms_text(&t);
	nics_text(&t);
	if (openmetrics)
		fputs("# EOF\n", t.f);
	json_decref(t.stats);
	if (fclose(t.f)) {
		free(text);
		return NULL;
	}
	return text;
}
