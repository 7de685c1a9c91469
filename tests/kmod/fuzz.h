/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the two halves of the ioctl fuzzer share: fuzz.c makes up sequences of calls, fuzz-vms.c
 * plays the VMs that they are about. All of it may be used by any thread.
 */
#ifndef TESTS_KMOD_FUZZ_H
#define TESTS_KMOD_FUZZ_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Random numbers of the calling thread. */
extern __thread uint64_t fuzz_seed;
uint64_t rnd(void);
static inline uint64_t below(uint64_t n)
{
	return rnd() % n;
}
#define PICK(array) ((array)[below(sizeof(array) / sizeof((array)[0]))])

/* VMs that run and call all the time, and are stopped, killed, changed and replaced. */
#define PLAYERS	3
struct player {
	atomic_int fd;		/* KVM's descriptor of the VM there is now; -1: none */
	uint64_t runs, calls, away, not_armed, deaths, inside, born;
};
extern struct player players[PLAYERS];
int players_start(uint64_t seed);
void players_stop(void);

/* Memory of the arena, which may change under whoever uses it. */
char *arena_address(void);
uint64_t window_gpa(void);

#endif
