// SPDX-License-Identifier: GPL-2.0-only
/* See ept.h. Levels are numbered as in the SDM: 4 is the root (PML4), 1 holds 4 KiB leaves. */
#include "ept.h"
#include "defence.h"

#define SHIFT(level)	(12 + 9 * ((level) - 1))

static unsigned int index_of(u64 gpa, int level)
{
	return (gpa >> SHIFT(level)) & (EPT_PTES - 1);
}

/* Do two GPAs have the same entry at this level? */
static bool same(u64 a, u64 b, int level)
{
	return a >> SHIFT(level) == b >> SHIFT(level);
}

static bool present(u64 entry)
{
	return entry & EPT_RWX;
}

static bool is_leaf(u64 entry, int level)
{
	return level == 1 || (entry & EPT_LARGE);
}

/* Is the entry for gpa at this level on the way to a private page, so that clones differ? */
static bool on_private_path(const struct ept *ept, u64 gpa, int level)
{
	return ept->priv_gpa[0] &&
	       (same(gpa, ept->priv_gpa[0], level) || same(gpa, ept->priv_gpa[1], level));
}

/* The clone's own copy of the table that holds the entry for gpa at this level, if it has one. */
static u64 *clone_table(const struct ept *ept, const struct ept_clone *clone, u64 gpa, int level)
{
	int i;

	if (level == 4)
		return clone->root;
	if (!on_private_path(ept, gpa, level + 1))
		return NULL;
	if (level == 3)
		return clone->pdpt;
	if (level == 2)
		return clone->pd;
	for (i = 0; i < 2; i++)
		if (same(gpa, ept->priv_gpa[i], 2))
			return clone->pt[i];
	return NULL;
}

static void write_entry(struct ept *ept, u64 *slot, u64 gpa, int level, u64 value)
{
	struct ept_clone *clone;

	WRITE_ONCE(*slot, value);
	if (on_private_path(ept, gpa, level))
		return;
	list_for_each_entry(clone, &ept->clones, node) {
		u64 *table = clone_table(ept, clone, gpa, level);

		if (table)
			WRITE_ONCE(table[index_of(gpa, level)], value);
	}
}

/*
 * The one walker. Returns the template's entry for gpa at `level`, or the large leaf above it
 * (then *found is that leaf's level). With create, tables that lack are added; else, and when
 * memory lacks, NULL.
 */
static u64 *walk(struct ept *ept, u64 gpa, int level, bool create, int *found)
{
	u64 *table = ept->root, *slot, *next;
	int at;

	for (at = 4; ; at--) {
		slot = &table[index_of(gpa, at)];
		*found = at;
		if (at == level || (present(*slot) && is_leaf(*slot, at)))
			return slot;
		if (!present(*slot)) {
			if (!create)
				return NULL;
			next = ept_page_alloc();
			if (!next)
				return NULL;
			write_entry(ept, slot, gpa, at, ept_page_pa(next) | EPT_RWX);
		}
		table = ept_page_va(*slot & EPT_ADDR);
	}
}

static u64 leaf_of(u64 pa, u64 prot, int level)
{
	return pa | prot | (DEFENCE(ignore_pat) ? EPT_IGNORE_PAT : 0) |
	       (DEFENCE(suppress_ve) ? EPT_SUPPRESS_VE : 0) | (level > 1 ? EPT_LARGE : 0);
}

/* ---- the APT: everything below the window leads to one page ---- */

static void apt_free(struct ept *ept)
{
	int level;

	for (level = 1; level <= 3; level++)
		if (ept->apt[level])
			ept_page_free(ept->apt[level]);
}

static int apt_init(struct ept *ept, u64 root_pa)
{
	u64 below = leaf_of(root_pa, EPT_R | EPT_WB, 1);
	u64 *half;
	int level, i;

	if (!DEFENCE(apt))
		return 0;
	for (level = 1; level <= 3; level++) {
		ept->apt[level] = ept_page_alloc();
		if (!ept->apt[level])
			return -ENOMEM;
		for (i = 0; i < EPT_PTES; i++)
			ept->apt[level][i] = below;
		below = ept_page_pa(ept->apt[level]) | EPT_R;
	}
	for (i = 0; i < (int)(ept->window >> SHIFT(4)); i++)
		ept->root[i] = below;
	if (ept->window & ((1ull << SHIFT(4)) - 1)) {
		/* The window begins inside one root entry: its table serves both. */
		half = ept_page_alloc();
		if (!half)
			return -ENOMEM;
		for (i = 0; i < (int)index_of(ept->window, 3); i++)
			half[i] = ept_page_pa(ept->apt[2]) | EPT_R;
		ept->root[index_of(ept->window, 4)] = ept_page_pa(half) | EPT_RWX;
	}
	return 0;
}

static bool is_apt(const struct ept *ept, u64 entry, int level)
{
	u64 *table = ept->apt[level - 1];

	return table && (entry & EPT_ADDR) == ept_page_pa(table);
}

/* ---- life ---- */

static void free_below(struct ept *ept, u64 *table, int level)
{
	int i;

	for (i = 0; level > 1 && i < EPT_PTES; i++)
		if (present(table[i]) && !is_leaf(table[i], level) && !is_apt(ept, table[i], level))
			free_below(ept, ept_page_va(table[i] & EPT_ADDR), level - 1);
	ept_page_free(table);
}

int ept_init(struct ept *ept, u64 window, u64 apt_root_pa, const u64 *priv_gpa, bool large)
{
	int i, found, err = -ENOMEM;

	memset(ept, 0, sizeof(*ept));
	INIT_LIST_HEAD(&ept->clones);
	ept->window = window;
	ept->large = large;
	ept->root = ept_page_alloc();
	if (!ept->root)
		return -ENOMEM;
	err = apt_init(ept, apt_root_pa);
	if (err)
		goto fail;
	for (i = 0; priv_gpa && i < 2; i++) {
		ept->priv_gpa[i] = priv_gpa[i];
		if (!walk(ept, priv_gpa[i], 1, true, &found)) {
			err = -ENOMEM;
			goto fail;
		}
	}
	return 0;
fail:
	ept_destroy(ept);
	return err;
}

void ept_destroy(struct ept *ept)
{
	if (ept->root)
		free_below(ept, ept->root, 4);
	apt_free(ept);
	ept->root = NULL;
}

/* ---- mapping ---- */

/* The level of the leaf at gpa, for memory at pa of which `left` bytes remain. */
static int leaf_level(struct ept *ept, u64 gpa, u64 pa, u64 left)
{
	u64 *slot;
	int found;

	if (!ept->large || ((gpa | pa) & (EPT_SIZE_2M - 1)) || left < EPT_SIZE_2M)
		return 1;
	slot = walk(ept, gpa, 2, false, &found);
	return slot && present(*slot) ? 1 : 2;
}

/* Both halves of mapping visit the same leaves: with prot 0 tables are made, else leaves set. */
static int visit(struct ept *ept, u64 gpa, const struct ept_run *run, size_t runs, u64 prot)
{
	size_t i;

	for (i = 0; i < runs; i++) {
		u64 pa = run[i].pa, left = run[i].pages * EPT_SIZE_4K;

		while (left) {
			int found, level = leaf_level(ept, gpa, pa, left);
			u64 step = 1ull << SHIFT(level);
			u64 *slot = walk(ept, gpa, level, !prot, &found);

			if (!slot)
				return -ENOMEM;
			if (prot)
				write_entry(ept, slot, gpa, level, leaf_of(pa, prot, level));
			gpa += step;
			pa += step;
			left -= step;
		}
		cond_resched();
	}
	return 0;
}

int ept_prepare(struct ept *ept, u64 gpa, const struct ept_run *run, size_t runs)
{
	return visit(ept, gpa, run, runs, 0);
}

void ept_map(struct ept *ept, u64 gpa, const struct ept_run *run, size_t runs, u64 prot)
{
	visit(ept, gpa, run, runs, prot);
}

static bool is_empty(const u64 *table)
{
	int i;

	for (i = 0; i < EPT_PTES; i++)
		if (table[i])
			return false;
	return true;
}

void ept_unmap(struct ept *ept, u64 gpa, u64 len)
{
	u64 end = gpa + len, *slot, *pde;
	int found;

	while (gpa < end) {
		slot = walk(ept, gpa, 1, false, &found);
		if (slot)
			write_entry(ept, slot, gpa, found, 0);
		gpa += slot && found == 2 ? EPT_SIZE_2M : EPT_SIZE_4K;
		if (gpa < end && (gpa & (EPT_SIZE_2M - 1)))
			continue;
		cond_resched();
		if (!slot || found != 1 || on_private_path(ept, gpa - 1, 2))
			continue;
		/* Not present, but the address stays for ept_prune(). */
		pde = walk(ept, gpa - 1, 2, false, &found);
		if (is_empty(ept_page_va(*pde & EPT_ADDR)))
			write_entry(ept, pde, gpa - 1, 2, *pde & EPT_ADDR);
	}
}

void ept_prune(struct ept *ept, u64 gpa, u64 len)
{
	u64 end = gpa + len, *pde, *table;
	int found;

	for (gpa &= ~(EPT_SIZE_2M - 1); gpa < end; gpa += EPT_SIZE_2M) {
		pde = walk(ept, gpa, 2, false, &found);
		if (!pde || found != 2 || present(*pde) || !*pde)
			continue;
		table = ept_page_va(*pde & EPT_ADDR);
		write_entry(ept, pde, gpa, 2, 0);
		ept_page_free(table);
	}
}

/* ---- clones ---- */

static u64 *copy_table(const u64 *from)
{
	u64 *to = ept_page_alloc();

	if (to)
		memcpy(to, from, EPT_SIZE_4K);
	return to;
}

static u64 *table_at(struct ept *ept, u64 gpa, int level)
{
	u64 *table = ept->root;
	int at;

	for (at = 4; at > level; at--)
		table = ept_page_va(table[index_of(gpa, at)] & EPT_ADDR);
	return table;
}

int ept_clone_create(struct ept *ept, struct ept_clone *clone, u64 list_pa, u64 desc_pa)
{
	const u64 *gpa = ept->priv_gpa;
	bool one_pt = same(gpa[0], gpa[1], 2);
	u64 desc_prot = DEFENCE(desc_ro) ? 0 : EPT_W;
	int i;

	memset(clone, 0, sizeof(*clone));
	INIT_LIST_HEAD(&clone->node);
	clone->root = copy_table(ept->root);
	clone->pdpt = copy_table(table_at(ept, gpa[0], 3));
	clone->pd = copy_table(table_at(ept, gpa[0], 2));
	clone->pt[0] = copy_table(table_at(ept, gpa[0], 1));
	clone->pt[1] = one_pt ? clone->pt[0] : copy_table(table_at(ept, gpa[1], 1));
	if (!clone->root || !clone->pdpt || !clone->pd || !clone->pt[0] || !clone->pt[1]) {
		ept_clone_free(clone);
		return -ENOMEM;
	}
	clone->root[index_of(gpa[0], 4)] = ept_page_pa(clone->pdpt) | EPT_RWX;
	clone->pdpt[index_of(gpa[0], 3)] = ept_page_pa(clone->pd) | EPT_RWX;
	for (i = 0; i < 2; i++)
		clone->pd[index_of(gpa[i], 2)] = ept_page_pa(clone->pt[i]) | EPT_RWX;
	clone->pt[0][index_of(gpa[0], 1)] = leaf_of(list_pa, EPT_R | EPT_W | EPT_WB, 1);
	if (desc_pa)
		clone->pt[1][index_of(gpa[1], 1)] = leaf_of(desc_pa, EPT_R | desc_prot | EPT_WB, 1);
	list_add_tail(&clone->node, &ept->clones);
	return 0;
}

void ept_clone_unlink(struct ept_clone *clone)
{
	if (clone->root)
		list_del_init(&clone->node);
}

void ept_clone_free(struct ept_clone *clone)
{
	u64 *page[5] = { clone->root, clone->pdpt, clone->pd, clone->pt[0],
			 clone->pt[1] == clone->pt[0] ? NULL : clone->pt[1] };
	int i;

	for (i = 0; i < 5; i++)
		if (page[i])
			ept_page_free(page[i]);
	memset(clone, 0, sizeof(*clone));
}

u64 ept_eptp(const u64 *root)
{
	return ept_page_pa(root) | ELISA_EPTP_LOW;
}

u64 ept_lookup(const u64 *root, u64 gpa, u64 *size)
{
	const u64 *table = root;
	int level;

	for (level = 4; ; level--) {
		u64 entry = READ_ONCE(table[index_of(gpa, level)]);

		*size = 1ull << SHIFT(level);
		if (!present(entry))
			return 0;
		if (is_leaf(entry, level))
			return entry;
		table = ept_page_va(entry & EPT_ADDR);
	}
}
