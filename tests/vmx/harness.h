/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the VMFUNC tests share: a service in a trusted context, the guest's side of a call, the
 * kernel log, physical memory to look at behind everybody's back, VMs in processes of their own.
 */
#ifndef TESTS_VMX_HARNESS_H
#define TESTS_VMX_HARNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <elisa/host.h>
#include "../lib/tinyvm.h"
#include "service.h"

/* ---- the service ---- */

#define HOST_VMS	4		/* with state of their own */
#define HOST_FILLER	(16 * 4096)	/* exported bytes that nothing ever changes */

struct host_arena {
	struct svc_vm vm[64];
	uint8_t filler[HOST_FILLER];
};

struct host {
	struct elisa_host *lib;
	struct elisa_ctx *ctx;
	struct elisa_info info;
	struct host_arena *arena;
	uint8_t *hidden;		/* a page that is not exported */
};

/* Opens the module and realizes a context with the service in it. Says what failed. */
int host_open(struct host *h);
void host_close(struct host *h);
/* Attaches process `pid` and arms `vcpus` vCPUs, with arena->vm[slot] as their cookie. */
int host_attach(struct host *h, pid_t pid, unsigned int vcpus, unsigned int slot,
		struct elisa_vm **vm);
/* A fingerprint of all that no guest may change: filler, hidden page, the service's data. */
uint64_t host_fingerprint(const struct host *h);
/* A fresh look at the module's counts. */
struct elisa_info host_info(struct host *h);

/* ---- the guest's side ---- */

enum guest_return {
	RETURN_RAW,	/* OUT at once: every register as it came back */
	RETURN_CALL,	/* as a library does it: result in %rax, an exit when an event waits, RET */
};
/* Writes entry and return page. */
void guest_pages(struct tinyvm *vm, enum guest_return kind);

struct guest_call {
	int64_t result;
	struct tvm_stop stop;
	struct kvm_regs regs;	/* after it */
};
/* One call from ring 3; false if it did not come back by the regular way. */
bool guest_call(struct tinyvm *vm, uint64_t op, uint64_t a1, uint64_t a2, uint64_t a3,
		struct guest_call *c);

/*
 * Marks pages of the VM global, or not: what of them is in the TLB survives a CR3 load. Then, from
 * ring 3: brings code and stack into the TLB, has CR3 loaded with `cr3`, and calls SVC_ECHO.
 */
void guest_make_global(struct tinyvm *vm, bool global);
struct tvm_stop guest_call_cr3(struct tinyvm *vm, uint64_t cr3);

/* ---- the gate's pages, looked at from outside ---- */

/* The physical pages that decide where the gate leads, and a fingerprint of them. */
struct gate_pages {
	uint64_t eptp, list, root, second, code;
	uint64_t hash;
};
/* Slot 2 of the list as the service reads it inside; 0: no call came through. */
uint64_t gate_eptp(struct tinyvm *vm);
bool gate_pages_find(struct tinyvm *vm, struct gate_pages *g);
/* They are as they were found, no entry of the list leads anywhere but where the module put it, and
 * the trusted slot is shut. */
bool gate_pages_sound(const struct gate_pages *g);

/* ---- the kernel's log ---- */

/* Forgets what is in it. */
int kmsg_mark(void);
/* Lines since then that a sound kernel does not print; prints them as notes. */
int kmsg_bad(void);

/* ---- physical memory ---- */

/* Reads host-physical memory through /proc/kcore. */
int phys_read(uint64_t hpa, void *to, size_t len);
/* The host-physical address of `gpa` by the EPT that `eptp` names; ~0: not mapped. */
uint64_t ept_translate(uint64_t eptp, uint64_t gpa);
/* The same of virtual address `va` by a trusted context's own page tables, root at any GPA. */
uint64_t inside_translate(uint64_t eptp, uint64_t va);

/* ---- processes ---- */

/* Descriptors this process has open. */
int count_fds(void);
/* The first `kvm-vm` descriptor of a process, duplicated here; -errno. */
int steal_kvm_fd(pid_t pid);
double seconds(void);

#endif
