/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Extended page tables of one view (gate, trusted, away) of a context.
 *
 * A view is a *template*: a complete EPT with the anywhere page table (APT) below the window and
 * everything that the context maps. Each vCPU has a *clone* of it: its own root and its own tables
 * along the path to its two private pages (EPTP list and descriptor); all other tables are the
 * template's. Writes go to the template and, where a clone has its own copy of that table, to the
 * clone as well, so a new mapping appears for every vCPU with no further step.
 *
 * Callers serialise all calls on one template. Entries change by single 64-bit stores.
 * Compiles in user space as well (tests/kmod): see ept-port.h.
 */
#ifndef ELISA_EPT_H
#define ELISA_EPT_H

#include "ept-port.h"

/* SDM vol. 3, 29.3.2 (EPT entries) and 25.6.11 (EPTP). */
#define EPT_R			(1ull << 0)
#define EPT_W			(1ull << 1)
#define EPT_X			(1ull << 2)
#define EPT_RWX			(EPT_R | EPT_W | EPT_X)
#define EPT_UC			(0ull << 3)
#define EPT_WB			(6ull << 3)
#define EPT_IGNORE_PAT		(1ull << 6)
#define EPT_LARGE		(1ull << 7)
#define EPT_SUPPRESS_VE		(1ull << 63)
#define EPT_ADDR		0x000ffffffffff000ull
#define EPT_PTES		512
#define EPT_SIZE_4K		0x1000ull
#define EPT_SIZE_2M		0x200000ull
#define EPT_SIZE_1G		0x40000000ull
/* A 4-level walk translates this many bits; a GPA beyond is an EPT violation. */
#define EPT_GPA_BITS		48

struct ept_clone {
	struct list_head node;		/* in its template */
	u64 *root, *pdpt, *pd;
	u64 *pt[2];			/* of the list's and the descriptor's 2 MiB; may be equal */
};

struct ept {
	u64 *root;
	u64 window;			/* first GPA of the window */
	u64 priv_gpa[2];		/* of the list and the descriptor; 0: a view without clones */
	u64 *apt[4];			/* [1] page table .. [3] page-directory-pointer table */
	bool large;			/* the processor has 2 MiB EPT leaves */
	struct list_head clones;
};

/* A run of physically contiguous memory. */
struct ept_run {
	u64 pa;
	u64 pages;			/* of 4 KiB */
};

/*
 * apt_root_pa: the page to which every GPA below the window translates, read-only. priv_gpa: NULL
 * for a view that has no clones. -ENOMEM leaves nothing behind.
 */
int ept_init(struct ept *ept, u64 window, u64 apt_root_pa, const u64 *priv_gpa, bool large);
/* No clone may be left, and no processor may use the tables. */
void ept_destroy(struct ept *ept);

/* Decode: makes sure that every table for the range exists. -ENOMEM leaves only empty tables. */
int ept_prepare(struct ept *ept, u64 gpa, const struct ept_run *run, size_t runs);
/* Perform: cannot fail after ept_prepare() of the same arguments. prot: EPT_R|W|X, type. */
void ept_map(struct ept *ept, u64 gpa, const struct ept_run *run, size_t runs, u64 prot);
/* Clears every leaf of the range and unhooks tables left empty; they are freed by ept_prune(),
 * which is for after the INVEPT. */
void ept_unmap(struct ept *ept, u64 gpa, u64 len);
void ept_prune(struct ept *ept, u64 gpa, u64 len);

/* list: read-write; desc: read-only, or 0 for none. */
int ept_clone_create(struct ept *ept, struct ept_clone *clone, u64 list_pa, u64 desc_pa);
/* Unhooks it: later mappings do not reach it. */
void ept_clone_unlink(struct ept_clone *clone);
void ept_clone_free(struct ept_clone *clone);

/* The EPTP of a root: write-back, 4-level walk, no accessed/dirty flags. */
u64 ept_eptp(const u64 *root);
/* The leaf entry that translates gpa below root, 0 if none; *size gets what it covers. */
u64 ept_lookup(const u64 *root, u64 gpa, u64 *size);

#endif
