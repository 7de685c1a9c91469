/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where things are: the fixed addresses and offsets of the gate page, the EPTP list and the
 * per-vCPU descriptor. Shared by the module, libelisa-host, libelisa-guest and assembly code,
 * hence numbers only.
 *
 * One virtual page, ELISA_GATE_VA, has three faces: the guest's entry page in the default
 * context, the gate in the gate context, the entry and exit stubs in the trusted context. VMFUNC
 * changes the face under the instruction pointer.
 */
#ifndef ELISA_LAYOUT_H
#define ELISA_LAYOUT_H

/* Above 4 GiB, so that 32-bit code cannot reach it; the number has no other meaning. */
#define ELISA_GATE_VA		0x5e117a000000
#define ELISA_PAGE_SIZE		4096

/*
 * The gate arms the trusted slot with "movb $0x1e, disp32(%rip)" whose displacement is
 * 0xcccccccc, so that its bytes are int3 when entered askew. The list's address follows from it:
 * gate offset of the next instruction - 0x33333334 = list + 8 * ELISA_SLOT_TRUSTED.
 */
#define ELISA_LIST_VA		(ELISA_GATE_VA - 0x33333000)
#define ELISA_DESC_VA		(ELISA_LIST_VA + 0x1000)

/* Slots of the EPTP list (SDM vol. 3, 26.5.6.3: 512 entries of 8 bytes). */
#define ELISA_SLOT_DEFAULT	0
#define ELISA_SLOT_GATE		2
#define ELISA_SLOT_TRUSTED	0x90
/* EPTP low byte that makes the slot valid: write-back, 4-level walk, no accessed/dirty flags. */
#define ELISA_EPTP_LOW		0x1e

/* Offsets in the gate page. A guest's VMFUNC ends where the gate's first instruction begins. */
#define ELISA_GATE_OFFSET	0x7ab
#define ELISA_ENTRY_OFFSET	0x7bb	/* first instruction of the entry stub */
#define ELISA_VMFUNC_LEN	3
/* The exit stub's VMFUNC is the last instruction of the page: the guest goes on here. */
#define ELISA_RETURN_VA		(ELISA_GATE_VA + ELISA_PAGE_SIZE)
/* A guest's call target in its entry page: xor %eax,%eax; mov $2,%ecx; vmfunc. */
#define ELISA_CALL_LEN		10
#define ELISA_CALL_VA		(ELISA_GATE_VA + ELISA_GATE_OFFSET - ELISA_CALL_LEN)
#define ELISA_GUEST_VMFUNC_VA	(ELISA_GATE_VA + ELISA_GATE_OFFSET - ELISA_VMFUNC_LEN)

/* Offsets in the descriptor page (struct elisa_desc in ioctl.h). */
#define ELISA_DESC_STACK	0x08
#define ELISA_DESC_FS_BASE	0x10
#define ELISA_DESC_ENTRY	0x18
#define ELISA_DESC_COOKIE	0x20
#define ELISA_DESC_FLAGS	0x28

/* Bits of ELISA_DESC_FLAGS and of the flags a call returns in %r11. */
#define ELISA_FLAG_EVENT	1	/* an event is parked: make any VM exit soon */

#endif
