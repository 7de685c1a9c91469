/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model.h"

struct model model;

void model_reset(void)
{
	memset(&model, 0, sizeof(model));
	model.window_size = MODEL_WINDOW;
	model.fail_after = -1;
}

static int new_fd(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int do_map(const struct elisa_ctx_map *m)
{
	const uint32_t views = ELISA_MAP_GATE | ELISA_MAP_TRUSTED;
	uint32_t i;

	if (m->reserved || !m->len || (m->addr | m->gpa | m->len) % ELISA_PAGE_SIZE ||
	    !(m->flags & views))
		return -EINVAL;
	if (m->flags & ELISA_MAP_W && (m->flags & ELISA_MAP_X || !(m->flags & ELISA_MAP_R)))
		return -EINVAL;
	if (m->gpa < MODEL_WINDOW || m->gpa + m->len > MODEL_WINDOW + model.window_size ||
	    model.create.list_gpa - m->gpa < m->len || model.create.desc_gpa - m->gpa < m->len)
		return -ERANGE;
	for (i = 0; i < model.map_count; i++)
		if (model.maps[i].flags & m->flags & views &&
		    m->gpa < model.maps[i].gpa + model.maps[i].len &&
		    model.maps[i].gpa < m->gpa + m->len)
			return -EEXIST;
	if (!model.fail_after)
		return model.fail_rc;
	if (model.fail_after > 0)
		model.fail_after--;
	if (model.map_count == MODEL_MAX_MAPS)
		return -ENOMEM;
	model.maps[model.map_count++] = *m;
	return 0;
}

static int do_unmap(const struct elisa_ctx_unmap *u)
{
	uint32_t i, kept = 0, before = model.map_count;

	for (i = 0; i < before; i++)
		if (model.maps[i].gpa != u->gpa || model.maps[i].len != u->len)
			model.maps[kept++] = model.maps[i];
	model.map_count = kept;
	return kept == before ? -ENOENT : 0;
}

static int do_disarm(uint32_t id)
{
	uint32_t i;

	for (i = 0; i < model.armed_count; i++) {
		if (model.armed[i].vcpu_id == id) {
			model.armed[i] = model.armed[--model.armed_count];
			return 0;
		}
	}
	return -ENOENT;
}

static int model_ioctl(int fd, unsigned long request, void *arg)
{
	struct elisa_info *info = arg;

	(void)fd;
	switch (request) {
	case ELISA_INFO:
		*info = (struct elisa_info){.revision = ELISA_IOCTL_REVISION,
					    .phys_bits = MODEL_PHYS_BITS,
					    .window_gpa = MODEL_WINDOW,
					    .window_size = model.window_size};
		return 0;
	case ELISA_CONTEXT_CREATE:
		model.create = *(struct elisa_context_create *)arg;
		return new_fd();
	case ELISA_CTX_MAP:
		return do_map(arg);
	case ELISA_CTX_UNMAP:
		return do_unmap(arg);
	case ELISA_VM_ARM:
		if (model.armed_count == ARRAY_SIZE(model.armed))
			return -ENOMEM;
		model.armed[model.armed_count++] = *(struct elisa_vm_arm *)arg;
		return 0;
	case ELISA_VM_DISARM:
		return do_disarm(((struct elisa_vm_disarm *)arg)->vcpu_id);
	case ELISA_VM_DETACH:
		model.detached++;
		model.armed_count = 0;
		return 0;
	default:
		return -ENOTTY;
	}
}

const struct elisa_device_ops model_ops = {new_fd, model_ioctl};

/* ---- walking ---- */

/* SDM vol. 3, 4.5: present, writable, user at every level; execute-disable is bit 63. */
static uint64_t guest_must_have(enum access access)
{
	return 1 | 4 | (access & WRITE ? 2 : 0);
}

static uint64_t guest_must_lack(enum access access)
{
	return access & EXEC ? 1ULL << 63 : 0;
}

/* SDM vol. 3, 28.3.2: read, write, execute. */
static uint64_t ept_must_have(enum access access)
{
	return access;
}

static uint64_t ept_must_lack(enum access access)
{
	(void)access;
	return 0;
}

#define BEYOND (0x000fffffffffffffULL & ~((1ULL << MODEL_PHYS_BITS) - 1))

const struct paging guest_paging = {
	.name = "guest",
	.present = 1,
	.must_have = guest_must_have,
	.must_lack = guest_must_lack,
	.leaf = 1 << 7,
	.reserved = {BEYOND, BEYOND, BEYOND, BEYOND | 1 << 7},
	.reserved_leaf = {BEYOND, BEYOND | 0x1fe000, BEYOND | 0x3fffe000, 0},
	.leaf_ok = {true, true, true, false},
};

const struct paging ept_paging = {
	.name = "EPT",
	.present = 7,
	.must_have = ept_must_have,
	.must_lack = ept_must_lack,
	.leaf = 1 << 7,
	.reserved = {0, 0x78, 0x78, 0xf8},
	.reserved_leaf = {0, 0x1ff000, 0x3ffff000, 0},
	.leaf_ok = {true, true, true, false},
};

bool walk(const struct paging *p, page_fn page, void *arg, uint64_t root, uint64_t va,
	  enum access access, uint64_t *out)
{
	uint64_t at = root & TABLE_ADDR;
	int level;

	for (level = 3; level >= 0; level--) {
		const uint64_t *table = page(arg, at);
		uint64_t size = 1ULL << (12 + 9 * level), e;
		bool leaf;

		if (!table)
			return false;
		e = table[va / size % 512];
		leaf = !level || (e & p->leaf && p->leaf_ok[level]);
		if (!(e & p->present) || (e & p->must_have(access)) != p->must_have(access) ||
		    e & p->must_lack(access) || e & (leaf ? p->reserved_leaf : p->reserved)[level])
			return false;
		at = e & TABLE_ADDR;
		if (leaf) {
			*out = (at & ~(size - 1)) + va % size;
			return true;
		}
	}
	return false;
}

static const uint64_t *host_page(void *arg, uint64_t hpa)
{
	(void)arg;
	return (const uint64_t *)(uintptr_t)hpa;
}

static uint64_t *new_table(void)
{
	uint64_t *t = aligned_alloc(ELISA_PAGE_SIZE, ELISA_PAGE_SIZE);

	if (!t)
		abort();
	return memset(t, 0, ELISA_PAGE_SIZE);
}

static void ept_set(struct ept *e, uint64_t gpa, uint64_t hpa, uint64_t bits)
{
	uint64_t *t = e->root;
	int level;

	for (level = 3; level; level--) {
		uint64_t *entry = &t[gpa >> (12 + 9 * level) & 511];

		if (!*entry)
			*entry = (uintptr_t)new_table() | 7;
		t = (uint64_t *)(uintptr_t)(*entry & TABLE_ADDR);
	}
	t[gpa >> 12 & 511] = hpa | bits;
}

/* Below the window every address is the root: three tables whose entries are all alike. */
static void ept_apt(struct ept *e)
{
	uint64_t *t[3] = {new_table(), new_table(), new_table()};
	int i, level;

	for (i = 0; i < 512; i++) {
		t[0][i] = model.create.root | READ | 0x70;
		for (level = 1; level < 3; level++)
			t[level][i] = (uintptr_t)t[level - 1] | READ;
	}
	for (i = 0; i < (int)(MODEL_WINDOW >> 39); i++)
		e->root[i] = (uintptr_t)t[2] | READ;
}

void ept_build(struct ept *e, uint32_t view, void *list, void *desc)
{
	uint64_t at;
	uint32_t i;

	e->root = new_table();
	ept_apt(e);
	for (i = 0; i < model.map_count; i++) {
		const struct elisa_ctx_map *m = &model.maps[i];

		if (!(m->flags & view))
			continue;
		for (at = 0; at < m->len; at += ELISA_PAGE_SIZE)
			ept_set(e, m->gpa + at, m->addr + at, (m->flags & 7) | 0x70);
	}
	ept_set(e, model.create.list_gpa, (uintptr_t)list, READ | WRITE | 0x70);
	ept_set(e, model.create.desc_gpa, (uintptr_t)desc, READ | 0x70);
}

static void free_level(uint64_t *table, int level)
{
	uint64_t last = 0;
	int i;

	for (i = 0; level && i < 512; i++) {
		/* The APT's entries repeat. */
		if (table[i] && table[i] != last)
			free_level((uint64_t *)(uintptr_t)(table[i] & TABLE_ADDR), level - 1);
		last = table[i];
	}
	free(table);
}

void ept_free(struct ept *e)
{
	free_level(e->root, 3);
}

bool ept_walk(struct ept *e, uint64_t gpa, enum access access, uint64_t *hpa)
{
	return walk(&ept_paging, host_page, NULL, (uintptr_t)e->root, gpa, access, hpa);
}

static const uint64_t *guest_page(void *arg, uint64_t gpa)
{
	uint64_t hpa;

	return ept_walk(arg, gpa, READ, &hpa) ? (const uint64_t *)(uintptr_t)hpa : NULL;
}

bool guest_walk(struct ept *e, uint64_t cr3, uint64_t va, enum access access, uint64_t *hpa)
{
	uint64_t gpa;

	return walk(&guest_paging, guest_page, e, cr3, va, access, &gpa) &&
	       ept_walk(e, gpa, access, hpa);
}
