/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mirrors: copies of a port's frames for another one.
 *
 * They are made of the loads that were just delivered or dropped, when nothing is reserved any
 * more: a caller that is stopped in a copy leaves what it would leave of any delivery. Payload is
 * read from the sender's memory once more; headers are those that were checked.
 */
#include "offload.h"

/* ---- control side ---- */

static uint64_t word_of(const struct vs_mirror *m)
{
	return (uint64_t)m->snap << 32 | (m->annotate ? VS_MIRROR_ANNOTATE : 0) |
	       (uint64_t)m->what << 16 | (uint64_t)(m->to + 1);
}

static uint32_t target_id(uint64_t word)
{
	return (uint32_t)(word & 0xffff) - 1;
}

static uint8_t what_of(uint64_t word)
{
	return (uint8_t)(word >> 16) & (VS_MIRROR_TX | VS_MIRROR_RX | VS_MIRROR_DROPS);
}

uint8_t vs_mirror_extras(const struct vs_port *port)
{
	uint8_t what = 0;

	for (unsigned int i = 0; i < VS_MIRRORS_MAX; i++)
		what |= what_of(port->mirror[i]);
	return (uint8_t)(what << VS_MIRROR_SHIFT);
}

/* The port that a mirror's word names; NULL: none. */
struct vs_port *vs_mirror_target(const struct vswitch *vs, uint64_t word)
{
	uint32_t id = target_id(word);

	return word && id < vs->config.ports ? &vs->ports[id] : NULL;
}

/* Index of the port's mirror to `to`, or of a free one with -1; negative: there is none. */
static int find(const struct vs_port *port, int to)
{
	for (int i = 0; i < VS_MIRRORS_MAX; i++)
		if (to < 0 ? !port->mirror[i]
			   : port->mirror[i] && (int)target_id(port->mirror[i]) == to)
			return i;
	return -1;
}

int vs_mirror_add(struct vswitch *vs, int id, const struct vs_mirror *m)
{
	struct vs_port *port = vs_port_get(vs, id), *to = vs_port_get(vs, m->to);
	int at;

	if (!port || !to)
		return -ELISA_ENODEV;
	if (port == to || port->extras & VS_MONITOR || vs_mirror_extras(to))
		return -ELISA_EINVAL;
	if (!m->what || m->what & ~(VS_MIRROR_TX | VS_MIRROR_RX | VS_MIRROR_DROPS) ||
	    (m->snap && m->snap < ELISA_FRAME_MIN))
		return -ELISA_EINVAL;
	if (find(port, m->to) >= 0)
		return -VS_EEXIST;
	at = find(port, -1);
	if (at < 0)
		return -VS_ENOSPC;
	vs_store_release(&port->mirror[at], word_of(m));
	vs_extras_update(vs);
	return 0;
}

int vs_mirror_del(struct vswitch *vs, int id, int to)
{
	struct vs_port *port = vs_port_get(vs, id);
	int at = port && to >= 0 ? find(port, to) : -1;

	if (at < 0)
		return -ELISA_ENODEV;
	vs_store_release(&port->mirror[at], 0);
	vs_extras_update(vs);
	return 0;
}

int vs_mirrors(const struct vswitch *vs, int id, struct vs_mirror mirrors[VS_MIRRORS_MAX])
{
	const struct vs_port *port = vs_port_get(vs, id);
	int count = 0;

	if (!port)
		return -ELISA_ENODEV;
	for (unsigned int i = 0; i < VS_MIRRORS_MAX; i++) {
		uint64_t word = port->mirror[i];

		if (word)
			mirrors[count++] = (struct vs_mirror){
				.to = (int)target_id(word),
				.what = what_of(word),
				.snap = (uint16_t)(word >> 32),
				.annotate = word & VS_MIRROR_ANNOTATE,
			};
	}
	return count;
}

/* The port is about to go: its mirrors, and those to it. */
void vs_mirror_forget(struct vswitch *vs, struct vs_port *port)
{
	for (uint32_t p = 0; p < vs->ports_high; p++)
		for (unsigned int i = 0; i < VS_MIRRORS_MAX; i++)
			if (&vs->ports[p] == port ||
			    vs_mirror_target(vs, vs->ports[p].mirror[i]) == port)
				vs_store_release(&vs->ports[p].mirror[i], 0);
	vs_extras_update(vs);
}

/* ---- callers' side ---- */

struct copies {
	struct vs_load_of load;
	uint64_t filled; /* not the sender's */
	uint64_t hash[VS_BATCH];
	struct vs_frame frame[VS_BATCH];
};

/*
 * A frame that is still to be cut up comes whole where the monitor takes such; elsewhere as much of
 * it as the port's frames may have. A cut frame says nothing of checksums.
 */
static void copy_frame(struct copies *c, const struct vs_frame *frame, const struct vs_seg *segs,
		       const struct vs_port *to, uint32_t snap)
{
	const uint32_t tso = ELISA_NET_F_TSO4 | ELISA_NET_F_TSO6;
	uint16_t flags = frame->segs ? segs[frame->seg].offload.flags : 0;
	uint32_t lacks = vs_lacks(vs_load(&to->features), flags) & tso;
	uint32_t max = flags & VS_TSO && !lacks ? UINT32_MAX : vs_load(&to->frame_max) + 4;
	struct vs_frame *copy = &c->frame[c->load.count++];

	*copy = *frame;
	if (snap && snap < max)
		max = snap;
	if (copy->len > max)
		copy->len = max;
	if (copy->segs && (lacks || copy->len != frame->len))
		copy->segs |= VS_SEGS_RAW;
	/* What is copied from the sender may be less by a tag. */
	if (copy->segs || copy->len < 16 + 4)
		c->load.pieces = true;
	if (copy->len > c->load.longest)
		c->load.longest = copy->len;
}

static uint64_t note_of(const struct vs_port *port, uint32_t len, uint32_t what)
{
	uint32_t max = UINT16_MAX;

	/* As an immediate the compiler would have it in .rodata, for a minimum of vectors. */
	__asm__("" : "+r"(max));
	return (uint64_t)ELISA_RXC_HASH << 32 | (len < max ? len : max) << 16 |
	       (uint32_t)port->id << 6 | what;
}

static void copy_to(struct vs_caller *caller, const struct vs_port *port, uint64_t mirror,
		    const struct vs_load_of *load, uint32_t first, uint32_t end, uint32_t what)
{
	struct vs_port *to = vs_mirror_target(caller->vs, mirror);
	bool annotate = mirror & VS_MIRROR_ANNOTATE;
	struct copies c;

	if (!to)
		return;
	c.load = (struct vs_load_of){
		.frame = c.frame,
		.segs = load->segs,
		.shift = load->shift,
		.filled = &c.filled,
		.hash = annotate || load->hash ? c.hash : NULL,
		.copies = true,
		.paid = true,
	};
	for (uint32_t i = first; i < end && c.load.count < VS_BATCH; i++) {
		uint64_t hash = load->hash ? load->hash[i] : 0;

		if (annotate)
			hash = (hash & (uint64_t)ELISA_RXC_CSUM_OK << 32) |
			       note_of(port, load->frame[i].len, what);
		c.hash[c.load.count] = hash;
		copy_frame(&c, &load->frame[i], load->segs, to, (uint16_t)(mirror >> 32));
	}
	/* One queue, one order; and the note stands where steering would put its hash. */
	if (annotate)
		vs_deliver(caller, to, vs_rx_index(to, 0), &c.load);
	else
		vs_deliver_from(caller, to, 0, &c.load);
}

vs_noinline void vs_mirror(struct vs_caller *caller, const struct vs_port *port,
			   const struct vs_load_of *load, uint32_t first, uint32_t end,
			   uint32_t what)
{
	uint32_t kind = what & 0x1f	 ? VS_MIRROR_DROPS
			: what == VS_GOT ? VS_MIRROR_RX
					 : VS_MIRROR_TX;

	if (load->copies || first == end)
		return;
	for (unsigned int i = 0; i < VS_MIRRORS_MAX; i++) {
		uint64_t mirror = vs_load_acquire(&port->mirror[i]);

		VS_STEP();
		if (what_of(mirror) & kind)
			copy_to(caller, port, mirror, load, first, end, what);
	}
}
