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
 *	byte		one bit of one frame
 *
 * Frames are sent at sN; their way through the bridge to the other sN is over when send() returns.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bridge.h"
#include "results.h"
#include "script.h"

#define SLOT  2048
#define SLOTS 128
#define BLOCK 65536

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
static bool corrupted;

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

static void drain(struct r_result *r, unsigned int count)
{
	static uint8_t frame[S_FRAME];

	for (unsigned int i = 0; i < count; i++) {
		struct port *p = &ports[i];

		for (;;) {
			struct tpacket2_hdr *h = (void *)(p->ring + p->next * SLOT);
			uint32_t len, number;

			if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
				break;
			len = untangle(h, frame);
			memcpy(&number, frame + len - 4, 4);
			if (number != r->frame.number)
				b_fail("frame %u of topology %u came out with frame %u", number,
				       r->frame.topology, r->frame.number);
			if (faulty("byte") && !corrupted && number > 100)
				frame[len / 2] ^= 0x10, corrupted = true;
			if (r_add(r, i, frame, len))
				b_fail("frame %u came out too often", number);
			__atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
			p->next = (p->next + 1) % SLOTS;
		}
	}
}

static void send_frame(const struct script *s, const struct s_op *op, FILE *out)
{
	struct r_result r = {.frame = {s->topology, op->number, 0}};

	if (send(ports[op->port].fd, op->frame, op->len, 0) != (ssize_t)op->len)
		b_fail("frame %u of topology %u, %u bytes: %s", op->number, s->topology, op->len,
		       strerror(errno));
	drain(&r, s->ports);
	if (fwrite(&r.frame, sizeof(r.frame), 1, out) != 1 ||
	    fwrite(r.delivery, sizeof(r.delivery[0]), r.frame.count, out) != r.frame.count)
		b_fail("cannot write results: %s", strerror(errno));
}

static void set_port(unsigned int i, const struct s_port *set)
{
	struct port *p = &ports[i];
	struct b_flags flags = {
		.forwarding = set->up,
		.isolated = set->isolated || (!i && faulty("isolated")),
		.learning = i || !faulty("learning"),
		.broadcast = !(set->flood_off & VS_FLOOD_BROADCAST),
		.multicast = !(set->flood_off & VS_FLOOD_MULTICAST),
		.unknown = !(set->flood_off & VS_FLOOD_UNKNOWN),
	};

	if (!p->member)
		b_master(p->index, b_index("br%u", 0));
	p->member = true;
	b_port(p->index, &flags);
	p->set = *set;
}

static void apply(const struct s_op *op)
{
	unsigned int index = ports[op->port].index;

	switch (op->kind) {
	case S_SET:
		set_port(op->port, &op->set);
		break;
	case S_FDB_ADD:
		b_fdb_add(index, op->mac, op->vid);
		break;
	case S_FDB_DEL:
		b_fdb_del(index, op->mac, op->vid);
		break;
	case S_FLUSH:
		if (!faulty("flush"))
			b_flush(index);
		break;
	case S_SEND:
		break;
	}
}

static void topology(struct script *s, FILE *out)
{
	static struct s_op op;

	for (unsigned int i = 0; i < S_PORTS; i++) {
		b_master(ports[i].index, 0); /* that forgets everything */
		ports[i].member = false;
	}
	while (script_next(s, &op)) {
		if (op.kind == S_SEND)
			send_frame(s, &op, out);
		else
			apply(&op);
	}
}

int main(int argc, char **argv)
{
	struct script s;
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
	b_open();
	for (unsigned int i = 0; i < S_PORTS; i++)
		port_open(&ports[i], i);
	for (unsigned int i = first; i < first + count; i++) {
		script_begin(&s, seed, i, classes);
		topology(&s, out);
	}
	if (fclose(out))
		b_fail("cannot write results: %s", strerror(errno));
	return 0;
}
