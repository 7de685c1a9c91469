/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>
#include "script.h"

const char *const s_class_name[S_CLASSES] = {"plain"};

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t next(struct script *s)
{
	uint64_t x = s->random += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static unsigned int below(struct script *s, unsigned int n)
{
	return (unsigned int)(next(s) % n);
}

static bool chance(struct script *s, unsigned int percent)
{
	return below(s, 100) < percent;
}

/* ---- ports ---- */

static struct s_port random_port(struct script *s)
{
	struct s_port p = {.up = chance(s, 95), .isolated = chance(s, 20)};

	return p;
}

static void random_mac(struct script *s, uint8_t mac[6])
{
	uint64_t x = next(s);

	memcpy(mac, &x, 6);
	/* 0e: is what the devices of the real bridge have, which nobody plays here. */
	mac[0] = chance(s, 70) ? 0x02 : (uint8_t)(0x10 | (mac[0] & 0xe0));
}

void script_begin(struct script *s, uint64_t seed, unsigned int topology, unsigned int classes)
{
	static const uint16_t vids[S_VIDS] = {1, 2, 3, 10, 11, 100, 1023, 1024, 4093, 4094};

	*s = (struct script){.random = seed * 0x10001 + topology, .topology = topology};
	next(s);
	do {
		s->class = (enum s_class)below(s, S_CLASSES);
	} while (!(classes >> s->class & 1));
	s->ports = 2 + below(s, S_PORTS - 1);
	s->frames = 700 + below(s, 600);
	for (unsigned int i = 0; i < S_MACS; i++)
		random_mac(s, s->mac[i]);
	for (unsigned int i = 0; i < S_VIDS; i++)
		s->vid[i] = vids[i];
	for (unsigned int i = 0; i < s->ports; i++)
		s->port[i] = random_port(s);
}

static void change_port(struct script *s, struct s_op *op)
{
	op->kind = S_SET;
	op->set = s->port[op->port] = random_port(s);
}

static void change_fdb(struct script *s, struct s_op *op)
{
	struct s_static *f = &s->fixed[below(s, S_STATICS)];

	op->kind = f->used ? S_FDB_DEL : S_FDB_ADD;
	if (!f->used) {
		memcpy(f->mac, s->mac[below(s, S_MACS)], 6);
		f->vid = 0;
		/* The same address twice: that moves it, and it is gone with the first deletion. */
		for (unsigned int i = 0; i < S_STATICS; i++)
			if (s->fixed[i].used && s->fixed[i].vid == f->vid &&
			    !memcmp(s->fixed[i].mac, f->mac, 6))
				s->fixed[i].used = false;
	}
	f->used = op->kind == S_FDB_ADD;
	if (f->used)
		f->port = op->port;
	op->port = f->port;
	memcpy(op->mac, f->mac, 6);
	op->vid = f->vid;
}

static void change(struct script *s, struct s_op *op)
{
	op->port = below(s, s->ports);
	s->repeat = 0;
	if (chance(s, 45))
		change_port(s, op);
	else if (chance(s, 75))
		change_fdb(s, op);
	else
		op->kind = S_FLUSH;
}

/* ---- frames ---- */

static void put16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void random_source(struct script *s, uint8_t *mac)
{
	unsigned int mine = below(s, (S_MACS - 2 + s->ports - 1 - s->from) / s->ports);

	if (chance(s, 90))
		memcpy(mac, s->mac[s->from + mine * s->ports], 6);
	else if (chance(s, 80))
		memcpy(mac, s->mac[below(s, S_MACS - 2)], 6);
	else
		random_mac(s, mac);
	if (chance(s, 1))
		mac[0] |= 1;
	if (chance(s, 1))
		memset(mac, 0, 6);
}

static void random_destination(struct script *s, uint8_t *mac)
{
	unsigned int kind = below(s, 100);

	if (kind < 65)
		memcpy(mac, s->mac[below(s, S_MACS)], 6);
	else if (kind < 70)
		random_mac(s, mac);
	else if (kind < 86)
		memset(mac, 0xff, 6);
	else
		random_mac(s, mac), mac[0] |= 1;
}

static unsigned int random_tci(struct script *s)
{
	unsigned int vid = s->vid[below(s, S_VIDS)];

	if (chance(s, 10))
		vid = 0;
	else if (chance(s, 3))
		vid = 4095;
	return (chance(s, 50) ? 0 : below(s, 16) << 12) | vid;
}

/* Returns its length: what every frame of a burst has in common. */
static unsigned int random_header(struct script *s, uint8_t *at)
{
	static const uint16_t types[] = {0x88b5, 0x88b5, 0x0800, 0x0806, 0x86dd, 0x0040, 0x8847};
	unsigned int len = 12, kind = below(s, 100);

	random_source(s, at + 6);
	random_destination(s, at);
	if (!memcmp(at, at + 6, 6))
		at[5] ^= 0x55;
	if (kind >= 50) {
		put16(at + len, kind < 95 ? 0x8100 : 0x88a8);
		put16(at + len + 2, random_tci(s));
		len += 4;
		if (chance(s, 20)) {
			put16(at + len, chance(s, 80) ? 0x8100 : 0x88a8);
			put16(at + len + 2, random_tci(s));
			len += 4;
		}
	}
	put16(at + len, types[below(s, 7)]);
	return len + 2;
}

static uint32_t random_len(struct script *s, const uint8_t *header)
{
	unsigned int kind = below(s, 100), tag = header[12] == 0x81 && !header[13] ? 4 : 0;

	if (kind < 60)
		return 30 + below(s, 100);
	if (kind < 90)
		return 128 + below(s, 500);
	return kind < 95 ? 1000 + below(s, 515) : 1514 + tag;
}

static void frame(struct script *s, struct s_op *op)
{
	uint64_t fill = next(s);

	if (s->repeat) {
		s->repeat--;
		if (chance(s, 40))
			s->header = random_header(s, s->last);
	} else {
		s->repeat = chance(s, 50) ? below(s, 40) : 0;
		s->from = below(s, s->ports);
		s->header = random_header(s, s->last);
	}
	op->kind = S_SEND;
	op->port = s->from;
	op->number = s->sent++;
	op->len = random_len(s, s->last);
	for (uint32_t i = 0; i < op->len; i += 8, fill += 0x0123456789abcdef)
		memcpy(op->frame + i, &fill, 8);
	memcpy(op->frame, s->last, s->header);
	memcpy(op->frame + op->len - 4, &op->number, 4);
}

bool script_next(struct script *s, struct s_op *op)
{
	if (s->begun < s->ports) {
		op->kind = S_SET;
		op->port = s->begun++;
		op->set = s->port[op->port];
	} else if (s->sent == s->frames) {
		return false;
	} else if (chance(s, 3)) {
		change(s, op);
	} else {
		frame(s, op);
	}
	return true;
}

void script_print_port(unsigned int index, const struct s_port *p)
{
	static const char *const mode[] = {"none", "access", "trunk", "qinq"};

	printf("  port %u: %s%s, floods off %u, %s, pvid %u%s, allowed", index,
	       p->up ? "up" : "down", p->isolated ? ", isolated" : "", p->flood_off, mode[p->mode],
	       p->pvid, p->native_tagged ? " tagged" : "");
	for (unsigned int i = 0; i < p->vids; i++)
		printf(" %u", p->vid[i]);
	printf("\n");
}

void script_print(const struct script *s)
{
	printf("topology %u (%s), %u ports:\n", s->topology, s_class_name[s->class], s->ports);
	for (unsigned int i = 0; i < s->ports; i++)
		script_print_port(i, &s->port[i]);
	for (unsigned int i = 0; i < S_STATICS; i++)
		if (s->fixed[i].used)
			printf("  static address %02x:..:%02x, VID %u\n", s->fixed[i].mac[0],
			       s->fixed[i].mac[5], s->fixed[i].vid);
}
