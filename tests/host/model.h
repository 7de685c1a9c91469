/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A software model of the module, for tests without VT-x: takes the same ioctls, keeps what they
 * map, and builds both EPTs of it as a CPU would walk them, host-physical addresses being addresses
 * of this process. And one walker, for these and for guest page tables.
 */
#ifndef TESTS_HOST_MODEL_H
#define TESTS_HOST_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "internal.h"

#define MODEL_PHYS_BITS 40
#define MODEL_WINDOW	(1ULL << (MODEL_PHYS_BITS - 1))
#define MODEL_MAX_MAPS	256

struct model {
	uint64_t window_size;
	struct elisa_context_create create;
	struct elisa_ctx_map maps[MODEL_MAX_MAPS];
	uint32_t map_count;
	struct elisa_vm_arm armed[8];
	uint32_t armed_count;
	uint32_t detached; /* calls of ELISA_VM_DETACH */
	int fail_after;	   /* so many CTX_MAPs succeed, then... ; -1: all do */
	int fail_rc;	   /* ...this */
};
extern struct model model;
extern const struct elisa_device_ops model_ops;
void model_reset(void);

/* ---- walking ---- */

enum access { READ = 1, WRITE = 2, EXEC = 4 };

/* One kind of page tables, all of four levels of 512 entries of 8 bytes. */
struct paging {
	const char *name;
	uint64_t present; /* one of these: present */
	/* What each level's entry must have, and must not have, per access. */
	uint64_t (*must_have)(enum access access);
	uint64_t (*must_lack)(enum access access);
	uint64_t leaf;		   /* marks a leaf above the last level */
	uint64_t reserved[4];	   /* per level, [3] is the root's; reserved if no leaf */
	uint64_t reserved_leaf[4]; /* and in leaves */
	bool leaf_ok[4];
};
extern const struct paging guest_paging, ept_paging;

/* Address of the page at `addr` of the space that tables live in, for reading; NULL: fault. */
typedef const uint64_t *(*page_fn)(void *arg, uint64_t addr);
/* Where `va` leads; false: it faults. */
bool walk(const struct paging *p, page_fn page, void *arg, uint64_t root, uint64_t va,
	  enum access access, uint64_t *out);

struct ept {
	uint64_t *root;
};
/* Of all that is mapped in the model now. `view`: ELISA_MAP_GATE or ELISA_MAP_TRUSTED. */
void ept_build(struct ept *e, uint32_t view, void *list, void *desc);
void ept_free(struct ept *e);
bool ept_walk(struct ept *e, uint64_t gpa, enum access access, uint64_t *hpa);
/* A guest's access at `va` with `cr3`, in user mode. */
bool guest_walk(struct ept *e, uint64_t cr3, uint64_t va, enum access access, uint64_t *hpa);

#endif
