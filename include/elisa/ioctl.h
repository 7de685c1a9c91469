/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR BSD-3-Clause */
/*
 * The module's face: /dev/elisa. Three kinds of file descriptor, each owning what hangs below it:
 *
 *	device	 open("/dev/elisa")	 ELISA_INFO, ELISA_CONTEXT_CREATE
 *	context	 from CONTEXT_CREATE	 ELISA_CTX_*: a gate EPT and a trusted EPT, shared tables
 *	VM	 from CTX_ATTACH	 ELISA_VM_*: one KVM VM attached to one context; poll()
 *
 * Closing a context, or its owner's death, turns every VM attached to it "away": guests' calls are
 * answered ELISA_ESHUTDOWN by a stub of the module until the VM is attached again, or gone. Calls
 * under way end first. All need CAP_SYS_ADMIN at open; a context may be used only by the process
 * that created it (its memory is what gets mapped). Any ioctl may be called from any thread.
 *
 * Errors, for all: EFAULT bad pointer, EINVAL bad argument or a reserved field that is not zero,
 * ENOTTY unknown ioctl, ENOMEM. On a context: EACCES from another process than its creator. On a
 * VM: ESTALE when it was attached anew since (ARM also: its context is gone), ENODEV when it is gone
 * or detached (STATUS still answers). A failed ioctl leaves nothing half done.
 */
#ifndef ELISA_IOCTL_H
#define ELISA_IOCTL_H

#ifdef __KERNEL__
#include <linux/types.h>
#include <linux/ioctl.h>
#else
#include <stdint.h>
#include <sys/ioctl.h>
#include <linux/types.h>
#endif
#include <elisa/layout.h>

#define ELISA_IOCTL_REVISION	1
#define ELISA_IOC		'E'

/* ---- device ---- */

struct elisa_info {
	__u32 revision;		/* out: ELISA_IOCTL_REVISION */
	__u32 phys_bits;	/* out: width of a guest-physical address */
	__u64 window_gpa;	/* out: first GPA of the window, 1 << (phys_bits - 1) */
	__u64 window_size;	/* out: bytes */
	__u32 host_refusal;	/* out: enum elisa_refusal if this host can't attach any VM, else 0 */
	__u32 cpu_bugs;		/* out: ELISA_BUG_*: why attach asks for ELISA_ATTACH_FORCE_CPU */
	__u64 pinned_pages;	/* out: 4 KiB pages pinned by all contexts */
	__u64 contexts;		/* out: contexts alive */
	__u64 vms;		/* out: VMs attached, away or leaving */
	__u64 invept;		/* out: INVEPT broadcasts made since load */
	__u64 reserved[4];
};
#define ELISA_BUG_L1TF	(1u << 0)
#define ELISA_BUG_MDS	(1u << 1)
#define ELISA_BUG_TAA	(1u << 2)
#define ELISA_INFO		_IOR(ELISA_IOC, 0x00, struct elisa_info)

struct elisa_context_create {
	__u64 root;		/* in: address of the page-table root, a 4 KiB page of the caller */
	__u64 list_gpa;		/* in: window GPA where each vCPU finds its own EPTP list */
	__u64 desc_gpa;		/* in: window GPA where each vCPU finds its own descriptor */
	__u64 reserved[5];	/* in: 0 */
};
/*
 * Returns a context descriptor (close-on-exec). The root is pinned and becomes the anywhere page
 * table (APT) of both EPTs. list_gpa and desc_gpa must share one 1 GiB chunk of the window, which
 * is then private to each vCPU at its last level only: other pages may be mapped in it as well.
 */
#define ELISA_CONTEXT_CREATE	_IOW(ELISA_IOC, 0x01, struct elisa_context_create)

/* ---- context ---- */

#define ELISA_MAP_R		(1u << 0)
#define ELISA_MAP_W		(1u << 1)	/* needs R */
#define ELISA_MAP_X		(1u << 2)	/* never with W */
#define ELISA_MAP_TRUSTED	(1u << 4)	/* in the trusted EPT */
#define ELISA_MAP_GATE		(1u << 5)	/* in the gate EPT */
#define ELISA_MAP_DEVICE	(1u << 6)	/* device memory by PFN, uncached; not with X */

struct elisa_ctx_map {
	__u64 addr;		/* in: caller's virtual address, page aligned */
	__u64 gpa;		/* in: window GPA, page aligned */
	__u64 len;		/* in: bytes, page multiple */
	__u32 flags;		/* in: ELISA_MAP_* */
	__u32 reserved;		/* in: 0 */
};
/*
 * Pins long-term (for write when W) and maps; 2 MiB pages where address, GPA and memory allow.
 * Visible to every vCPU bound now or later. EEXIST: a page of the range is mapped already;
 * ERANGE: not in the window or over list_gpa/desc_gpa. The range may be interrupted by a signal
 * (EINTR): nothing is mapped then.
 */
#define ELISA_CTX_MAP		_IOW(ELISA_IOC, 0x10, struct elisa_ctx_map)

struct elisa_ctx_unmap {
	__u64 gpa;		/* in: as it was mapped: whole mappings only */
	__u64 len;
	__u64 reserved[2];	/* in: 0 */
};
/*
 * Unmaps one former mapping from both EPTs, kicks vCPUs out, INVEPTs on every CPU, then unpins.
 * A vCPU that is inside and touches it later is killed: the caller makes sure that none does.
 * ENOENT: no mapping with these very bounds.
 */
#define ELISA_CTX_UNMAP		_IOW(ELISA_IOC, 0x11, struct elisa_ctx_unmap)

/* Why a VM was not attached. Values are ABI; user space adds its own from 64 on (host.h). */
enum elisa_refusal {
	ELISA_REFUSE_NONE = 0,
	/* the host */
	ELISA_REFUSE_HOST_NO_VMX = 1,		/* not an Intel CPU with VT-x, or kvm_intel absent */
	ELISA_REFUSE_HOST_NO_VMFUNC = 2,	/* no EPTP switching */
	ELISA_REFUSE_HOST_NO_EPT = 3,		/* kvm_intel.ept=0, or CPU without */
	ELISA_REFUSE_HOST_NO_EXEC_ONLY = 4,	/* EPT without execute-only pages */
	ELISA_REFUSE_HOST_NO_INVEPT = 5,	/* no single-context INVEPT or INVVPID */
	ELISA_REFUSE_HOST_CPU_BUGS = 6,		/* L1TF/MDS/TAA (detail: ELISA_BUG_*), not forced */
	/* the descriptor and the VM */
	ELISA_REFUSE_NOT_KVM = 16,		/* not a KVM VM descriptor */
	ELISA_REFUSE_VM_DEAD = 17,		/* the VM is being destroyed */
	ELISA_REFUSE_ALREADY_ATTACHED = 18,	/* attached to a live context */
	ELISA_REFUSE_NO_VCPU = 19,		/* no vCPU yet */
	ELISA_REFUSE_NO_IRQCHIP = 20,		/* no in-kernel APIC */
	ELISA_REFUSE_RAM_IN_WINDOW = 21,	/* detail: GPA */
	ELISA_REFUSE_VCPU_BUSY = 22,		/* could not look at a vCPU in time (detail: id) */
	ELISA_REFUSE_LEAVING = 23,		/* a former attachment has a call still inside */
	ELISA_REFUSE_LOGGED = 24,		/* the VMM logs writes to its RAM, see ELISA_VM_LOGGED */
	/* guest CPUID: must not be there (detail: vCPU id) */
	ELISA_REFUSE_GUEST_PCID = 32,
	ELISA_REFUSE_GUEST_VMX = 33,		/* nested */
	ELISA_REFUSE_GUEST_PKU = 34,
	ELISA_REFUSE_GUEST_TSX = 35,		/* RTM or HLE */
	ELISA_REFUSE_GUEST_CET = 36,		/* SHSTK or IBT */
	ELISA_REFUSE_GUEST_UINTR = 37,
	ELISA_REFUSE_GUEST_LA57 = 38,		/* 5-level paging */
	ELISA_REFUSE_GUEST_PT = 39,		/* Intel PT */
	ELISA_REFUSE_GUEST_VPMU = 40,		/* virtual PMU, PEBS, BTS or LBR */
	/* guest CPUID: must be there (detail: vCPU id) */
	ELISA_REFUSE_GUEST_NO_LM = 48,		/* 64-bit mode and NX */
	ELISA_REFUSE_GUEST_NO_SMEP = 49,
	ELISA_REFUSE_GUEST_NO_SMAP = 50,
	ELISA_REFUSE_GUEST_NO_FSGSBASE = 51,
	ELISA_REFUSE_GUEST_NO_AVX = 52,		/* XSAVE with AVX, AVX2, PCLMULQDQ */
	ELISA_REFUSE_USER = 64,			/* first of libelisa-host's own */
};

#define ELISA_ATTACH_FORCE_CPU	(1u << 0)	/* in spite of ELISA_REFUSE_HOST_CPU_BUGS */

struct elisa_ctx_attach {
	__s32 kvm_fd;		/* in: a KVM VM descriptor; not kept, the VM is not kept alive */
	__u32 flags;		/* in: ELISA_ATTACH_* */
	__u32 refusal;		/* out, with EPERM: enum elisa_refusal */
	__u32 reserved;		/* in: 0 */
	__u64 detail;		/* out, with EPERM: see the refusal */
	__u64 reserved2[3];	/* in: 0 */
};
/*
 * Returns a VM descriptor (close-on-exec). No vCPU is armed yet. A VM that is "away" (its context
 * died) or was killed is attached anew by this. EINTR: a signal came, nothing is attached.
 */
#define ELISA_CTX_ATTACH	_IOWR(ELISA_IOC, 0x12, struct elisa_ctx_attach)

/* ---- VM ---- */

struct elisa_slot {
	__u64 gpa, size;	/* bytes */
	__u64 addr;		/* address in the VMM's process */
	__u32 flags;		/* KVM_MEM_* */
	__u32 id;		/* KVM's slot number */
};
struct elisa_vm_slots {
	__u64 slots;		/* in: address of an array of struct elisa_slot */
	__u32 count;		/* in: its capacity; out: slots there are (more: ENOSPC) */
	__u32 reserved;
};
#define ELISA_VM_SLOTS		_IOWR(ELISA_IOC, 0x20, struct elisa_vm_slots)

/*
 * The descriptor page: who this vCPU is, as the entry stub reads it. Read-only to all but the
 * module, at ELISA_DESC_VA.
 */
struct elisa_desc {
	__u32 magic;		/* ELISA_DESC_MAGIC */
	__u32 vcpu_id;
	__u64 stack;		/* top of the stack to run on, 16-byte aligned */
	__u64 fs_base;
	__u64 entry;		/* elisa_entry_fn */
	__u64 cookie;		/* its first argument */
	__u32 flags;		/* ELISA_FLAG_*, kept by the module */
	__u32 reserved;
};
#define ELISA_DESC_MAGIC	0x45445343

struct elisa_vm_arm {
	__u32 vcpu_id;		/* in: KVM's vcpu_id */
	__u32 reserved;		/* in: 0 */
	__u64 stack, fs_base, entry, cookie;	/* in: as in struct elisa_desc */
};
/* Builds the vCPU's EPTs, list and descriptor; VMFUNC works from its next VM entry on.
 * ENOENT: no such vCPU; EBUSY: armed already, or its last call was not let out yet; EPERM: the VM
 * was killed; EOPNOTSUPP: a vCPU newer than the attach whose CPUID attach would refuse. */
#define ELISA_VM_ARM		_IOW(ELISA_IOC, 0x21, struct elisa_vm_arm)

struct elisa_vm_disarm {
	__u32 vcpu_id;
	__u32 timeout_ms;	/* in: how long a call under way may take to end; then it is killed */
};
/* Calls under way end first. VMFUNC raises #UD afterwards. ENOENT: not armed. */
#define ELISA_VM_DISARM		_IOW(ELISA_IOC, 0x22, struct elisa_vm_disarm)

/* Disarms every vCPU and lets the VM go: guests see "not attached" (not "away") from then on. Use
 * before close(). Argument: timeout in ms as above. */
#define ELISA_VM_DETACH		_IOW(ELISA_IOC, 0x23, __u32)

enum elisa_kill {
	ELISA_KILL_NONE = 0,
	ELISA_KILL_EXIT = 1,		/* a VM exit inside that is not benign; code: exit reason */
	ELISA_KILL_TOUCHED = 2,		/* registers changed while stopped inside; code: which */
	ELISA_KILL_EVENT = 3,		/* an exception was to be injected inside; code: info */
	ELISA_KILL_STATE = 4,		/* left the allowed CR/EFER state inside; code: which */
	ELISA_KILL_TIMEOUT = 5,		/* did not leave in time at disarm, detach or away */
	ELISA_KILL_PARKED = 6,		/* more parked events than an APIC can have */
};

#define ELISA_VM_GONE		(1u << 0)	/* the VM's process is gone */
#define ELISA_VM_KILLED		(1u << 1)
#define ELISA_VM_RESET		(1u << 2)	/* a vCPU was seen without paging after being armed;
						 * cleared by ELISA_VM_STATUS */
#define ELISA_VM_MEMORY		(1u << 3)	/* memory slots have changed; cleared by ELISA_VM_STATUS */
/*
 * KVM logs writes to most of the VM's RAM (KVM_MEM_LOG_DIRTY_PAGES): the VMM migrates it. KVM does
 * not see what is written inside: such a VM is to be detached. Detach marks all its RAM as written
 * to, so that nothing that was written until then is lost.
 */
#define ELISA_VM_LOGGED		(1u << 4)
struct elisa_vm_status {
	__u32 state;		/* out: ELISA_VM_* */
	__u32 vcpus;		/* out: vCPUs that the VM has */
	__u32 armed;		/* out: vCPUs bound by ELISA_VM_ARM */
	__u32 inside;		/* out: vCPUs that were inside at their last exit */
	__u32 kill;		/* out: enum elisa_kill */
	__u32 kill_vcpu;	/* out */
	__u64 kill_code;	/* out: see enum elisa_kill */
	__u64 kill_qualification, kill_gpa;	/* out: of the exit, for the log */
	__u32 kill_context;	/* out: 1 gate, 2 trusted */
	__u32 pid;		/* out: VMM's pid at attach */
	__u64 reserved[4];
};
/* poll(): POLLHUP when gone, POLLERR when killed, POLLIN on an unread RESET or MEMORY. */
#define ELISA_VM_STATUS		_IOR(ELISA_IOC, 0x24, struct elisa_vm_status)

/* Makes every vCPU of this VM leave guest mode once and returns when each has. */
#define ELISA_VM_KICK		_IO(ELISA_IOC, 0x25)

#define ELISA_EXIT_REASONS	80	/* SDM vol. 3, appendix C; larger ones count in the last */
struct elisa_vcpu_stats {
	__u32 vcpu_id;		/* in */
	__u32 armed;		/* out: 1 bound and the last entry had VMFUNC on */
	__u64 entries;		/* out: VM entries since ELISA_VM_ARM */
	__u64 exits;		/* out: VM exits, all */
	__u64 exits_gate;	/* out: of them with the gate EPT current */
	__u64 exits_trusted;	/* out: of them with the trusted EPT current */
	__u64 inside_by_reason[ELISA_EXIT_REASONS];	/* out: exits_gate + exits_trusted, split */
	__u64 by_reason[ELISA_EXIT_REASONS];		/* out: all exits, split */
	__u64 parked;		/* out: events parked at an entry inside */
	__u64 delivered;	/* out: parked events injected afterwards */
	__u64 coalesced;	/* out: NMIs that fell on a parked NMI, as in hardware */
	__u64 root_changes;	/* out: entries inside at which KVM had replaced the default root */
	__u64 unarmed_entries;	/* out: entries with VMFUNC kept off by the guest's CR/EFER/XCR0 */
	__u64 unarmed_last;	/* out: which condition, ELISA_COND_* bits */
	__u64 invvpid;		/* out: because CR3 changed while stopped */
	__u64 kills;		/* out */
	__u64 reserved[4];
};
#define ELISA_COND_CR0_PG	(1u << 0)
#define ELISA_COND_LMA		(1u << 1)
#define ELISA_COND_NXE		(1u << 2)
#define ELISA_COND_SMEP		(1u << 3)
#define ELISA_COND_SMAP		(1u << 4)
#define ELISA_COND_FSGSBASE	(1u << 5)
#define ELISA_COND_AVX		(1u << 6)	/* OSXSAVE and XCR0.SSE|AVX */
#define ELISA_COND_PCIDE	(1u << 8)	/* these must be off */
#define ELISA_COND_LA57		(1u << 9)
#define ELISA_COND_PKE		(1u << 10)
#define ELISA_COND_CET		(1u << 11)
#define ELISA_COND_SMM		(1u << 12)
#define ELISA_COND_NESTED	(1u << 13)
#define ELISA_COND_APICV	(1u << 14)
#define ELISA_COND_VMCS		(1u << 15)	/* EPT, VPID or VM functions not enabled, or #VE or MBEC are */
#define ELISA_VM_STATS		_IOWR(ELISA_IOC, 0x26, struct elisa_vcpu_stats)

#ifndef __KERNEL__
_Static_assert(sizeof(struct elisa_info) == 96, "elisa_info");
_Static_assert(sizeof(struct elisa_ctx_map) == 32, "elisa_ctx_map");
_Static_assert(sizeof(struct elisa_ctx_attach) == 48, "elisa_ctx_attach");
_Static_assert(sizeof(struct elisa_desc) == 48, "elisa_desc");
#endif

#endif
