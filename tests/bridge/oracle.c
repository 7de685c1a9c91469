/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs a script through the kernel's bridge, frame by frame, and writes down what came out.
 *
 *	oracle FILE SEED FIRST COUNT CLASSES [FAULT]
 *
 * FAULT makes it wrong in one way, for the comparison to find:
 *	learning	the first port does not learn
 *	isolated	the first port is isolated
 *	flush		nothing is ever flushed
 *	tag		ports of VLANs let their own frames out tagged
 *	mirror		mirrors of what comes in are left out
 *	limit		one frame more, or 64 bytes, at once
 *	byte		one bit of one frame
 *
 * Frames are sent at sN; their way through the bridge to the other sN is over when send() returns:
 *the kernel does it there, or leaves the rest to its thread ksoftirqd, which comes before an idle
 *process.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "bridge.h"
#include "results.h"
#include "script.h"

#define SLOT  2048
#define SLOTS 128
#define BLOCK 65536
#define TRIES 50
#define LIMITS_S \
	0.4 /* in half a second a limit of one frame, or 64 bytes, a second may pass one more */

struct port {
	int fd;
	unsigned int index; /* of pN */
	uint8_t *ring;
	unsigned int next;
	struct s_port set;
	bool member;
};

static struct port ports[S_PORTS];
static const char *fault = "";
static bool corrupted, late;

static bool faulty(const char *how)
{
	return !strcmp(fault, how);
}

static void port_open(struct port *p, unsigned int i)
{
	struct tpacket_req req = {.tp_block_size = BLOCK,
				  .tp_block_nr = SLOTS * SLOT / BLOCK,
				  .tp_frame_size = SLOT,
				  .tp_frame_nr = SLOTS};
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int version = TPACKET_V2, one = 1;

	p->index = b_index("p%u", i);
	to.sll_ifindex = (int)b_index("s%u", i);
	p->fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	if (p->fd < 0 || setsockopt(p->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
	    setsockopt(p->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) ||
	    setsockopt(p->fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) ||
	    bind(p->fd, (struct sockaddr *)&to, sizeof(to)))
		b_fail("no packet socket: %s", strerror(errno));
	p->ring = mmap(NULL, SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	if (p->ring == MAP_FAILED)
		b_fail("no ring: %s", strerror(errno));
}

/* The frame at `h` as it was on the wire: the kernel keeps the first tag apart. */
static uint32_t untangle(const struct tpacket2_hdr *h, uint8_t *frame)
{
	const uint8_t *at = (const uint8_t *)h + h->tp_mac;
	uint32_t len = h->tp_len, tag = h->tp_status & TP_STATUS_VLAN_VALID ? 4 : 0;

	if (h->tp_snaplen != len || len + tag > S_FRAME)
		b_fail("a frame of %u bytes is cut to %u", len, h->tp_snaplen);
	memcpy(frame, at, 12);
	if (tag) {
		uint16_t tpid =
			h->tp_status & TP_STATUS_VLAN_TPID_VALID ? h->tp_vlan_tpid : ETH_P_8021Q;

		frame[12] = (uint8_t)(tpid >> 8);
		frame[13] = (uint8_t)tpid;
		frame[14] = (uint8_t)(h->tp_vlan_tci >> 8);
		frame[15] = (uint8_t)h->tp_vlan_tci;
	}
	memcpy(frame + 12 + tag, at + 12, len - 12);
	return len + tag;
}

/*
 * The provider's tags are 802.1Q's in libvswitch; the kernel's bridge can have a payload with such
 * tags only if its own are 802.1ad's. Elsewhere both look the same.
 */
static void translate(const struct script *s, unsigned int port, uint8_t *frame, bool in)
{
	unsigned int type = (unsigned int)frame[12] << 8 | frame[13];

	if (s->class != S_QINQ)
		return;
	if (in && type == ETH_P_8021Q && ports[port].set.mode != VS_VLAN_QINQ)
		memcpy(frame + 12, "\x88\xa8", 2);
	else if (!in && type == ETH_P_8021AD)
		memcpy(frame + 12, "\x81\x00", 2);
}

static void drain(const struct script *s, struct r_result *r)
{
	static uint8_t frame[S_FRAME];

	for (unsigned int i = 0; i < s->ports; i++) {
		struct port *p = &ports[i];

		for (;;) {
			struct tpacket2_hdr *h = (void *)(p->ring + p->next * SLOT);
			uint32_t len, number;

			if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
				break;
			len = untangle(h, frame);
			translate(s, i, frame, false);
			memcpy(&number, frame + len - 4, 4);
			late |= number != r->frame.number;
			if (faulty("byte") && !corrupted && number > 100)
				frame[len / 2] ^= 0x10, corrupted = true;
			if (!late && r_add(r, i, frame, len))
				b_fail("frame %u came out too often", number);
			__atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
			p->next = (p->next + 1) % SLOTS;
		}
	}
}

static void send_frame(const struct script *s, const struct s_op *op, FILE *out)
{
	struct r_result r = {.frame = {s->topology, op->number, 0}};
	static uint8_t frame[S_FRAME];

	memcpy(frame, op->frame, op->len);
	translate(s, op->port, frame, true);
	if (send(ports[op->port].fd, frame, op->len, 0) != (ssize_t)op->len)
		b_fail("frame %u of topology %u, %u bytes: %s", op->number, s->topology, op->len,
		       strerror(errno));
	drain(s, &r);
	if (fwrite(&r.frame, sizeof(r.frame), 1, out) != 1 ||
	    fwrite(r.delivery, sizeof(r.delivery[0]), r.frame.count, out) != r.frame.count)
		b_fail("cannot write results: %s", strerror(errno));
}

/* ---- VLANs ---- */

struct vlan {
	uint16_t vid;
	bool pvid, untagged;
};

static unsigned int vlans_of(const struct s_port *set, struct vlan vlans[S_VIDS + 1])
{
	bool native = set->mode != VS_VLAN_TRUNK || !set->native_tagged;
	unsigned int count = 0;

	for (unsigned int i = 0; i < set->vids; i++)
		if (set->vid[i] != set->pvid)
			vlans[count++] = (struct vlan){set->vid[i], false, false};
	if (set->pvid)
		vlans[count++] = (struct vlan){set->pvid, true, native};
	return count;
}

static void set_vlans(const struct port *p, const struct s_port *set)
{
	struct vlan was[S_VIDS + 1], now[S_VIDS + 1];
	unsigned int before = vlans_of(&p->set, was), after = vlans_of(set, now);

	for (unsigned int i = 0; i < before; i++) {
		bool stays = false;

		for (unsigned int j = 0; j < after; j++)
			stays |= was[i].vid == now[j].vid;
		if (!stays)
			b_vlan_del(p->index, was[i].vid);
	}
	for (unsigned int i = 0; i < after; i++)
		b_vlan_add(p->index, now[i].vid, now[i].pvid, now[i].untagged && !faulty("tag"));
}

/* ---- limits and mirrors ---- */

#define COUNTED	     1600 /* bytes that each frame counts as where frames are limited */
#define PREF(bucket) (20 + 2 * (bucket)) /* after mirrors; a place is free before each */

static const enum b_match bucket_match[VS_BUCKETS] = {
	[VS_STORM_BROADCAST] = B_BROADCAST,
	[VS_STORM_MULTICAST] = B_MULTICAST,
};

static void set_rates(const struct port *p, const struct s_port *set)
{
	for (unsigned int b = 0; b < VS_BUCKETS; b++) {
		bool in = b != VS_RX_BYTES && b != VS_RX_FRAMES;
		bool bytes = b == VS_TX_BYTES || b == VS_RX_BYTES;
		uint32_t burst = set->burst[b] + (!faulty("limit") ? 0 : bytes ? 64 : 1);
		struct b_filter f = {.port = p->index,
				     .pref = PREF(b),
				     .in = in,
				     .match = bucket_match[b],
				     .bytes = bytes ? burst : burst * COUNTED + COUNTED / 2,
				     .rate = bytes ? S_RATE_PER_S : COUNTED,
				     .least = bytes ? 0 : COUNTED};
		struct b_filter pass = {.port = p->index,
					.pref = PREF(b) - 1,
					.in = in,
					.match = B_BROADCAST,
					.pass = true};

		if (set->burst[b] == p->set.burst[b])
			continue;
		if (set->burst[b])
			b_filter_add(&f);
		else
			b_filter_del(f.port, in, f.pref);
		if (b != VS_STORM_MULTICAST)
			continue;
		if (set->burst[b]) /* which a broadcast is not */
			b_filter_add(&pass);
		else
			b_filter_del(pass.port, in, pass.pref);
	}
}

static void set_mirror(const struct s_op *op, bool add)
{
	for (unsigned int in = 0; in < 2; in++) {
		struct b_filter f = {.port = ports[op->port].index,
				     .pref = 1 + op->to,
				     .in = in,
				     .mirror = ports[op->to].index};

		if (!(op->what & (in ? VS_MIRROR_TX : VS_MIRROR_RX)) || (in && faulty("mirror")))
			continue;
		if (add)
			b_filter_add(&f);
		else
			b_filter_del(f.port, in, f.pref);
	}
}

/* ---- ports ---- */

static void set_port(const struct script *s, unsigned int i, const struct s_port *set)
{
	struct port *p = &ports[i];
	bool floods = !script_monitor(s, i);
	struct b_flags flags = {
		.forwarding = set->up,
		.isolated = set->isolated || (!i && faulty("isolated")),
		.learning = i || !faulty("learning"),
		.broadcast = floods && !(set->flood_off & VS_FLOOD_BROADCAST),
		.multicast = floods && !(set->flood_off & VS_FLOOD_MULTICAST),
		.unknown = floods && !(set->flood_off & VS_FLOOD_UNKNOWN),
	};

	if (!p->member)
		b_master(p->index, b_index("br%u", set->mode == VS_VLAN_NONE ? 0
						   : s->class == S_QINQ	     ? 2
									     : 1));
	p->member = true;
	b_port(p->index, &flags);
	set_vlans(p, set);
	set_rates(p, set);
	p->set = *set;
}

/* That it is a member of the VLAN no more does not matter to libvswitch. */
static void fdb_del(const struct port *p, const uint8_t mac[6], uint16_t vid)
{
	struct vlan vlans[S_VIDS + 1];
	unsigned int count = vlans_of(&p->set, vlans);
	bool member = !vid;

	for (unsigned int i = 0; i < count; i++)
		member |= vlans[i].vid == vid;
	if (!member)
		b_vlan_add(p->index, vid, false, false);
	b_fdb_del(p->index, mac, vid);
	if (!member)
		b_vlan_del(p->index, vid);
}

static void apply(const struct script *s, const struct s_op *op)
{
	unsigned int index = ports[op->port].index;

	switch (op->kind) {
	case S_SET:
		set_port(s, op->port, &op->set);
		break;
	case S_FDB_ADD:
		b_fdb_add(index, op->mac, op->vid);
		break;
	case S_FDB_DEL:
		fdb_del(&ports[op->port], op->mac, op->vid);
		break;
	case S_FLUSH:
		if (!faulty("flush"))
			b_flush(index);
		break;
	case S_MIRROR_ADD:
		set_mirror(op, true);
		set_port(s, op->to, &ports[op->to].set);
		break;
	case S_MIRROR_DEL:
		set_mirror(op, false);
		set_port(s, op->to, &ports[op->to].set);
		break;
	case S_SEND:
		break;
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void reset(void)
{
	for (unsigned int i = 0; i < S_PORTS; i++) {
		b_master(ports[i].index, 0); /* that forgets everything */
		ports[i].member = false;
		ports[i].set = (struct s_port){.up = true};
		b_filter_del(ports[i].index, true, 0);
		b_filter_del(ports[i].index, false, 0);
	}
}

/* False: it has to be done anew. */
static bool topology(struct script *s, FILE *out)
{
	static struct s_op op;
	struct r_result nothing = {.frame = {.number = UINT32_MAX}};
	double begin = now();

	reset();
	late = corrupted = false;
	while (!late && script_next(s, &op)) {
		if (op.kind == S_SEND)
			send_frame(s, &op, out);
		else
			apply(s, &op);
	}
	usleep(1000);
	drain(s, &nothing);
	return !late && (s->class < S_RATE || now() - begin < LIMITS_S);
}

/* A topology, until it was done in time. */
static void run(FILE *out, uint64_t seed, unsigned int i, unsigned int classes)
{
	long at = ftell(out);
	struct script s;

	for (unsigned int tries = 1;; tries++) {
		script_begin(&s, seed, i, classes);
		if (topology(&s, out))
			return;
		printf("topology %u: again, the machine is too busy for %s\n", i,
		       late ? "frames in time" : "limits without time");
		fflush(stdout);
		if (tries == TRIES)
			b_fail("topology %u: %u tries are enough", i, tries);
		if (fseek(out, at, SEEK_SET))
			b_fail("cannot write results: %s", strerror(errno));
	}
}

int main(int argc, char **argv)
{
	uint64_t seed;
	unsigned int first, count, classes;
	FILE *out;

	if (argc < 6)
		b_fail("usage: oracle FILE SEED FIRST COUNT CLASSES [FAULT]");
	seed = strtoull(argv[2], NULL, 0);
	first = (unsigned int)strtoul(argv[3], NULL, 0);
	count = (unsigned int)strtoul(argv[4], NULL, 0);
	classes = (unsigned int)strtoul(argv[5], NULL, 0);
	if (argc > 6)
		fault = argv[6];
	out = fopen(argv[1], "we");
	if (!out)
		b_fail("%s: %s", argv[1], strerror(errno));
	if (sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}))
		b_fail("not idle: %s", strerror(errno));
	b_open();
	for (unsigned int i = 0; i < S_PORTS; i++)
		port_open(&ports[i], i);
	for (unsigned int i = first; i < first + count; i++)
		run(out, seed, i, classes);
	if (fflush(out) || ftruncate(fileno(out), ftell(out)) || fclose(out))
		b_fail("cannot write results: %s", strerror(errno));
	return 0;
}
