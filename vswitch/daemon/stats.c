/* SPDX-License-Identifier: BSD-3-Clause */
/* All counters there are, as JSON. Zero counters by reason are left out; a missing one is zero. */
#include "daemon.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static json_t *count(uint64_t n)
{
	return json_integer((json_int_t)n);
}

void epoch_begin(struct epoch *epoch, uint32_t generation)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	epoch->since_us = (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec / 1000;
	epoch->at_us = now_us();
	epoch->generation = generation;
}

json_t *epoch_json(const struct epoch *epoch)
{
	const time_t s = (time_t)(epoch->since_us / SEC);
	char day[32] = "", text[48];
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(day, sizeof(day), "%FT%T", &tm);
	snprintf(text, sizeof(text), "%s.%06uZ", day, (unsigned int)(epoch->since_us % SEC));
	return json_pack("{s:s, s:I, s:I, s:I}", "since", text, "since_us",
			 (json_int_t)epoch->since_us, "age_s",
			 (json_int_t)((now_us() - epoch->at_us) / SEC), "generation",
			 (json_int_t)epoch->generation);
}

static json_t *drops_json(const uint64_t *drops)
{
	json_t *json = json_object();

	for (unsigned int i = 0; i < ELISA_DROP_COUNT; i++)
		if (drops[i])
			json_object_set_new(json, vs_drop_name(i), count(drops[i]));
	return json;
}

static json_t *queue_json(unsigned int index, const struct vs_queue_info *q)
{
	json_t *json = json_pack("{s:i, s:b, s:i, s:i, s:i, s:I, s:I}", "queue", (int)index,
				 "set_up", (int)q->set_up, "tx_size", (int)q->tx_size, "rx_size",
				 (int)q->rx_size, "rx_buf_len", (int)q->rx_buf_len, "rx_reserved",
				 (json_int_t)q->rx_reserved, "rx_posted", (json_int_t)q->rx_posted);

	json_object_set_new(json, "features", json_integer(q->features));
	json_object_set_new(json, "tx_frames", count(q->tx_frames));
	json_object_set_new(json, "tx_bytes", count(q->tx_bytes));
	json_object_set_new(json, "rx_frames", count(q->rx_frames));
	json_object_set_new(json, "rx_bytes", count(q->rx_bytes));
	json_object_set_new(json, "drops", drops_json(q->drops));
	return json;
}

static json_t *port_stats(struct daemon *d, struct port *port)
{
	struct elisa_port_counters c;
	struct vs_port_info info;
	struct vs_queue_info q;
	json_t *json, *queues = json_array();

	memset(&c, 0, sizeof(c));
	vs_port_counters(d->vs, port->id, &c);
	json = json_pack("{s:s, s:s, s:s}", "name", port->set.vs.name, "transport",
			 port_transport(port), "bound_to",
			 port->guest ? port->guest->name : "");
	json_object_set_new(
		json, "link",
		json_boolean(!vs_port_info(d->vs, port->id, &info) && info.link));
	json_object_set_new(json, "epoch", epoch_json(&port->epoch));
	json_object_set_new(json, "tx_frames", count(c.tx_frames));
	json_object_set_new(json, "tx_bytes", count(c.tx_bytes));
	json_object_set_new(json, "rx_frames", count(c.rx_frames));
	json_object_set_new(json, "rx_bytes", count(c.rx_bytes));
	json_object_set_new(json, "tx_unicast", count(c.tx_unicast));
	json_object_set_new(json, "tx_multicast", count(c.tx_multicast));
	json_object_set_new(json, "tx_broadcast", count(c.tx_broadcast));
	json_object_set_new(json, "tx_flooded", count(c.tx_flooded));
	json_object_set_new(json, "tx_calls", count(c.tx_calls));
	json_object_set_new(json, "tx_csum", count(c.tx_csum));
	json_object_set_new(json, "tx_segmented", count(c.tx_segmented));
	json_object_set_new(json, "tx_segments", count(c.tx_segments));
	json_object_set_new(json, "tx_bells", count(c.tx_bells));
	json_object_set_new(json, "drops", drops_json(c.drops));
	for (unsigned int i = 0; i < port->set.vs.queues; i++)
		if (!vs_port_queue(d->vs, port->id, i, &q))
			json_array_append_new(queues, queue_json(i, &q));
	json_object_set_new(json, "queues", queues);
	return json;
}

static json_t *reasons_json(const __u64 *by)
{
	json_t *json = json_object();

	for (uint32_t i = 0; i < ELISA_EXIT_REASONS; i++) {
		const char *name = elisa_exit_reason_name(i);
		json_t *before;

		if (!by[i])
			continue;
		before = json_object_get(json, name); /* unnamed ones share a name */
		json_object_set_new(json, name,
				    count(by[i] + (uint64_t)json_integer_value(before)));
	}
	return json;
}

static void vcpu_module(json_t *json, const struct elisa_vcpu_stats *st)
{
	json_object_set_new(json, "armed", json_boolean(st->armed));
	json_object_set_new(json, "entries", count(st->entries));
	json_object_set_new(json, "exits", count(st->exits));
	json_object_set_new(json, "exits_gate", count(st->exits_gate));
	json_object_set_new(json, "exits_trusted", count(st->exits_trusted));
	json_object_set_new(json, "inside_by_reason", reasons_json(st->inside_by_reason));
	json_object_set_new(json, "by_reason", reasons_json(st->by_reason));
	json_object_set_new(json, "parked", count(st->parked));
	json_object_set_new(json, "delivered", count(st->delivered));
	json_object_set_new(json, "coalesced", count(st->coalesced));
	json_object_set_new(json, "root_changes", count(st->root_changes));
	json_object_set_new(json, "unarmed_entries", count(st->unarmed_entries));
	json_object_set_new(json, "unarmed_last", count(st->unarmed_last));
	json_object_set_new(json, "invvpid", count(st->invvpid));
	json_object_set_new(json, "kills", count(st->kills));
}

static void add_reasons(json_t *totals, const json_t *by)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)by, name, value)
		json_object_set_new(totals, name,
				    json_integer(json_integer_value(json_object_get(totals, name)) +
						 json_integer_value(value)));
}

/* Sums over the vCPUs of what one wants to know first. */
static void vm_totals(json_t *vm, const json_t *vcpus)
{
	static const char *const keys[] = {"calls",  "exits",	  "exits_gate", "exits_trusted",
					   "parked", "delivered", "kills"};
	json_t *totals = json_object(), *inside = json_object(), *vcpu;
	size_t i;

	for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
		json_int_t sum = 0;

		json_array_foreach(vcpus, i, vcpu) sum +=
			json_integer_value(json_object_get(vcpu, keys[k]));
		json_object_set_new(totals, keys[k], json_integer(sum));
	}
	json_array_foreach(vcpus, i, vcpu)
		add_reasons(inside, json_object_get(vcpu, "inside_by_reason"));
	json_object_set_new(totals, "inside_by_reason", inside);
	json_object_set_new(vm, "totals", totals);
}

static json_t *vm_stats(struct guest *g)
{
	json_t *vm = json_pack("{s:s, s:i, s:s, s:s}", "name", g->name, "pid", (int)g->pid,
			       "transport", guest_transport(g), "state", guest_state_name(g));
	json_t *vcpus = json_array(), *vcpu;
	struct elisa_vcpu_stats st;

	for (unsigned int i = 0; i < g->caller_count; i++) {
		if (!g->callers[i].vs)
			continue;
		vcpu = json_pack("{s:i, s:I}", g->local ? "thread" : "vcpu", (int)i, "calls",
				 (json_int_t)vs_caller_calls(g->callers[i].vs));
		if (g->vm && !elisa_vm_stats(g->vm, i, &st))
			vcpu_module(vcpu, &st);
		json_array_append_new(vcpus, vcpu);
	}
	vm_totals(vm, vcpus);
	json_object_set_new(vm, g->local ? "threads" : "vcpus", vcpus);
	return vm;
}

json_t *stats_json(struct daemon *d, const char *only)
{
	json_t *ports = json_object(), *vms = json_object(), *json;
	struct vs_fdb_stats fdb;
	struct port *port;
	struct guest *g;

	TAILQ_FOREACH(port, &d->ports, link)
	if (!only || !strcmp(port->set.vs.name, only))
		object_add(ports, port->set.vs.name, port_stats(d, port));
	if (only) {
		json_decref(vms);
		return json_pack("{s:o}", "ports", ports);
	}
	TAILQ_FOREACH(g, &d->guests, link)
	object_add(vms, g->name, vm_stats(g));
	fdb_stats(d, &fdb);
	json = json_pack("{s:I, s:o, s:o}", "generation", (json_int_t)d->generation, "ports", ports,
			 "vms", vms);
	json_object_set_new(json, "epoch", epoch_json(&d->epoch));
	json_object_set_new(json, "uptime_s", count((now_us() - d->started) / SEC));
	json_object_set_new(json, "context", json_boolean(d->ctx));
	json_object_set_new(json, "kills", count(d->kills));
	json_object_set_new(json, "fdb",
			    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "capacity",
				      (json_int_t)fdb.capacity, "used", (json_int_t)fdb.used,
				      "static", (json_int_t)fdb.statics, "learned",
				      (json_int_t)fdb.learned, "moved", (json_int_t)fdb.moved,
				      "aged", (json_int_t)fdb.aged, "full", (json_int_t)fdb.full));
	json_object_set_new(json, "nics", nics_json(d, NULL));
	json_object_set_new(json, "module", module_json(d));
	return json;
}
