/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>
#include "script.h"

const char *const s_class_name[S_CLASSES] = {
	"plain", "flood", "vlan", "mixed", "qinq", "mirror", "rate", "storm",
};

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

static uint8_t random_mode(struct script *s, unsigned int index)
{
	switch (s->class) {
	case S_VLAN:
		return chance(s, 35) ? VS_VLAN_ACCESS : VS_VLAN_TRUNK;
	case S_QINQ:
		return chance(s, 50)   ? VS_VLAN_QINQ
		       : chance(s, 30) ? VS_VLAN_ACCESS
				       : VS_VLAN_TRUNK;
	case S_MIXED: /* whether it knows VLANs stays as it is */
		if (index % 3 == s->topology % 3)
			return VS_VLAN_NONE;
		return chance(s, 50) ? VS_VLAN_ACCESS : VS_VLAN_TRUNK;
	default:
		return VS_VLAN_NONE;
	}
}

static void random_vlans(struct script *s, struct s_port *p)
{
	if (p->mode == VS_VLAN_NONE)
		return;
	if (p->mode != VS_VLAN_TRUNK || chance(s, 60))
		p->pvid = s->vid[below(s, S_VIDS)];
	if (p->mode != VS_VLAN_TRUNK)
		return;
	p->native_tagged = p->pvid && chance(s, 25);
	for (unsigned int i = 0; i < S_VIDS; i++)
		if (chance(s, 50))
			p->vid[p->vids++] = s->vid[i];
}

/* Limits that are there stay as they are, or go; those that come begin with all their tokens. */
static void random_rates(struct script *s, const struct s_port *was, struct s_port *p)
{
	for (unsigned int i = 0; i < VS_BUCKETS; i++) {
		bool bytes = i == VS_TX_BYTES || i == VS_RX_BYTES;

		if (s->class == S_RATE ? i > VS_RX_FRAMES
				       : i != VS_STORM_BROADCAST && i != VS_STORM_MULTICAST)
			continue;
		if (chance(s, 70))
			p->burst[i] = was->burst[i];
		else if (!was->burst[i])
			p->burst[i] = bytes ? 32 + 64 * (32 + below(s, 150)) : 1 + below(s, 60);
		/* Two limits at once: who is asked first is each switch's own business. */
		if (s->class == S_RATE && i % 2 && p->burst[i - 1])
			p->burst[i] = 0;
	}
}

static struct s_port random_port(struct script *s, unsigned int index)
{
	struct s_port p = {.up = chance(s, 95), .isolated = chance(s, 20)};

	if (s->class == S_FLOOD || (s->class != S_PLAIN && chance(s, 10)))
		p.flood_off = (uint8_t)below(s, 8);
	p.mode = random_mode(s, index);
	random_vlans(s, &p);
	if (s->class == S_RATE || s->class == S_STORM)
		random_rates(s, &s->port[index], &p);
	if (s->class >= S_MIRROR)
		p.up = true;
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
	static const uint16_t vids[] = {1, 2, 3, 63, 64, 100, 1023, 1024, 4093, 4094};

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
		s->vid[i] = vids[(topology + i * 3) % 10];
	for (unsigned int i = 0; i < s->ports; i++)
		s->port[i] = random_port(s, i);
}

static void change_port(struct script *s, struct s_op *op)
{
	op->kind = S_SET;
	op->set = s->port[op->port] = random_port(s, op->port);
}

/* A VID that the port is a member of; 0 if it knows none, 4095 if there is none. */
static uint16_t member_vid(struct script *s, const struct s_port *p)
{
	unsigned int which = below(s, p->vids + 1);

	if (p->mode == VS_VLAN_NONE)
		return 0;
	if (p->mode != VS_VLAN_TRUNK)
		return p->pvid;
	if (which < p->vids)
		return p->vid[which];
	return p->pvid ? p->pvid : 4095;
}

static void flush(struct s_op *op)
{
	op->kind = S_FLUSH;
}

static void change_fdb(struct script *s, struct s_op *op)
{
	struct s_static *f = &s->fixed[below(s, S_STATICS)];
	uint16_t vid = member_vid(s, &s->port[op->port]);

	if (!f->used && vid == 4095) {
		flush(op);
		return;
	}
	op->kind = f->used ? S_FDB_DEL : S_FDB_ADD;
	if (!f->used) {
		memcpy(f->mac, s->mac[below(s, S_MACS)], 6);
		f->vid = vid;
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

bool script_monitor(const struct script *s, unsigned int port)
{
	for (unsigned int i = 0; i < s->ports; i++)
		if (s->mirror[i][port])
			return true;
	return false;
}

static bool mirrored(const struct script *s, unsigned int port)
{
	for (unsigned int i = 0; i < s->ports; i++)
		if (s->mirror[port][i])
			return true;
	return false;
}

static void change_mirror(struct script *s, struct s_op *op)
{
	unsigned int count = 0;

	op->to = below(s, s->ports);
	for (unsigned int i = 0; i < s->ports; i++)
		count += s->mirror[op->port][i] != 0;
	if (s->mirror[op->port][op->to]) {
		op->kind = S_MIRROR_DEL;
		op->what = s->mirror[op->port][op->to];
		s->mirror[op->port][op->to] = 0;
	} else if (op->to == op->port || script_monitor(s, op->port) || mirrored(s, op->to) ||
		   count == VS_MIRRORS_MAX) {
		flush(op);
	} else {
		op->kind = S_MIRROR_ADD;
		op->what = (uint8_t)(1 + below(s, 3));
		s->mirror[op->port][op->to] = op->what;
	}
}

static void change(struct script *s, struct s_op *op)
{
	op->port = below(s, s->ports);
	s->repeat = 0;
	if (s->class == S_MIRROR && chance(s, 60))
		change_mirror(s, op);
	else if (chance(s, 45))
		change_port(s, op);
	else if (chance(s, 75))
		change_fdb(s, op);
	else
		flush(op);
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
	if (s->class >= S_RATE)
		return;
	if (chance(s, 1))
		mac[0] |= 1;
	if (chance(s, 1))
		memset(mac, 0, 6);
}

static void random_destination(struct script *s, uint8_t *mac, const uint8_t *source)
{
	unsigned int kind = below(s, 100);

	if (kind < 65)
		memcpy(mac, s->mac[below(s, S_MACS)], 6);
	else if (kind < 70)
		random_mac(s, mac);
	else if (kind < 72)
		memcpy(mac, source, 6);
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
	random_destination(s, at, at + 6);
	/*
	 * libvswitch learns from a frame that storm control drops, policers drop before: so nobody
	 * sends to who sends these.
	 */
	if (s->class == S_STORM && at[0] & 1)
		memcpy(at + 6, (uint8_t[]){0x06, 0, 0, 0, 0, (uint8_t)s->from}, 6);
	if (kind >= 50 && s->class < S_RATE) {
		put16(at + len, kind < 95 || s->class == S_QINQ ? 0x8100 : 0x88a8);
		put16(at + len + 2, random_tci(s));
		len += 4;
		if (chance(s, 20)) {
			put16(at + len, chance(s, 80) || s->class == S_QINQ ? 0x8100 : 0x88a8);
			put16(at + len + 2, random_tci(s));
			len += 4;
		}
	}
	put16(at + len, types[below(s, 7)]);
	return len + 2;
}

/*
 * Where bytes are limited: multiples of 64, while the limits are 32 more than such. So it makes no
 * difference whether the real bridge got half a second's bytes more than libvswitch, whose clock
 * stands.
 */
static uint32_t random_len(struct script *s, const uint8_t *header)
{
	unsigned int kind = below(s, 100), tag = 0;

	/* A packet socket knows no longer frames but those. */
	if (header[12] == 0x81 && !header[13] && s->class != S_QINQ)
		tag = 4;
	if (s->class == S_RATE)
		return 64 * (1 + below(s, kind < 90 ? 6 : 23));
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
	for (unsigned int i = 0; i < VS_BUCKETS; i++)
		if (p->burst[i])
			printf(", limit %u of %u", i, p->burst[i]);
	printf("\n");
}

void script_print(const struct script *s)
{
	printf("topology %u (%s), %u ports:\n", s->topology, s_class_name[s->class], s->ports);
	for (unsigned int i = 0; i < s->ports; i++)
		script_print_port(i, &s->port[i]);
	for (unsigned int i = 0; i < s->ports; i++)
		for (unsigned int j = 0; j < s->ports; j++)
			if (s->mirror[i][j])
				printf("  mirror of port %u to port %u:%s%s\n", i, j,
				       s->mirror[i][j] & VS_MIRROR_TX ? " tx" : "",
				       s->mirror[i][j] & VS_MIRROR_RX ? " rx" : "");
	for (unsigned int i = 0; i < S_STATICS; i++)
		if (s->fixed[i].used)
			printf("  static address %02x:..:%02x, VID %u\n", s->fixed[i].mac[0],
			       s->fixed[i].mac[5], s->fixed[i].vid);
}
