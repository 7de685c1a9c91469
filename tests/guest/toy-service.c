/* SPDX-License-Identifier: BSD-3-Clause */
/* A service for the tests of the local transport: what clients load, as the service does. */
#include "toy-service.h"

TOY_PUBLIC const uint64_t toy_check = TOY_CHECK;

TOY_PUBLIC int64_t toy_entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
			     uint64_t a3)
{
	struct toy_caller *c = cookie;
	const volatile uint8_t *ram = c->ram;
	uint64_t sum = 0;

	(void)ignored;
	(void)a3;
	switch (op) {
	case ELISA_OP_HELLO:
		return (int64_t)((uint64_t)ELISA_HELLO_MAGIC << 48 |
				 (uint64_t)ELISA_SERVICE_EXAMPLE << 32 | c->arena->generation);
	case ELISA_OP_NOP:
		return 0;
	case TOY_COUNT:
		__atomic_fetch_add(&c->calls, 1, __ATOMIC_RELAXED);
		return __atomic_add_fetch(&c->arena->counter, 1, __ATOMIC_RELAXED);
	case TOY_SUM:
		a1 -= c->ram_gpa;
		if (a2 > c->ram_len || a1 > c->ram_len - a2)
			return -ELISA_EFAULT;
		for (uint64_t i = 0; i < a2; i++)
			sum += ram[a1 + i];
		return (int64_t)sum;
	case TOY_PEEK:
		return *(const volatile uint8_t *)a1;
	case TOY_HANG:
		__atomic_store_n(&c->arena->hanging, 1, __ATOMIC_RELEASE);
		while (!__atomic_load_n(&c->arena->go_on, __ATOMIC_ACQUIRE))
			__builtin_ia32_pause();
		return 0;
	default:
		return -ELISA_ENOSYS;
	}
}
