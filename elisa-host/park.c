/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A parked thread does nothing but lend a vCPU its identity as a thread: its FS base, and with it
 * its TLS block, and the part of its stack that it does not use. To the C code that runs inside it
 * is the current thread. From the bottom up, the mapping holds: guard page, borrowed stack, gap,
 * the parked frames, TLS, and what tls.c puts there.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

/* Values of park.word. */
#define STARTING 0
#define PARKED	 1
#define LEAVE	 2

/* Room for TLS and frames in the first try and in the last. */
#define REST_FIRST (64u << 10)
#define REST_LAST  (4u << 20)

static void futex_wait(uint32_t *word, uint32_t while_value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, while_value, NULL, NULL, 0);
}

static void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void wait_parked(struct park *p)
{
	__atomic_store_n(&p->word, PARKED, __ATOMIC_RELEASE);
	futex_wake(&p->word);
	while (__atomic_load_n(&p->word, __ATOMIC_ACQUIRE) == PARKED)
		futex_wait(&p->word, PARKED);
}

static void *parked(void *arg)
{
	struct park *p = arg;
	const struct threads *how = p->how;
	uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
	void *dtv;

	/* Mind the red zone and the frames of what is called below: a page more than the gap. */
	p->stack = (frame - ELISA_PAGE_SIZE - PARK_GAP) & ~15ULL;
	/* x86-64 psABI: %fs:0 holds its own address. */
	__asm__("mov %%fs:0, %0" : "=r"(p->fs_base));
	p->rc = how->begin ? how->begin(how->arg) : 0;
	if (p->rc) {
		wait_parked(p);
		return NULL;
	}
	if (how->tls.page) {
		dtv = tls_borrow(&how->tls, park_shared(p), p->map + p->len - how->tls.room);
		wait_parked(p);
		tls_return(dtv);
	} else {
		wait_parked(p);
	}
	if (how->end)
		how->end(how->arg);
	return NULL;
}

/* Bytes at the mapping's end for tls.c. */
static size_t copies(const struct park *p)
{
	return p->how->tls.page ? p->how->tls.room : 0;
}

static int create(struct park *p)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int rc = pthread_attr_init(&attr);

	if (rc)
		return -rc;
	rc = pthread_attr_setstack(&attr, p->map + ELISA_PAGE_SIZE,
				   p->len - ELISA_PAGE_SIZE - copies(p));
	if (!rc) {
		sigfillset(&all);
		/* A thread inherits the mask; signals are for the others. */
		pthread_sigmask(SIG_BLOCK, &all, &before);
		rc = pthread_create(&p->thread, &attr, parked, p);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	pthread_attr_destroy(&attr);
	return -rc;
}

/* -ENOSPC: `rest` was too little. */
static int try_start(struct park *p, size_t rest)
{
	int rc;

	p->len = ELISA_PAGE_SIZE + PARK_STACK + PARK_GAP + rest + copies(p);
	p->map = mmap(NULL, p->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->map == MAP_FAILED)
		return -ENOMEM;
	rc = mprotect(p->map, ELISA_PAGE_SIZE, PROT_NONE) ? -errno : 0;
	if (!rc)
		rc = create(p);
	if (rc) {
		/* EINVAL: the C library says that the TLS does not fit. */
		munmap(p->map, p->len);
		return rc == -EINVAL ? -ENOSPC : rc;
	}
	while (__atomic_load_n(&p->word, __ATOMIC_ACQUIRE) == STARTING)
		futex_wait(&p->word, STARTING);
	return 0;
}

static void leave(struct park *p)
{
	__atomic_store_n(&p->word, LEAVE, __ATOMIC_RELEASE);
	futex_wake(&p->word);
	pthread_join(p->thread, NULL);
	munmap(p->map, p->len);
	p->word = STARTING;
}

int park_start(const struct threads *how, struct park **park)
{
	struct park *p = calloc(1, sizeof(*p));
	size_t rest;
	int rc = -ENOSPC;

	if (!p)
		return -ENOMEM;
	p->how = how;
	/* How large the TLS is, the C library does not say: try. */
	for (rest = REST_FIRST; rest <= REST_LAST && rc == -ENOSPC; rest *= 4) {
		rc = try_start(p, rest);
		if (!rc && p->stack < (uintptr_t)p->map + ELISA_PAGE_SIZE + PARK_STACK) {
			leave(p);
			rc = -ENOSPC;
		}
	}
	if (rc == -ENOSPC) {
		rc = -ENOMEM;
	} else if (!rc && p->rc) {
		leave(p);
		rc = p->rc;
	}
	if (rc) {
		free(p);
		return rc;
	}
	*park = p;
	return 0;
}

void park_end(struct park *p)
{
	leave(p);
	free(p);
}
