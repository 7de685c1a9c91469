/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of libelisa-host share.
 *
 *	host.c		the module's descriptor
 *	context.c	contexts: create, realize, destroy
 *	table.c		guest page tables of a context, and who has which chunk of the window
 *	export.c	exports, their books, and the module's mappings made of them
 *	object.c	exports of shared objects
 *	park.c		parked threads, whose stack and TLS a vCPU borrows
 *	tls.c		thread-local variables of shared objects
 *	process.c	what /proc says about a VMM's process
 *	ram.c		guest RAM: slots to files to mappings here
 *	vm.c		attach, arm, disarm, detach
 *	names.c		names and sentences
 *	address.c	names of addresses
 *	check.c		what a function touches that is not exported; with tracee.h
 */
#ifndef ELISA_HOST_INTERNAL_H
#define ELISA_HOST_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <elisa/host.h>

#define ELISA_PUBLIC  __attribute__((visibility("default")))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define GIB	      (1ULL << 30)

/* ---- host.c ---- */

/* The module, or the tests' model of it. */
struct elisa_device_ops {
	int (*open)(void); /* descriptor or -errno */
	/* ioctl(2) with -errno in the place of -1; `arg` is a pointer or a number. */
	int (*ioctl)(int fd, unsigned long request, void *arg);
};
extern const struct elisa_device_ops elisa_device;

struct elisa_host {
	int fd;
	const struct elisa_device_ops *ops;
	struct elisa_info info;
};
int elisa_host_open_with(const struct elisa_device_ops *ops, struct elisa_host **host);

/* ---- table.c ---- */

#define TABLE_ENTRIES	 512
#define TABLE_ROOT_SHIFT 39  /* a root entry: 512 GiB */
#define TABLE_LEAF_SHIFT 30  /* a leaf: one chunk, 1 GiB */
#define TABLE_LOW_SLOTS	 256 /* root entries of user addresses */

/* Entry bits, SDM vol. 3, tables 4-15 and 4-16: present, writable, user, accessed. */
#define TABLE_LINK 0x27ULL
/* ... and dirty, page size. Not global. */
#define TABLE_LEAF 0xe7ULL
#define TABLE_ADDR 0x000ffffffffff000ULL

/* Chunks of the window that are not given out on demand. */
#define CHUNK_PRIVATE 0 /* the chunk of ELISA_GATE_VA: gate, list, descriptor */
#define CHUNK_TABLES  1 /* second-level tables; no virtual address leads here */
#define CHUNK_FIRST   2

struct table {
	/* 1 + TABLE_LOW_SLOTS pages: the root, then the second-level table of each root slot. */
	uint64_t (*pages)[TABLE_ENTRIES];
	uint64_t window; /* GPA */
	uint32_t chunks; /* of the window */
	uint32_t *users; /* per chunk: exports, or pieces of them, that use it */
};

int table_init(struct table *t, uint64_t window_gpa, uint64_t window_size);
void table_fini(struct table *t);
static inline uint64_t *table_root(const struct table *t)
{
	return t->pages[0];
}
static inline uint64_t *table_second(const struct table *t, uintptr_t va)
{
	return t->pages[1 + (va >> TABLE_ROOT_SHIFT)];
}
/* Where the second-level table of `va` is to be mapped. */
uint64_t table_second_gpa(const struct table *t, uintptr_t va);
/* That table is mapped: link it from the root. */
bool table_linked(const struct table *t, uintptr_t va);
void table_link(struct table *t, uintptr_t va);
/* Makes the chunk of `va` have a chunk of the window and counts a user of it. -ENOSPC. */
int table_get(struct table *t, uintptr_t va);
/* Gives that back. True if it was the last user: no address of the chunk leads anywhere then. */
bool table_put(struct table *t, uintptr_t va);
/* Only for an address whose chunk has a user. */
uint64_t table_gpa(const struct table *t, uintptr_t va);
/* The other way round. 0: nothing leads there. */
uintptr_t table_va(const struct table *t, uint64_t gpa);

/* ---- context.c, export.c ---- */

struct exported {
	uintptr_t addr; /* where it is inside */
	size_t len;
	uint32_t prot;	  /* ELISA_MAP_*; 0: reserved, not mapped */
	uintptr_t memory; /* what is seen there: for most, the same address */
	bool shared;	  /* of a shared file: no write puts other pages in their place */
};
struct book {
	struct exported *all; /* sorted by address, none overlaps another */
	size_t count, room;
};
/* Index of the first export that ends above `addr`. */
size_t book_above(const struct book *b, uintptr_t addr);
/* -EEXIST, -ENOMEM. */
int book_add(struct book *b, const struct exported *e);
/* The export with these very bounds, or NULL. */
struct exported *book_find(struct book *b, uintptr_t addr, size_t len);
void book_remove(struct book *b, struct exported *e);

/* ---- tls.c ---- */

/* Thread-local variables of shared objects; `page` is NULL when they are not for inside. */
struct tls {
	uint64_t *generation; /* the loader's */
	uint64_t frozen;      /* what it is inside, for good */
	char *page;	      /* the page with it */
	uint64_t modules;     /* the largest number of a module */
	size_t room;	      /* bytes of copies that a parked thread needs, a page multiple */
};
/*
 * Gives the calling thread copies, in `room` (tls->room zeroed bytes), of all that it has outside
 * of [low, room), which are visible inside. Returns what tls_return() wants: the thread may not
 * load objects, nor end, without it.
 */
void *tls_borrow(const struct tls *tls, char *low, char *room);
void tls_return(void *own);
void tls_free(struct tls *tls);

/* ---- context.c, export.c ---- */

/* How parked threads are made. */
struct threads {
	int (*begin)(void *arg); /* NULL: none */
	void (*end)(void *arg);
	void *arg;
	struct tls tls;
};

struct elisa_ctx {
	struct elisa_host *host;
	int fd;
	pthread_mutex_t lock; /* all below */
	elisa_entry_fn entry;
	struct table table;
	struct book book;
	struct threads threads;
	void *gate, *stub; /* copies of the two pages; NULL before realize */
	struct elisa_vm *vms;
};

static inline int ctx_ioctl(struct elisa_ctx *ctx, unsigned long request, void *arg)
{
	return ctx->host->ops->ioctl(ctx->fd, request, arg);
}
/* With ctx->lock held. */
int ctx_export_at(struct elisa_ctx *ctx, const struct exported *e);
static inline int ctx_export(struct elisa_ctx *ctx, uintptr_t addr, size_t len, uint32_t prot)
{
	return ctx_export_at(ctx, &(struct exported){addr, len, prot, addr, false});
}
int ctx_unexport(struct elisa_ctx *ctx, uintptr_t addr, size_t len);
/* Some vCPU is. */
bool ctx_armed(const struct elisa_ctx *ctx);
/* Maps the second-level table of `va`; `flags` says for which context. */
int ctx_link(struct elisa_ctx *ctx, uintptr_t va, uint32_t flags);

/* gate.S */
extern const uint8_t elisa_gate_page[ELISA_PAGE_SIZE], elisa_entry_page[ELISA_PAGE_SIZE];
#ifdef ELISA_WEAK
/* weak.c, in the tests' build: the copies lose a defence. */
void weak_pages(uint8_t *gate, uint8_t *entry);
/* Whether elisa_ram_guard() is to guard nothing. */
bool weak_ram_guard(void);
#endif

/* ---- park.c ---- */

#define PARK_STACK (64u << 10) /* bytes that a vCPU inside can use */
/*
 * Between the parked frame and the borrowed stack: glibc's own signals (setuid() of another
 * thread, for one) cannot be blocked, and their frame with all vector state goes here.
 */
#define PARK_GAP (16u << 10)

struct park {
	const struct threads *how;
	pthread_t thread;
	char *map; /* the guard page, the stack with the TLS at its end, copies of more TLS */
	size_t len;
	int rc;		/* what begin() said */
	uint64_t stack; /* top of the borrowed part, 16-byte aligned */
	uint64_t fs_base;
	uint32_t word; /* futex: see park.c */
};
/* What is to be exported: all but the guard page. */
static inline void *park_shared(const struct park *p)
{
	return p->map + ELISA_PAGE_SIZE;
}
static inline size_t park_shared_len(const struct park *p)
{
	return p->len - ELISA_PAGE_SIZE;
}
/* `how` has to last as long as the thread. */
int park_start(const struct threads *how, struct park **park);
/* Nobody may be using the stack any more. */
void park_end(struct park *p);

/* ---- address.c ---- */

/*
 * Names an address of this process: "libfoo.so.1+0x1234 (name+0x4)". Returns `buf`, or NULL if it
 * lies in no shared object.
 */
const char *address_name(uint64_t addr, char *buf, size_t len);

/* ---- process.c ---- */

/* A process, held such that its pid cannot become another's. */
struct process {
	pid_t pid;
	int pidfd;
	int dir; /* /proc/PID */
};
/* -ESRCH, -EPERM... */
int process_open(pid_t pid, struct process *p);
void process_close(struct process *p);
/* Duplicates a descriptor of the process. */
int process_getfd(const struct process *p, int fd);
/* Its only KVM VM. -ENOENT: none; -EMLINK: several; -EPERM, -ESRCH. */
int process_kvm_fd(const struct process *p);

struct vma {
	uint64_t start, end, offset, inode;
	uint64_t line_start, line_end; /* as in maps, and so the name in map_files */
	uint32_t major, minor;
	bool shared, writable;
};
struct vmas {
	struct vma *all;
	size_t count;
};
/* Reads /proc/PID/maps from `dir`. Lines that make no sense are errors: -EPROTO. */
int vmas_read(int dir, struct vmas *v);
/* One line; `out` is filled. -EPROTO. */
int vma_parse(const char *line, struct vma *out);
void vmas_free(struct vmas *v);
/*
 * The file behind all of [addr, addr + len), as if one mapping covered it. -ENOENT: part of it is
 * not mapped; -EXDEV: not one file, not in one piece, or private. `out` has the first mapping's
 * identity, with start, end and offset cut to the range.
 */
int vmas_resolve(const struct vmas *v, uint64_t addr, uint64_t len, struct vma *out);
/*
 * A readable and writable descriptor of that file, from the process's own or from map_files.
 * -ENOTSUP: not a regular file (a device's memory).
 */
int process_file(const struct process *p, const struct vma *vma);

/* ---- ram.c ---- */

/*
 * Guest RAM is mapped here, each file's part that is RAM at one view of the file: base + offset,
 * where base is a multiple of 1 GiB, so that huge pages of the file can be huge in the EPT.
 */
#define RAM_AREA     0x680000000000ULL
#define RAM_AREA_END 0x700000000000ULL
#define RAM_SMALL    (64ULL << 20) /* private slots below it are not taken for RAM */
/*
 * So much is made present, pinned and mapped in one step, or given back: some 10 ms where pages are
 * small and new, and not so little that a large VM were a long list of mappings to the module.
 */
#define RAM_CHUNK    (32ULL << 20)

/* A file that has guest RAM. */
struct view {
	uint32_t major, minor;
	uint64_t inode;
	int fd;		    /* -1 once mapped */
	uint64_t align;	    /* of mappings, bytes: the page size of a hugetlbfs file */
	uint64_t low, high; /* file offsets that the view spans; low is a multiple of 1 GiB */
	char *base;	    /* address of offset `low`; NULL: not mapped yet */
	struct {
		uint64_t start, end;  /* file offsets */
	} extents[ELISA_MAX_REGIONS]; /* what is mapped; sorted, apart */
	uint32_t count;
	uint32_t extent; /* exported are all before this one... */
	uint64_t done;	 /* ...and so many bytes of it */
};
struct ram {
	uint32_t count, view_count;
	struct elisa_region regions[ELISA_MAX_REGIONS]; /* by GPA */
	struct {
		uint32_t view;
		uint64_t offset;
	} place[ELISA_MAX_REGIONS]; /* of the region with this index */
	struct view views[ELISA_MAX_REGIONS];
};
/*
 * Sorts slots out and finds the files. Sorts `slots`. -EPERM with `why` when refused. `ram` is
 * zeroed at first and needs ram_release() in any case.
 */
int ram_plan(struct ram *ram, const struct process *p, struct elisa_slot *slots, uint32_t count,
	     struct elisa_why *why);
/* Gives it addresses here, and regions theirs. */
int ram_map(struct ram *ram);
/* Exports, or unexports, one chunk of it; ctx->lock held. 1 (true): one; 0: none is left. */
int ram_export_step(struct ram *ram, struct elisa_ctx *ctx);
bool ram_unexport_step(struct ram *ram, struct elisa_ctx *ctx);
/* Undoes all. `ctx` (its lock held) is NULL when its exports are gone already. */
void ram_release(struct ram *ram, struct elisa_ctx *ctx);

/* ---- vm.c ---- */

struct vcpu {
	uint32_t id;
	struct park *park;
};
struct elisa_vm {
	struct elisa_ctx *ctx;
	struct elisa_vm *next; /* of the context */
	int fd;
	pid_t pid;
	struct ram ram;
	bool attached;	    /* all of it is exported */
	bool left;	    /* the module has let it go */
	struct vcpu *vcpus; /* the armed ones */
	size_t vcpu_count;
};
/* lost.c: its RAM's addresses are for others from now on. */
void ram_lost_forget(const struct elisa_vm *vm);
/* The context is gone from the module: frees what is left here. ctx->lock held. */
void vm_abandon(struct elisa_vm *vm);

#endif
