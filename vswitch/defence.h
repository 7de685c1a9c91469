/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch's defences against its guests, by name. VS_DEFENCE(name) is the constant 1; in the tests'
 * build (VS_WEAK) the environment's VS_OFF may name some that are off (tests/vswitch/weak.c), so that
 * each test is seen to fail without the defence that it is about (tests/vswitch/red).
 */
#ifndef VS_DEFENCE_H
#define VS_DEFENCE_H

#ifndef VS_WEAK
#define VS_DEFENCE(name) 1
#else
#include <stdint.h>

#define VS_DEFENCES(X)                                           \
	/* addresses and lengths that guests name */             \
	X(range) X(mask) X(length) X(run_range) X(run_length)    \
	X(buffer) X(posted) X(port_index) X(queue_index)         \
	X(ring_size) X(buf_len) X(ring_align) X(count)           \
	/* descriptors */                                        \
	X(desc_bits) X(segs) X(read_once) X(header_once)         \
	X(frame_max) X(source) X(spoof) X(offload)               \
	/* who owns what */                                      \
	X(handle) X(owner) X(tx_lock) X(ctl_lock) X(binding)     \
	X(quiesce) X(generation)                                 \
	/* what is left of one that was stopped for good */      \
	X(confirm) X(intent) X(recover) X(unlock) X(epoch)

#define VS_DEFENCE_ENUM(name) vs_defence_##name,
enum vs_defence { VS_DEFENCES(VS_DEFENCE_ENUM) VS_DEFENCE_COUNT };

/* Where the code asks for one: `constant` is the end of its 4 bytes, counted from this field. */
struct vs_defence_site {
	int32_t constant;
	uint32_t defence;
};

/*
 * In the trusted context there is no data to look it up in, and code cannot be read: it is a constant
 * of an instruction, which is changed before main().
 */
#define VS_DEFENCE(name)                                                      \
	({                                                                    \
		int on_;                                                      \
		__asm__("movl $1, %0\n1:\n\t"                                 \
			".pushsection vs_defences, \"a\", @progbits\n\t"      \
			".balign 4\n\t.long 1b - ., %c1\n\t.popsection"        \
			: "=r"(on_)                                           \
			: "i"(vs_defence_##name));                            \
		on_;                                                          \
	})
#endif

#endif
