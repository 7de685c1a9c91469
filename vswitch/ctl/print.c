/* SPDX-License-Identifier: BSD-3-Clause */
/* Results as people like to read them. */
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *joined(json_t *list)
{
	char text[512] = "";
	size_t used = 0, i;
	json_t *e;

	json_array_foreach(list, i, e)
	{
		if (used >= sizeof(text))
			break;
		if (json_is_string(e))
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s",
						 i ? ", " : "", json_string_value(e));
		else
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%lld",
						 i ? "," : "", (long long)json_integer_value(e));
	}
	return cell("%s", text);
}

/* "name 3, other 1" of an object of numbers. */
static const char *counted(json_t *o)
{
	char text[512] = "";
	const char *key;
	size_t used = 0;
	json_t *e;

	json_object_foreach(o, key, e)
	{
		if (used >= sizeof(text))
			break;
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s %lld",
					 used ? ", " : "", key, (long long)json_integer_value(e));
	}
	return cell("%s", text);
}

/* "1,2" of an array of objects with an id. */
static const char *ids(json_t *list)
{
	json_t *numbers = json_array(), *e;
	const char *text;
	size_t i;

	json_array_foreach(list, i, e) json_array_append(numbers, json_object_get(e, "id"));
	text = joined(numbers);
	json_decref(numbers);
	return text;
}

/* ---- status ---- */

static void print_module(json_t *module)
{
	if (!is(module, "present")) {
		printf("module       none: %s\n", str(module, "note"));
		return;
	}
	printf("module       revision %lld, %lld pages pinned%s%s\n", num(module, "revision"),
	       num(module, "pinned_pages"), is(module, "ready") ? "" : ": ",
	       is(module, "ready") ? "" : str(module, "note"));
	if (*str(module, "host_refusal"))
		printf("             no VM can be attached: %s: %s\n", str(module, "host_refusal"),
		       str(module, "host_refusal_text"));
}

static void print_memory(json_t *memory)
{
	json_t *arena = json_object_get(memory, "arena");
	long long page = num(arena, "page");

	printf("memory       %lld MiB in pages of %lld KiB%s\n", num(arena, "bytes") >> 20, page >> 10,
	       is(arena, "fallback") ? " (fallback: hugepages are missing, see doctor)" : "");
}

void print_status(json_t *r)
{
	json_t *local = json_object_get(r, "local"), *fdb = json_object_get(r, "fdb");
	json_t *vms = json_object_get(r, "vms"), *vm;
	json_t *bell = json_object_get(r, "doorbell");
	const char *key;
	struct table *t;

	printf("daemon       %s, pid %lld, up %lld s, generation %08llx\n", str(r, "version"),
	       num(r, "pid"), num(r, "uptime_s"), num(r, "generation"));
	print_module(json_object_get(r, "module"));
	print_memory(json_object_get(r, "memory"));
	if (is(local, "enabled"))
		printf("local        %s, %lld clients (no isolation)\n", str(local, "socket"),
		       num(local, "clients"));
	else
		printf("local        off%s%s\n", *str(local, "note") ? ": " : "",
		       str(local, "note"));
	if (is(bell, "enabled"))
		printf("doorbells    %s, %lld connected, %lld of before a restart, %lld vectors "
		       "each, "
		       "rung %lld times for others\n",
		       str(bell, "socket"), num(bell, "connected"), num(bell, "kept"),
		       num(bell, "vectors"), num(bell, "rings"));
	else
		printf("doorbells    off\n");
	print_nics_short(json_object_get(r, "nics"));
	printf("ports        %lld of %lld\n", num(r, "ports"), num(r, "max_ports"));
	printf("addresses    %lld of %lld\n", num(fdb, "used"), num(fdb, "capacity"));
	printf("kills        %lld\n", num(r, "kills"));
	if (!json_object_size(vms)) {
		printf("\nno VM: attach one with \"elisactl attach --pid PID\"\n");
		return;
	}
	putchar('\n');
	t = table_new("VM|STATE|TRANSPORT|>PID|>VCPUS|>ARMED|>INSIDE|DOORBELL|PORTS|NOTE");
	json_object_foreach(vms, key, vm)
		table_row(t, str(vm, "name"), str(vm, "state"), str(vm, "transport"),
			  num(vm, "pid") ? cell("%lld", num(vm, "pid")) : "-",
			  json_object_get(vm, "vcpus") ? cell("%lld", num(vm, "vcpus")) : "-",
			  json_object_get(vm, "armed") ? cell("%lld", num(vm, "armed")) : "-",
			  json_object_get(vm, "inside") ? cell("%lld", num(vm, "inside")) : "-",
			  or_dash(ids(json_object_get(vm, "doorbells"))),
			  or_dash(joined(json_object_get(vm, "ports"))), str(vm, "note"));
	table_print(t);
}

void print_attach(json_t *r)
{
	printf("%s (pid %lld) attached: %lld vCPUs, %lld armed, ports: %s\n", str(r, "name"),
	       num(r, "pid"), num(r, "vcpus"), num(r, "armed"),
	       or_dash(joined(json_object_get(r, "ports"))));
	if (*str(r, "note"))
		printf("note: %s\n", str(r, "note"));
}

void print_detach(json_t *r)
{
	printf("%s %s\n", str(r, "name"), str(r, "state"));
}

/* ---- ports ---- */

void print_ports(json_t *r)
{
	struct table *t = table_new("PORT|VM|LINK|UP|MAC|>MTU|>QUEUES|ANTI-SPOOF|GROUPS|TRANSPORT|"
				    "ORIGIN");
	const char *key;
	json_t *p;

	json_object_foreach(json_object_get(r, "ports"), key, p) table_row(
		t, str(p, "name"),
		*str(p, "bound_to") ? str(p, "bound_to")
		: *str(p, "vm")	    ? cell("(%s)", str(p, "vm"))
				    : "-",
		is(p, "link") ? "up" : "down", is(p, "up") ? "yes" : "no", str(p, "mac"),
		cell("%lld", num(p, "mtu")), cell("%lld", num(p, "queues")),
		is(p, "anti_spoof") ? "on" : "off", joined(json_object_get(p, "groups")),
		str(p, "transport"), is(p, "deleting") ? "being deleted" : str(p, "origin"));
	table_print(t);
}

/* "tx_bytes 1000 (burst_tx_bytes 10), ..." */
static void print_rates(const char *head, json_t *rates)
{
	const char *key, *between = "";
	json_t *rate;

	if (!json_object_size(rates))
		return;
	printf("%-11s ", head);
	json_object_foreach(rates, key, rate)
	{
		printf("%s%s %lld", between, key, (long long)json_integer_value(rate));
		between = ", ";
	}
	putchar('\n');
}

/* What is as usual is not shown. */
static void print_port_extras(json_t *p)
{
	json_t *vlan = json_object_get(p, "vlan"), *macs = json_object_get(p, "mac_limit");

	if (vlan && strcmp(str(vlan, "mode"), "none")) {
		printf("vlan        %s", str(vlan, "mode"));
		if (num(vlan, "pvid"))
			printf(", pvid %lld%s", num(vlan, "pvid"),
			       is(vlan, "native_tagged") ? " (tagged)" : "");
		if (*str(vlan, "allowed"))
			printf(", allowed %s", str(vlan, "allowed"));
		putchar('\n');
	}
	print_rates("rate", json_object_get(p, "rate"));
	print_rates("storm", json_object_get(p, "storm"));
	if (json_array_size(json_object_get(p, "no_flood")))
		printf("no flood    %s\n", joined(json_object_get(p, "no_flood")));
	if (num(macs, "addresses"))
		printf("mac limit   %lld%s\n", num(macs, "addresses"),
		       is(macs, "drop") ? ", drops what is above" : "");
}

/* By the clock as it was then; the age does not depend on that. */
static void print_epoch(json_t *epoch, const char *before)
{
	time_t s = (time_t)(num(epoch, "since_us") / 1000000);
	char stamp[32] = "";
	struct tm tm;

	if (!epoch)
		return;
	localtime_r(&s, &tm);
	strftime(stamp, sizeof(stamp), "%F %T", &tm);
	printf("%s%s (%lld s), generation %08llx\n", before, stamp, num(epoch, "age_s"),
	       num(epoch, "generation"));
}

void print_port(json_t *p)
{
	json_t *bell = json_object_get(p, "doorbell");

	printf("port        %s\n", str(p, "name"));
	printf("transport   %s\n", str(p, "transport"));
	printf("vm          %s\n", or_dash(str(p, "vm")));
	printf("bound to    %s\n", or_dash(str(p, "bound_to")));
	printf("link        %s\n", is(p, "link") ? "up" : "down");
	printf("up          %s\n", is(p, "up") ? "yes" : "no");
	printf("mac         %s\n", str(p, "mac"));
	printf("mtu         %lld\n", num(p, "mtu"));
	printf("queues      %lld\n", num(p, "queues"));
	printf("anti-spoof  %s\n", is(p, "anti_spoof") ? "on" : "off");
	printf("groups      %s\n", joined(json_object_get(p, "groups")));
	if (*str(p, "uplink"))
		printf("uplink      %s\n", str(p, "uplink"));
	print_port_extras(p);
	if (num(bell, "id"))
		printf("doorbell    %lld, vectors %lld to %lld\n", num(bell, "id"),
		       num(bell, "vector"), num(bell, "vector") + num(bell, "vectors") - 1);
	else
		printf("doorbell    %s\n", or_dash(str(bell, "note")));
	printf("origin      %s\n", str(p, "origin"));
	print_epoch(json_object_get(p, "epoch"), "counts      since ");
}

void print_deleted(json_t *r)
{
	printf("port %s %s\n", str(r, "name"), str(r, "state"));
}

/* ---- addresses ---- */

void print_fdb(json_t *r)
{
	struct table *t = table_new("MAC|>VID|PORT|KIND|>AGE");
	json_t *e;
	size_t i;

	json_array_foreach(json_object_get(r, "entries"), i, e)
		table_row(t, str(e, "mac"), num(e, "vid") ? cell("%lld", num(e, "vid")) : "-",
			  str(e, "port"), is(e, "static") ? "static" : "learned",
			  is(e, "static") ? "-" : cell("%lld s", num(e, "age_s")));
	table_print(t);
	printf("%lld of %lld addresses\n", num(r, "used"), num(r, "capacity"));
}

void print_mirrors(json_t *r)
{
	struct table *t = table_new("PORT|TO|WHAT|>SNAP|ORIGIN");
	json_t *m;
	size_t i;

	json_array_foreach(json_object_get(r, "mirrors"), i, m)
		table_row(t, str(m, "port"), str(m, "to"), joined(json_object_get(m, "what")),
			  num(m, "snap") ? cell("%lld", num(m, "snap")) : "all", str(m, "origin"));
	table_print(t);
}

static void print_lines(json_t *list, const char *before)
{
	json_t *line;
	size_t i;

	json_array_foreach(list, i, line) printf("%s%s\n", before, json_string_value(line));
}

void print_reload(json_t *r)
{
	json_t *changed = json_object_get(r, "changed");
	bool check = !strcmp(str(r, "outcome"), "checked");

	print_lines(changed, "");
	print_lines(json_object_get(r, "errors"), "failed: ");
	print_lines(json_object_get(r, "restart_needed"), "needs a restart: ");
	printf("%s: %s%zu changes\n", str(r, "configuration"), check ? "good, would make " : "",
	       json_array_size(changed));
}

void print_saved(json_t *r)
{
	const char *name;
	json_t *e;
	char *text;
	size_t i;

	json_object_foreach(json_object_get(r, "ports"), name, e)
	{
		text = json_is_null(e) ? NULL : json_dumps(e, JSON_COMPACT);
		printf("port %s: %s\n", name, text ? text : "deleted");
		free(text);
	}
	json_array_foreach(json_object_get(r, "fdb"), i, e)
		printf("address %s of VLAN %lld: %s\n", str(e, "mac"), num(e, "vid"),
		       is(e, "deleted") ? "deleted" : cell("at port %s", str(e, "port")));
	json_array_foreach(json_object_get(r, "mirrors"), i, e)
		printf("mirror of port %s to %s: %s\n", str(e, "port"), str(e, "to"),
		       is(e, "deleted") ? "deleted" : joined(json_object_get(e, "what")));
	printf("in %s\n", str(r, "file"));
}

void print_forgotten(json_t *r)
{
	printf("%lld forgotten; \"elisactl reload\" makes it so\n", num(r, "forgotten"));
}

void print_flushed(json_t *r)
{
	printf("%lld addresses forgotten\n", num(r, "flushed"));
}

void print_nothing(json_t *r)
{
	(void)r;
}

/* ---- counters ---- */

static void print_queues(json_t *ports)
{
	struct table *t = table_new("PORT|>QUEUE|SET UP|>TX RING|>RX RING|>RX FREE|>TX FRAMES|"
				    ">RX FRAMES|DROPS");
	const char *key;
	json_t *p, *q;
	size_t j;

	json_object_foreach(ports, key, p) json_array_foreach(json_object_get(p, "queues"), j, q)
		table_row(t, str(p, "name"), cell("%lld", num(q, "queue")),
			  is(q, "set_up") ? "yes" : "no", cell("%lld", num(q, "tx_size")),
			  cell("%lld", num(q, "rx_size")),
			  cell("%lld", (long long)(unsigned int)(num(q, "rx_posted") -
								 num(q, "rx_reserved"))),
			  cell("%lld", num(q, "tx_frames")), cell("%lld", num(q, "rx_frames")),
			  counted(json_object_get(q, "drops")));
	putchar('\n');
	table_print(t);
}

static void print_vms(json_t *vms)
{
	struct table *t;
	const char *key;
	json_t *vm, *sum;

	if (!json_object_size(vms))
		return;
	t = table_new("VM|TRANSPORT|>CALLS|>EXITS|>EXITS IN GATE|>IN SWITCH|>PARKED|>DELIVERED|"
		      "INSIDE BY REASON");
	json_object_foreach(vms, key, vm)
	{
		sum = json_object_get(vm, "totals");
		table_row(t, str(vm, "name"), str(vm, "transport"), cell("%lld", num(sum, "calls")),
			  cell("%lld", num(sum, "exits")), cell("%lld", num(sum, "exits_gate")),
			  cell("%lld", num(sum, "exits_trusted")), cell("%lld", num(sum, "parked")),
			  cell("%lld", num(sum, "delivered")),
			  counted(json_object_get(sum, "inside_by_reason")));
	}
	putchar('\n');
	table_print(t);
}

void print_stats(json_t *r)
{
	struct table *t =
		table_new("PORT|TRANSPORT|>TX FRAMES|>TX BYTES|>RX FRAMES|>RX BYTES|>CALLS|"
			  ">FLOODED|DROPS");
	json_t *ports = json_object_get(r, "ports"), *fdb = json_object_get(r, "fdb"), *p;
	const char *key;

	json_object_foreach(ports, key, p)
		table_row(t, str(p, "name"), str(p, "transport"), cell("%lld", num(p, "tx_frames")),
			  cell("%lld", num(p, "tx_bytes")), cell("%lld", num(p, "rx_frames")),
			  cell("%lld", num(p, "rx_bytes")), cell("%lld", num(p, "tx_calls")),
			  cell("%lld", num(p, "tx_flooded")), counted(json_object_get(p, "drops")));
	table_print(t);
	print_queues(ports);
	print_vms(json_object_get(r, "vms"));
	if (fdb)
		printf("\naddresses: %lld of %lld used, %lld static; %lld learned, %lld moved, "
		       "%lld aged, "
		       "%lld times full\n",
		       num(fdb, "used"), num(fdb, "capacity"), num(fdb, "static"),
		       num(fdb, "learned"), num(fdb, "moved"), num(fdb, "aged"), num(fdb, "full"));
	if (json_object_get(r, "epoch"))
		print_epoch(json_object_get(r, "epoch"), "counters: since ");
	else /* of one port */
		json_object_foreach(ports, key, p)
			print_epoch(json_object_get(p, "epoch"), "\ncounters: since ");
}

/* ---- doctor ---- */

static const char *coloured(const char *level)
{
	if (!isatty(STDOUT_FILENO))
		return cell("%-4s", level);
	return cell("\033[%sm%-4s\033[0m",
		    !strcmp(level, "ok")     ? "32"
		    : !strcmp(level, "warn") ? "33"
					     : "31",
		    level);
}

void print_doctor(json_t *r)
{
	json_t *f;
	size_t i;

	json_array_foreach(json_object_get(r, "findings"), i, f)
	{
		printf("%s  %-7s %s\n", coloured(str(f, "level")), str(f, "check"), str(f, "text"));
		if (*str(f, "fix"))
			printf("              -> %s\n", str(f, "fix"));
	}
	printf("%lld failed, %lld warnings\n", num(r, "fail"), num(r, "warn"));
}

void print_metrics(json_t *result)
{
	fputs(str(result, "text"), stdout);
}
