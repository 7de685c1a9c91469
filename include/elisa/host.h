/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libelisa-host: build a trusted context out of slices of the calling process, and let VMs in.
 * Knows nothing of what the service does; see elisa-host/example/ for the smallest one.
 *
 *	elisa_host_open -> elisa_ctx_create -> elisa_export... -> elisa_ctx_realize
 *		-> elisa_vm_attach -> elisa_vm_arm (each vCPU) -> ... -> elisa_vm_detach
 *		-> elisa_ctx_destroy -> elisa_host_close
 *
 * Every function returns 0 or a count, or a negative errno, and may be called from any thread; one
 * context's functions serialise on a lock of its own. Handles are owned by the caller until the
 * named closing function. None may be used in a child after fork().
 */
#ifndef ELISA_HOST_H
#define ELISA_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <elisa/abi.h>
#include <elisa/ioctl.h>

#ifdef __cplusplus
extern "C" {
#endif

struct elisa_host;	/* the module, opened */
struct elisa_ctx;	/* a trusted context */
struct elisa_vm;	/* a VM attached to one */

/* ---- host ---- */

/* ENOENT: module not loaded; EACCES/EPERM: not root; EPROTO: module of another revision. */
int elisa_host_open(struct elisa_host **host);
void elisa_host_close(struct elisa_host *host);
int elisa_host_info(struct elisa_host *host, struct elisa_info *info);

/* ---- context ---- */

#define ELISA_R	ELISA_MAP_R
#define ELISA_W	ELISA_MAP_W
#define ELISA_X	ELISA_MAP_X
#define ELISA_DEVICE ELISA_MAP_DEVICE	/* with R or RW: a device's registers */

/*
 * `entry` is the service: called on a guest's vCPU, inside, as a thread of this process would be,
 * with the cookie given to elisa_vm_arm(). It runs with AVX at most, must not fault, block, call
 * the system, or touch what is not exported. ENOMEM, EEXIST (ELISA_GATE_VA is in use here), ...
 */
int elisa_ctx_create(struct elisa_host *host, elisa_entry_fn entry, struct elisa_ctx **ctx);

/*
 * Makes [addr, addr + len) of this process visible inside, at the same addresses. Page multiples.
 * The memory is pinned until unexported, and made present first: what can be written is from then
 * on the very memory that this process goes on using. EEXIST: part of it is exported already, or is
 * one of the fixed addresses. ENOSPC: out of window (each 1 GiB of addresses in use takes 1 GiB of
 * it). EACCES: W, but it cannot be written here. ENOMEM: part of it is not mapped. May be called
 * before and after realize.
 */
int elisa_export(struct elisa_ctx *ctx, const void *addr, size_t len, uint32_t prot);
/* Same bounds as the export. The caller sees to it that nobody inside still uses it. */
int elisa_unexport(struct elisa_ctx *ctx, const void *addr, size_t len);
/*
 * Exports the whole shared object (or executable) that `symbol` lies in, each segment with its own
 * permissions: code execute-only, relocated read-only data read-only. ENOENT: no such object;
 * ENOEXEC: it was linked with lazy binding (-z now is needed), has code and constants in one
 * segment (-z separate-code is needed) or a writable and executable one. `symbol` must be an address that
 * the object itself gave out: a program may have copies of an object's data, and stubs for its
 * functions.
 */
int elisa_export_object(struct elisa_ctx *ctx, const void *symbol);

/*
 * The same for those parts only that are named, data with the permission given. What is exported
 * already with the same permissions is left as it is: objects share libraries. Returns how many
 * ranges were exported by this call.
 */
#define ELISA_OBJECT_TEXT	(1 << 0)	/* code, execute-only */
#define ELISA_OBJECT_CONST	(1 << 1)	/* constants, and what the loader made read-only */
#define ELISA_OBJECT_DATA_R	(1 << 2)	/* variables, to be read inside */
#define ELISA_OBJECT_DATA_W	(1 << 3)	/* ... to be written, too */
int elisa_export_object_as(struct elisa_ctx *ctx, const void *symbol, uint32_t parts);
/*
 * As elisa_export(), but inside `memory` is seen at `at`: a copy in the place of pages whose own
 * contents are not for there. elisa_unexport() takes `at`.
 */
int elisa_export_at(struct elisa_ctx *ctx, const void *at, const void *memory, size_t len,
		    uint32_t prot);
/*
 * Makes thread-local variables of shared objects (general dynamic model) work inside, for objects
 * that are loaded now; what is loaded later does no harm. Those of objects loaded by dlopen() are
 * copies inside, made when the parked thread has run begin() (below), and dropped with it.
 * Before the first elisa_vm_arm(); again, after more was loaded. ENOTSUP: the C library lays them
 * out otherwise than this library knows (glibc, x86-64); EBUSY: a vCPU is armed. No other thread
 * may be loading objects meanwhile.
 */
int elisa_export_tls(struct elisa_ctx *ctx);
/*
 * Run in each parked thread, begin() before it parks and end() before it ends, such as to register
 * it with a library. begin() returns 0 or a negative errno, which elisa_vm_arm() then returns; it
 * may run more than once for one vCPU, each time with its end(). Neither may use the context: its
 * lock is held. Before the first elisa_vm_arm(). EBUSY.
 */
int elisa_ctx_thread(struct elisa_ctx *ctx, int (*begin)(void *arg), void (*end)(void *arg),
		     void *arg);

/* One exported range: inside, [addr, addr + len) is [memory, memory + len) of this process. */
struct elisa_exported {
	uint64_t addr, memory, len;
	uint32_t prot;
};
/* Calls cb() for each, by address; stops at the first that returns not 0, and returns that. */
int elisa_ctx_exports(struct elisa_ctx *ctx, int (*cb)(const struct elisa_exported *e, void *arg),
		      void *arg);
/*
 * For an address of the trusted context's window, as a kill's detail has it: what lies there, such
 * as "libfoo.so.1+0x1234 (name)". ENOENT: nothing is exported there; `buf` says which address it is.
 */
int elisa_ctx_where(struct elisa_ctx *ctx, uint64_t gpa, char *buf, size_t len);

/* Installs gate and stubs; after this VMs can be attached. EALREADY: it was done before. */
int elisa_ctx_realize(struct elisa_ctx *ctx);
/* Detaches every VM that is left ("away" for its guests), then frees all. */
void elisa_ctx_destroy(struct elisa_ctx *ctx);

/* ---- VM ---- */

/* Why an attach was refused: the module's reasons, and these of the library. */
enum elisa_host_refusal {
	ELISA_REFUSE_NO_MODULE = ELISA_REFUSE_USER,	/* /dev/elisa is missing */
	ELISA_REFUSE_NO_PROCESS,	/* no such pid */
	ELISA_REFUSE_NO_PERMISSION,	/* may not look into that process */
	ELISA_REFUSE_NO_KVM,		/* the process has no KVM VM descriptor */
	ELISA_REFUSE_MANY_VMS,		/* it has several */
	ELISA_REFUSE_NOT_SHARED,	/* guest RAM is not a shared mapping (detail: GPA) */
	ELISA_REFUSE_NO_RAM,		/* no guest RAM at all */
	ELISA_REFUSE_TOO_MANY_SLOTS,	/* more than ELISA_MAX_REGIONS pieces of RAM */
	ELISA_REFUSE_MODULE_REVISION,	/* module and library differ */
};

struct elisa_why {
	uint32_t refusal;	/* enum elisa_refusal or enum elisa_host_refusal; 0: not refused */
	uint64_t detail;	/* as the refusal says */
};
/* One sentence: what is wrong and what to do, with the detail. `buf` is returned. */
const char *elisa_why_text(const struct elisa_why *why, char *buf, size_t len);
/* Short name of a refusal ("guest-pcid", "not-shared"), for JSON and tests; never NULL. */
const char *elisa_refusal_name(uint32_t refusal);
/* Short name of a kill reason ("exit", "touched"...) and of a VM exit reason ("ept-violation"). */
const char *elisa_kill_name(uint32_t kill);
const char *elisa_exit_reason_name(uint32_t reason);

/* One piece of guest RAM: [gpa, gpa + len) is mapped and exported at `addr` of this process. */
struct elisa_region {
	uint64_t gpa, len;
	void *addr;
};
#define ELISA_MAX_REGIONS	16

#define ELISA_VM_FORCE_CPU	ELISA_ATTACH_FORCE_CPU

/*
 * Finds the KVM VM of process `pid` (pidfd_getfd), asks the module, maps the VM's RAM from its
 * memory backend's files and exports it. EPERM with `why` filled when refused; other errors have
 * why->refusal 0: EINVAL when the context is not realized, ENXIO when a backend's file is shorter
 * than its mapping, EPROTO when /proc or the module make no sense. The VM need not be paused.
 * RAM is mapped from 0x680000000000 on, each file congruent to its offsets modulo 1 GiB.
 */
int elisa_vm_attach(struct elisa_ctx *ctx, pid_t pid, uint32_t flags, struct elisa_why *why,
		    struct elisa_vm **vm);
/*
 * The same in steps, for one that has other things to do: making all RAM of a large VM present and
 * pinning it takes seconds. begin() is all but that. Each step() then is at most 32 MiB of RAM (one
 * page where pages are larger), some milliseconds: 1, there is more to do; 0, the VM is attached; or
 * an error, after which, as instead of any step, comes elisa_vm_detach(). Regions are known from
 * begin() on, but not to be used, and no vCPU can be armed (EINVAL), before it is attached.
 */
int elisa_vm_attach_begin(struct elisa_ctx *ctx, pid_t pid, uint32_t flags, struct elisa_why *why,
			  struct elisa_vm **vm);
int elisa_vm_attach_step(struct elisa_vm *vm);
/* Number of regions, with *regions pointing into `vm`. Fixed for the attachment's life. */
int elisa_vm_regions(struct elisa_vm *vm, const struct elisa_region **regions);
/*
 * Lets vCPU `vcpu_id` in: makes a parked thread, whose stack and TLS block the vCPU borrows while
 * inside, and binds it: 64 KiB of stack, and thread-local variables of the executable and of what
 * was loaded with it. `cookie` is what the entry gets. ENOENT: no such vCPU; EBUSY: armed already.
 */
int elisa_vm_arm(struct elisa_vm *vm, uint32_t vcpu_id, void *cookie);
int elisa_vm_disarm(struct elisa_vm *vm, uint32_t vcpu_id, uint32_t timeout_ms);
/*
 * Undoes attach: vCPUs are disarmed ("not attached" for the guest), RAM unexported and unmapped,
 * parked threads ended; frees `vm`. Calls under way get `timeout_ms` to end, then the VM is killed.
 * The caller has first made sure that no other VM's call still uses this VM's RAM.
 */
void elisa_vm_detach(struct elisa_vm *vm, uint32_t timeout_ms);
/*
 * Detach in steps as of elisa_vm_attach_step(): 1, there is more to do; 0, elisa_vm_detach(), which
 * has to follow, does not take long any more. From the first on the VM is no longer attached.
 */
int elisa_vm_detach_step(struct elisa_vm *vm, uint32_t timeout_ms);
/*
 * The first half of detach alone: from its return on, no vCPU of this VM is inside or can enter,
 * while its RAM is still mapped for others. Detach afterwards as usual.
 */
int elisa_vm_disarm_all(struct elisa_vm *vm, uint32_t timeout_ms);

/* A descriptor to poll: readable or in error when elisa_vm_status() has news. Owned by `vm`. */
int elisa_vm_fd(const struct elisa_vm *vm);
int elisa_vm_status(struct elisa_vm *vm, struct elisa_vm_status *status);
int elisa_vm_stats(struct elisa_vm *vm, uint32_t vcpu_id, struct elisa_vcpu_stats *stats);
/* The ids of the VM's vCPUs are 0 .. count - 1 as far as KVM numbers them so. */
int elisa_vm_kick(struct elisa_vm *vm);
pid_t elisa_vm_pid(const struct elisa_vm *vm);

/*
 * A VMM can take its VM's RAM away from under this process: make the file shorter, or punch holes into
 * one of huge pages when there are none left. Touching it here is SIGBUS. This installs a handler, for
 * the whole process, that puts zeroed memory of this process in its place; any other SIGBUS ends
 * the process as before. elisa_vm_lost() says whether that has happened to this VM: detach it then.
 */
int elisa_ram_guard(void);
bool elisa_vm_lost(const struct elisa_vm *vm);

#ifdef __cplusplus
}
#endif
#endif
