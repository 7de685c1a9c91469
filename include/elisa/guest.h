/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libelisa-guest: call a service's trusted context. No packet here; ports are in port.h.
 *
 * Two transports:
 *	vmfunc	the real one: this program runs in a VM and enters with VMFUNC, no exit
 *	local	a FALLBACK WITHOUT ISOLATION: this program runs on the service's own host, maps the
 *		service's memory and calls the same code in-process; for machines without VT-x,
 *		development and benchmarks
 *
 * One handle per process; its calls may be made from any thread (a vCPU can be inside only once,
 * so with vmfunc there is nothing to lock; local gives each thread a caller of its own).
 */
#ifndef ELISA_GUEST_H
#define ELISA_GUEST_H

#include <stddef.h>
#include <stdint.h>
#include <elisa/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

struct elisa_guest;

/*
 * `spec`: NULL or "vmfunc", or "local[:SOCKET][,name=NAME][,ram=BYTES[K|M|G]][,huge][,gate=NS]": default
 * socket /run/elisa/local.sock; name "" or $ELISA_LOCAL_NAME: which VM the service takes it for;
 * RAM 64M or $ELISA_LOCAL_RAM; huge: 2 MiB pages or ENOMEM; gate=NS: every call spins that long
 * first, up to 1000000, in the place of the gate that local does not have (for benchmarks, which
 * have to say so); opening measures the TSC for 25 ms then.
 * ENOTCONN: this VM is not attached; ESHUTDOWN: attached, its service is away; EOPNOTSUPP: not an
 * x86-64 with AVX; EADDRINUSE: ELISA_GATE_VA is taken; EINVAL: a bad spec; for local also
 * connect(2)'s errors, the service's refusals and EPROTO.
 * `service`: enum elisa_service, EPROTO when another one answers.
 *
 * vmfunc installs a SIGILL handler that chains to the former one: it makes a call on a vCPU that is
 * not armed return -ELISA_ENOTCONN. A program that sets its own afterwards has to chain to it.
 */
int elisa_guest_open(const char *spec, uint32_t service, struct elisa_guest **guest);
/* One sentence on why this thread's last elisa_guest_open() failed, and what to do. */
const char *elisa_guest_error(void);
void elisa_guest_close(struct elisa_guest *guest);
/* "vmfunc", or "local (no isolation)"; with gate= followed by ", gate simulated by a spin of NS ns". */
const char *elisa_guest_transport(const struct elisa_guest *guest);

/*
 * As elisa_guest_open() for "local", with memory that the caller has already: `len` bytes at `addr`,
 * which are also the bytes from `offset` on of the shared file `fd`. The service and the other
 * clients map that file; an address of this memory is its GPA. `fd` is the caller's and may be
 * closed afterwards; the memory must stay until elisa_guest_close(), and the file must not become
 * shorter: see local.h. elisa_mem_alloc() of such a handle fails with EOPNOTSUPP; `ram=` and `huge`
 * of the spec mean nothing. vmfunc: `ram` is ignored, since all of a VM's memory can be reached.
 */
struct elisa_guest_ram {
	void *addr;
	size_t len;
	int fd;
	uint64_t offset;
	size_t page;		/* bytes of a page of it: 4096 or 2 MiB */
};
int elisa_guest_open_ram(const char *spec, uint32_t service, const struct elisa_guest_ram *ram,
			 struct elisa_guest **guest);

/* What HELLO answered last: see ELISA_OP_HELLO. Asks again: a changed generation means that all
 * set-up is gone. Negative: an enum elisa_error. */
int64_t elisa_guest_hello(struct elisa_guest *guest);
#define ELISA_HELLO_GENERATION(h)	((uint32_t)(h))
#define ELISA_HELLO_SERVICE(h)		((uint32_t)((uint64_t)(h) >> 32 & 0xffff))

/* The call itself: a function pointer and its first argument, so that it inlines into a loop. */
struct elisa_call {
	elisa_entry_fn fn;
	void *cookie;
};
/* For the calling thread; the struct may be kept as long as the thread and the handle live. */
int elisa_guest_call(struct elisa_guest *guest, struct elisa_call *call);

/*
 * A caller for whoever holds the struct, whatever thread that is: one at a time. For queues that
 * wander between threads. ENOSPC: too many (local: threads and these share 16, or with
 * elisa_guest_open_ram() ELISA_LOCAL_CALLERS_MAX). elisa_guest_call_del() gives it back and empties
 * the struct.
 */
int elisa_guest_call_new(struct elisa_guest *guest, struct elisa_call *call);
void elisa_guest_call_del(struct elisa_guest *guest, struct elisa_call *call);

static inline int64_t elisa_call(const struct elisa_call *c, uint64_t op, uint64_t a1, uint64_t a2,
				 uint64_t a3)
{
	return c->fn(c->cookie, op, a1, 0, a2, a3);
}

/*
 * Memory that the service can reach. vmfunc: 2 MiB hugepages of a hugetlbfs file, which outlives a
 * crash of this process until the next one with the same name takes it over, so that late writes
 * of other VMs never land in memory that the kernel gave to somebody else; its pages' GPAs come
 * from /proc/self/pagemap (root or CAP_SYS_ADMIN). local: a piece of the memory shared at open.
 * `name`: [a-z0-9-]{1,32}. `len` is rounded up; with vmfunc it may come back larger still, since a
 * leftover file is not shrunk. EBUSY: another process uses that name; ENOMEM with vmfunc: too few
 * free hugepages (vm.nr_hugepages); ENODEV: no hugetlbfs of 2 MiB pages is mounted; EPERM: no
 * CAP_SYS_ADMIN. Zeroed, but a former user's set-up may still write to it: undo that first.
 */
struct elisa_mem {
	void *addr;
	size_t len;
	size_t page;		/* bytes that are contiguous in GPA, from each multiple of it */
	const uint64_t *gpa;	/* len / page entries */
};
int elisa_mem_alloc(struct elisa_guest *guest, const char *name, size_t len,
		    struct elisa_mem **mem);
void elisa_mem_free(struct elisa_guest *guest, struct elisa_mem *mem);
/* As free, when the service did not confirm that it is done: the file stays as after a crash. */
void elisa_mem_leave(struct elisa_guest *guest, struct elisa_mem *mem);
static inline uint64_t elisa_mem_gpa(const struct elisa_mem *m, const void *p)
{
	size_t off = (size_t)((const char *)p - (const char *)m->addr);

	return m->gpa[off / m->page] + off % m->page;
}

#ifdef __cplusplus
}
#endif
#endif
