/* SPDX-License-Identifier: BSD-3-Clause */
/* The arena: one piece of memory, at one address for all, cut up once. */
#include <cpuid.h>
#include "vlan.h"

/* Count up whenever fields change that these sizes do not show. */
#define VS_STATE 5

const uint64_t vs_state_revision = (uint64_t)VS_STATE << 56 | sizeof(struct vswitch) << 40 |
				   sizeof(struct vs_port) << 20 | sizeof(struct vs_caller) << 10 |
				   sizeof(struct vs_guest);

static bool config_valid(const struct vs_config *cfg)
{
	return cfg->ports >= 1 && cfg->ports <= VS_PORTS_MAX && cfg->guests >= 1 &&
	       cfg->guests <= VS_GUESTS_MAX && cfg->callers >= 1 &&
	       cfg->callers <= VS_CALLERS_MAX && cfg->fdb_capacity >= VS_FDB_MIN &&
	       cfg->fdb_capacity <= VS_FDB_MAX && cfg->generation;
}

static size_t page_up(size_t len)
{
	return (len + 4095) & ~(size_t)4095;
}

static size_t head_size(void)
{
	return page_up(sizeof(struct vswitch));
}

size_t vs_arena_size(const struct vs_config *cfg)
{
	if (!config_valid(cfg))
		return 0;
	return head_size() + page_up(cfg->ports * sizeof(struct vs_port)) +
	       page_up(cfg->guests * sizeof(struct vs_guest)) +
	       page_up(cfg->callers * sizeof(struct vs_caller)) +
	       page_up(VS_NICS_MAX * sizeof(struct vs_nic)) +
	       page_up(vs_fdb_size(cfg->fdb_capacity));
}

/* The FDB's hash is secret, lest a guest fills the two buckets of another's address. */
static uint64_t secret(const void *arena, uint32_t generation)
{
	uint64_t seed = (uintptr_t)arena ^ __builtin_ia32_rdtsc() ^ (uint64_t)generation << 32;
	unsigned int a, b, c = 0, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_RDRND)) {
		uint64_t word;
		bool valid;

		__asm__ volatile("rdrand %0" : "=r"(word), "=@ccc"(valid));
		if (valid)
			seed ^= word;
	}
	return seed;
}

int vs_create(void *arena, size_t len, const struct vs_config *cfg, struct vswitch **out)
{
	struct vswitch *vs = arena;
	uint8_t *at = arena;

	if (!config_valid(cfg) || !arena || (uintptr_t)arena & 4095 || len < vs_arena_size(cfg))
		return -ELISA_EINVAL;
	vs->config = *cfg;
	at += head_size();
	vs->ports = (struct vs_port *)(void *)at;
	at += page_up(cfg->ports * sizeof(struct vs_port));
	vs->guests = (struct vs_guest *)(void *)at;
	at += page_up(cfg->guests * sizeof(struct vs_guest));
	vs->callers = (struct vs_caller *)(void *)at;
	at += page_up(cfg->callers * sizeof(struct vs_caller));
	vs->nics = (struct vs_nic *)(void *)at;
	at += page_up(VS_NICS_MAX * sizeof(struct vs_nic));
	vs_fdb_init(&vs->fdb, at, cfg->fdb_capacity, secret(arena, cfg->generation));
	vs->mask[VS_KIND_ANY] = _mm_set_epi64x(0xffffffff, -1);
	vs->mask[VS_KIND_UNTAGGED] = _mm_set_epi64x(0xffffffffffff, -1);
	vs->mask[VS_KIND_TAGGED] = _mm_set_epi64x((int64_t)0xff0fffffffffffff, -1);
	_Static_assert(VS_KINDS == sizeof(vs->mask) / sizeof(vs->mask[0]), "one for each");
	vs->epoch = 1;
	vs->version = 1;
	vs->now = 1;
	*out = vs;
	return 0;
}

void vs_tick(struct vswitch *vs, uint64_t now_s)
{
	const uint32_t before = vs->now;

	if (!vs->first_s)
		vs->first_s = now_s ? now_s : 1;
	/* The switch's clock starts at 1 with the first tick and never goes back. */
	if (now_s >= vs->first_s && now_s - vs->first_s + 1 > vs->now)
		vs_store(&vs->now, (uint32_t)(now_s - vs->first_s + 1));
	vs_fdb_age(vs, vs->now - before);
	vs_changed(vs);
}
