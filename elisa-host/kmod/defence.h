/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the module defends itself, by name. DEFENCE(name) is the constant 1 in elisa.ko: no code, no
 * name, no parameter of it is there. In elisa-weak.ko, which only tests build (make WEAK=1), it is 1
 * unless the parameter "off" names it, so that each attack can be seen to succeed without the
 * defence that it is aimed at. tests/attack/red says which attack that is.
 */
#ifndef ELISA_DEFENCE_H
#define ELISA_DEFENCE_H

#ifndef ELISA_WEAK
#define DEFENCE(name)	1
#define REFUSAL(reason)	1	/* enum elisa_refusal: is it asked for? */
#else
#include <linux/bitmap.h>

#define ELISA_DEFENCES(X) \
	/* conditions for VM functions, at each entry */ \
	X(pg) X(lma) X(nxe) X(smep) X(smap) X(fsgsbase) X(avx) X(pcide) X(la57) X(pke) X(cet) X(smm) \
	X(nested) X(apicv) X(vmcs) X(dead) \
	/* a vCPU that was stopped inside goes on only as it was */ \
	X(compare_gpr) X(compare_rip) X(compare_rflags) X(compare_cr0) X(compare_cr3) \
	X(compare_cr4) X(compare_efer) X(compare_cs) X(compare_fs) X(doomed) X(hide) \
	/* exits inside */ \
	X(benign) X(vectoring) X(scrub) X(scrub_fpu) X(shutdown) X(pit) X(exit_off) X(exit_eptp) \
	X(park) X(event_flag) X(apicv_inhibit) \
	/* the EPTP list */ \
	X(gate_slot) X(unused_slots) X(root_slot) X(away) \
	/* the EPTs */ \
	X(apt) X(gate_window) X(exec_only) X(data_nx) X(code_ro) X(desc_ro) X(ignore_pat) \
	X(suppress_ve) X(map_window) X(map_private) X(map_wx) \
	/* nothing stale, nothing freed too early */ \
	X(invvpid) X(invept) X(kick) X(drain) X(pin) X(hold) X(arm_check) X(dirty) X(memory) \
	X(generation) \
	/* who may ask */ \
	X(capable) X(owner)

#define ELISA_DEFENCE_ENUM(name) elisa_defence_##name,
enum elisa_defence { ELISA_DEFENCES(ELISA_DEFENCE_ENUM) ELISA_DEFENCE_COUNT };

#define ELISA_REFUSALS	64

extern unsigned long elisa_off[BITS_TO_LONGS(ELISA_DEFENCE_COUNT)];
extern unsigned long elisa_refusals_off[BITS_TO_LONGS(ELISA_REFUSALS)];

#define DEFENCE(name)	(!test_bit(elisa_defence_##name, elisa_off))
#define REFUSAL(reason)	(!test_bit(reason, elisa_refusals_off))
#endif

#endif
