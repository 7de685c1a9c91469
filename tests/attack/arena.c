/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See run.h: what the switch keeps in memory that all callers can write, the arena, and that no call
 * of a guest may change: whose memory is where, who may send what to whom, where the victims' rings
 * are. What calls do change (rings' state, counters, the table of addresses) is left out.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vswitch/vswitch.h>

#include "run.h"
#include "internal.h"
#include "../vmx/tap.h"

#define ARENA_FILE "/memfd:elisa-vswitch"

static struct vswitch *vs;
static size_t vs_len;

/* Where process `pid` has it, as its structures point into it. */
static int find_mapping(int pid, uintptr_t *start, uintptr_t *end)
{
	char path[64], line[256];
	int rc = -ENOENT;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && rc && fgets(line, sizeof(line), f))
		if (strstr(line, ARENA_FILE) && sscanf(line, "%lx-%lx", start, end) == 2)
			rc = 0;
	if (f)
		fclose(f);
	return rc;
}

int arena_open(void)
{
	json_t *status = elisactl_json("status");
	int pid = (int)json_integer_value(json_object_get(status, "pid"));
	uintptr_t start = 0, end = 0;
	int rc = find_mapping(pid, &start, &end), fd;
	void *at;

	json_decref(status);
	if (vs)
		munmap(vs, vs_len);
	vs = NULL;
	fd = rc ? -1 : open_memfd(pid, ARENA_FILE);
	if (fd < 0)
		return rc ?: fd;
	at = mmap((void *)start, end - start, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	rc = at == MAP_FAILED ? -errno : 0;
	close(fd);
	if (rc)
		return rc;
	vs = at;
	vs_len = end - start;
	return 0;
}

/* FNV-1a. */
static uint64_t hash(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3;
	return h;
}

#define HASH_START 0xcbf29ce484222325

static void add(struct arena_print *p, uint64_t h, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void add(struct arena_print *p, uint64_t h, const char *fmt, ...)
{
	va_list args;

	if (p->count == ARENA_PARTS) {
		note("the switch's memory has more than %u parts: raise ARENA_PARTS", ARENA_PARTS);
		abort();
	}
	va_start(args, fmt);
	vsnprintf(p->part[p->count].what, sizeof(p->part[0].what), fmt, args);
	va_end(args);
	p->part[p->count++].hash = h;
}

#define HASH_TO(h, object, member) hash(h, object, offsetof(typeof(*(object)), member))
#define HASH_FROM_TO(h, object, from, to)                                               \
	hash(h, (const uint8_t *)(object) + offsetof(typeof(*(object)), from),           \
	     offsetof(typeof(*(object)), to) - offsetof(typeof(*(object)), from))

/* By the host's settings, whoever is attached; `whole`: also what its own guest has set. */
static void add_port(struct arena_print *p, const struct vs_port *port, bool whole)
{
	uint64_t h = HASH_FROM_TO(HASH_START, port, key, features);

	h = hash(h, &port->id, sizeof(port->id));
	h = hash(h, &port->anti_spoof, sizeof(port->anti_spoof));
	h = hash(h, &port->queues, sizeof(port->queues));
	h = HASH_FROM_TO(h, port, bell, rss);
	h = HASH_FROM_TO(h, port, allowed, bucket.tokens);
	add(p, hash(h, &port->config, sizeof(port->config)), "port %s", port->config.name);
	if (!whole)
		return;
	h = hash(HASH_START, &port->guest, sizeof(port->guest));
	h = hash(h, &port->features, sizeof(port->features));
	h = hash(h, port->rx_map, sizeof(port->rx_map));
	add(p, HASH_FROM_TO(h, port, rss, allowed), "port %s's modes", port->config.name);
	for (unsigned int q = 0; q < port->queues; q++) {
		const struct vs_tx *tx = &port->queue[q].tx;
		const struct vs_rx *rx = &port->queue[q].rx;

		h = HASH_FROM_TO(HASH_START, tx, guest, next);
		h = hash(h, &rx->ring, sizeof(*rx) - offsetof(struct vs_rx, ring));
		add(p, h, "port %s's queue %u", port->config.name, q);
	}
}

static bool is_victims(const struct vs_guest *g, const struct watched *victims)
{
	return g && (!strcmp(g->name, victims[0].name) || !strcmp(g->name, victims[1].name));
}

void arena_take(const struct watched *victims, struct arena_print *p)
{
	*p = (struct arena_print){ 0 };
	add(p, hash(HASH_TO(HASH_START, vs, fdb.cursor), &vs->mask, sizeof(vs->mask)), "the switch");
	for (uint32_t i = 0; i < vs->config.guests; i++)
		if (vs->guests[i].used && is_victims(&vs->guests[i], victims))
			add(p, HASH_TO(HASH_START, &vs->guests[i], used), "guest %s",
			    vs->guests[i].name);
	for (uint32_t i = 0; i < vs->ports_high; i++)
		if (vs->ports[i].used)
			add_port(p, &vs->ports[i], is_victims(vs->ports[i].guest, victims));
}

unsigned int arena_compare(const struct arena_print *a, const struct arena_print *b)
{
	unsigned int bad = 0;

	if (a->count != b->count) {
		note("the switch's memory: %u parts, not %u", b->count, a->count);
		return 1;
	}
	for (unsigned int i = 0; i < a->count; i++) {
		if (a->part[i].hash == b->part[i].hash && !strcmp(a->part[i].what, b->part[i].what))
			continue;
		note("the switch's memory: %s has changed", a->part[i].what);
		bad++;
	}
	return bad;
}

/* Of a field that nobody looks at meanwhile: the last letter of a long name. */
void arena_flip(void)
{
	vs->ports[0].config.name[VS_NAME_LEN - 2] ^= 1;
}
