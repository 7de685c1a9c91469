/* SPDX-License-Identifier: BSD-3-Clause */
/* What another process or thread does becomes true sooner or later: within 5 s. After cmocka.h. */
#ifndef TESTS_GUEST_EVENTUALLY_H
#define TESTS_GUEST_EVENTUALLY_H

#include <time.h>

static inline void nap_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

#define EVENTUALLY(condition)                                    \
	do {                                                     \
		for (int i_ = 0; i_ < 500 && !(condition); i_++) \
			nap_ms(10);                              \
		assert_true(condition);                          \
	} while (0)

#endif
