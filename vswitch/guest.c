/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests: whose memory an address means. All of this is the control side. */
#include "mem.h"

/* Adds to the ranges, which stay sorted: the longest is looked at first. */
static int range_add(struct vs_guest *g, const struct vs_region *region)
{
	uint64_t gpa = region->gpa, len = region->len;
	uint32_t at = g->ranges;

	if (!region->addr || len < VS_REGION_MIN || (gpa | len | (uintptr_t)region->addr) & 4095)
		return -ELISA_EINVAL;
	if (len >> 52 || gpa >> 52)
		return -ELISA_EINVAL;
	for (uint32_t i = 0; i < g->ranges; i++)
		if (gpa < g->range[i].gpa + g->range[i].len && g->range[i].gpa < gpa + len)
			return -ELISA_EINVAL;
	for (; at && g->range[at - 1].len < len; at--)
		g->range[at] = g->range[at - 1];
	g->range[at] = (struct vs_range){.gpa = gpa, .len = len, .addr = region->addr};
	g->ranges++;
	return 0;
}

/*
 * Never 0, and another one for each guest and reset. Arenas whose own generations follow each other
 * are a billion apart (2^32 divided by the golden ratio).
 */
static uint32_t next_generation(struct vswitch *vs)
{
	uint32_t generation;

	do {
		generation = vs->config.generation * 0x9e3779b1u + vs->attached++;
	} while (!generation);
	return generation;
}

static struct vs_guest *guest_get(struct vswitch *vs, int guest)
{
	if (guest < 0 || (uint32_t)guest >= vs->config.guests || !vs->guests[guest].used)
		return NULL;
	return &vs->guests[guest];
}

int vs_guest_add(struct vswitch *vs, const char *name, const struct vs_region *regions,
		 unsigned int count)
{
	struct vs_guest *g = NULL;
	uint32_t i;

	for (i = 0; i < vs->config.guests && !g; i++)
		if (!vs->guests[i].used)
			g = &vs->guests[i];
	if (!g)
		return -28; /* ENOSPC */
	if (count > VS_REGIONS_MAX)
		return -ELISA_EINVAL;
	*g = (struct vs_guest){.ranges = 0};
	for (unsigned int r = 0; r < count; r++) {
		int error = range_add(g, &regions[r]);

		if (error)
			return error;
	}
	for (unsigned int n = 0; name && n + 1 < VS_NAME_LEN && name[n]; n++)
		g->name[n] = name[n];
	g->generation = next_generation(vs);
	g->used = true;
	return (int)(g - vs->guests);
}

int vs_guest_del(struct vswitch *vs, int guest)
{
	struct vs_guest *g = guest_get(vs, guest);

	if (!g)
		return -ELISA_ENODEV;
	for (int i = 0; i < ELISA_PORTS_PER_VM; i++)
		if (g->ports[i])
			return -ELISA_EBUSY;
	if (g->callers || !vs_epoch_over(vs, g->ticket, NULL))
		return -ELISA_EBUSY;
	g->used = false;
	return 0;
}

int vs_guest_reset(struct vswitch *vs, int guest)
{
	struct vs_guest *g = guest_get(vs, guest);

	if (!g)
		return -ELISA_ENODEV;
	for (int i = 0; i < ELISA_PORTS_PER_VM; i++)
		if (g->ports[i])
			vs_port_down(vs, g->ports[i]);
	vs_store_release(&g->generation, next_generation(vs));
	return 0;
}
