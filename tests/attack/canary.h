/* SPDX-License-Identifier: BSD-3-Clause */
/* What a victim's canary holds at each offset: the victim looks for it, and so does attack-run. */
#ifndef TESTS_ATTACK_CANARY_H
#define TESTS_ATTACK_CANARY_H

#include <stdint.h>

static inline uint8_t canary_byte(uint64_t at)
{
	const uint64_t x = (at / 8 + 1) * 0x9e3779b97f4a7c15;

	return (uint8_t)(x >> (at % 8 * 8));
}

#endif
