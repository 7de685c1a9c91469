/* SPDX-License-Identifier: BSD-3-Clause */
/* NICs, for people. */
#include "ctl.h"

#include <stdio.h>
#include <string.h>

static const char *speed(json_t *link)
{
	long long mbps = num(link, "speed_mbps");

	if (!is(link, "up"))
		return "down";
	return mbps ? cell("up, %lld Mbit/s", mbps) : "up";
}

/* As it was wanted, and what came of it. */
static const char *served(json_t *n)
{
	const char *by = str(n, "served_by");

	return *str(n, "fallback") ? cell("%s (fallback)", by) : by;
}

/* A counter of one direction, over all queues. */
static long long sum(json_t *n, const char *half, const char *key)
{
	json_t *q, *queues = json_object_get(n, "queues");
	long long total = 0;
	size_t i;

	json_array_foreach(queues, i, q) total += num(json_object_get(q, half), key);
	return total;
}

void print_nics_short(json_t *nics)
{
	const char *key;
	json_t *n;

	json_object_foreach(nics, key, n)
		printf("nic          %s: %s, link %s, served by %s%s%s\n", key, str(n, "state"),
		       speed(json_object_get(n, "link")), served(n), *str(n, "note") ? ": " : "",
		       str(n, "note"));
}

void print_nics(json_t *r)
{
	json_t *nics = json_object_get(r, "nics"), *n, *eth;
	struct table *t;
	const char *key;

	if (!json_object_size(nics)) {
		printf("no NIC: name some in the configuration (nics)\n");
		return;
	}
	t = table_new(
		"NIC|DRIVER|DEVICES|STATE|LINK|SERVE|SERVED BY|>QUEUES|>IN|>OUT|>DROPS|>RESETS|"
		"NOTE");
	json_object_foreach(nics, key, n)
	{
		eth = json_object_get(n, "ethdev");
		table_row(t, key, or_dash(str(n, "driver")), joined(json_object_get(n, "devices")),
			  str(n, "state"), speed(json_object_get(n, "link")), str(n, "serve"),
			  served(n), cell("%zu", json_array_size(json_object_get(n, "queues"))),
			  cell("%lld", num(eth, "rx_frames")), cell("%lld", num(eth, "tx_frames")),
			  cell("%lld", num(eth, "rx_missed") + num(eth, "rx_no_mbuf") +
					       num(eth, "tx_full")),
			  cell("%lld", num(n, "resets")),
			  *str(n, "note") ? str(n, "note") : str(n, "fallback"));
	}
	table_print(t);
}

static void print_head(json_t *n)
{
	json_t *link = json_object_get(n, "link");

	printf("nic          %s\n", str(n, "name"));
	printf("driver       %s\n", or_dash(str(n, "driver")));
	printf("devices      %s\n", joined(json_object_get(n, "devices")));
	printf("state        %s%s%s\n", str(n, "state"), *str(n, "note") ? ": " : "",
	       str(n, "note"));
	printf("link         %s%s%s\n", speed(link), *str(link, "device") ? ", by " : "",
	       str(link, "device"));
	printf("mac          %s\n", str(n, "mac"));
	printf("mtu          %lld\n", num(n, "mtu"));
	printf("serve        %s\n", str(n, "serve"));
	printf("served by    %s\n", served(n));
	if (*str(n, "fallback"))
		printf("             guests may not run it: %s\n", str(n, "fallback"));
	printf("offloads     %s%s\n", or_dash(joined(json_object_get(n, "offloads"))),
	       is(n, "rx_csum") ? ", checks what it receives" : "");
	printf("addresses    %s\n", is(n, "promiscuous") ? "all (promiscuous)"
				    : num(n, "filters") < 0
					    ? "-"
					    : cell("%lld filters", num(n, "filters")));
	printf("resets       %lld", num(n, "resets"));
	if (num(n, "resets"))
		printf(", the last in %.1f ms",
		       json_real_value(json_object_get(n, "last_reset_ms")));
	printf("\nlost buffers %lld\n", num(n, "lost_buffers"));
}

static void print_halves(json_t *n)
{
	struct table *t =
		table_new(">QUEUE|DIRECTION|>CALLS BY GUESTS|>BY DAEMON|>FRAMES BY GUESTS|"
			  ">BY DAEMON|>FOUND TAKEN|HELD BY");
	static const char *const half[2] = {"rx", "tx"};
	json_t *q, *h;
	size_t i;

	json_array_foreach(json_object_get(n, "queues"), i, q)
	{
		for (unsigned int k = 0; k < 2; k++) {
			h = json_object_get(q, half[k]);
			table_row(t, cell("%lld", num(q, "queue")), k ? "to the NIC" : "from it",
				  cell("%lld", num(h, "calls_guest")),
				  cell("%lld", num(h, "calls_daemon")),
				  cell("%lld", num(h, "frames_guest")),
				  cell("%lld", num(h, "frames_daemon")),
				  cell("%lld", num(h, "busy")),
				  is(h, "dirty") ? cell("%s (dead)", str(h, "owner"))
						 : or_dash(str(h, "owner")));
		}
	}
	putchar('\n');
	table_print(t);
	printf("by guests: %lld frames in, %lld out; by the daemon: %lld in, %lld out\n",
	       sum(n, "rx", "frames_guest"), sum(n, "tx", "frames_guest"),
	       sum(n, "rx", "frames_daemon"), sum(n, "tx", "frames_daemon"));
}

static void print_one(json_t *n)
{
	json_t *eth = json_object_get(n, "ethdev"), *value;
	struct table *t = table_new("DEVICE COUNTS|>NUMBER");
	const char *key;

	print_head(n);
	print_halves(n);
	json_object_foreach(eth, key, value)
		table_row(t, key, cell("%lld", (long long)json_integer_value(value)));
	putchar('\n');
	table_print(t);
}

void print_nic(json_t *r)
{
	const char *key;
	json_t *n;

	json_object_foreach(json_object_get(r, "nics"), key, n) print_one(n);
}

void print_nic_check(json_t *n)
{
	printf("%s: serve %s, served by %s\n", str(n, "name"), str(n, "serve"), served(n));
	if (!is(n, "checked")) {
		printf("not checked%s%s: that is done for serve = \"guest\", with a trusted "
		       "context\n",
		       *str(n, "fallback") ? ": " : "", str(n, "fallback"));
		return;
	}
	printf("%lld findings, longest call %lld instructions, %lld bytes of stack; %lld frames "
	       "sent, "
	       "%lld received\n",
	       num(n, "findings"), num(n, "longest_call"), num(n, "stack"), num(n, "sent"),
	       num(n, "received"));
	if (*str(n, "why"))
		printf("refused: %s\n", str(n, "why"));
	printf("%s", str(n, "text"));
}
