/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR BSD-3-Clause */
/*
 * /dev/attack-watch on the host: looks at the trusted contexts from behind, at the page tables that
 * the processor walks and at the pages that they lead to. For tests; changes nothing, but for
 * WATCH_FLIP.
 */
#ifndef TESTS_ATTACK_WATCH_ABI_H
#define TESTS_ATTACK_WATCH_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define WATCH_CHUNKS	48
#define WATCH_VCPUS	4

/* 1 GiB of the window in which something is mapped. */
struct watch_chunk {
	__u64 gpa;
	__u64 fixed, open;	/* bytes mapped without and with W */
	__u64 map_fixed;	/* hash of addresses and EPT entries without W */
	__u64 content;		/* hash of what those lead to */
	__u64 map_open;		/* hash of those with W, wherever they lead to */
	__u64 map_all;		/* hash of all addresses and EPT entries */
};

/* What all vCPUs of a context share: no guest may change anything of it. */
struct watch_context {
	__s32 kvm_fd;		/* in: a VM attached to it */
	__u32 gate;		/* in: 1 the gate's EPT, 0 the trusted one */
	__u32 count;		/* out */
	__u32 reserved;
	__u64 below;		/* out: hash of what is mapped below the window (the APT) */
	struct watch_chunk chunk[WATCH_CHUNKS];
};

/* A vCPU's own. */
struct watch_vcpu {
	__s32 kvm_fd;		/* in */
	__u32 index;		/* in: KVM's index */
	__u32 mode, inside;	/* out */
	__u64 gate_eptp, trusted_eptp;	/* out */
	__u64 desc;		/* out: hash of the descriptor but for its flags */
	__u64 gate;		/* out: hash of all that the gate's EPT maps in the window */
	__u64 gate_pages;	/* out: bytes of it */
	__u64 list[512];	/* out: the EPTP list */
};

/* Which byte WATCH_FLIP changes: a test of the watching itself. A second flip puts it back. */
enum watch_flip {
	WATCH_FLIP_CODE,	/* first byte of the first page without W of the trusted EPT */
	WATCH_FLIP_TABLE,	/* a page-table entry of the trusted context */
	WATCH_FLIP_SLOT,	/* an unused slot of the list of vCPU 0 */
	WATCH_FLIP_EPT,		/* the X bit of an EPT leaf */
};
struct watch_flip_args {
	__s32 kvm_fd;
	__u32 what;
};

/* ENOENT: that VM is not attached, or has no such vCPU armed. */
#define WATCH_CONTEXT	_IOWR('A', 0x10, struct watch_context)
#define WATCH_VCPU	_IOWR('A', 0x11, struct watch_vcpu)
#define WATCH_FLIP	_IOW('A', 0x12, struct watch_flip_args)

#endif
