/* SPDX-License-Identifier: BSD-3-Clause */
/* Mirrors: copies of a port's frames for another one. */
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
		if (to < 0 ? !port->mirror[i] : port->mirror[i] && (int)target_id(port->mirror[i]) == to)
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
