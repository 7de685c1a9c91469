/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every memory order that the switch relies on, and what each pairs with:
 *
 *	vs_caller.active	xchg, sequentially consistent, on entry	<-> the scan of grace.
 *				Either the scan sees the caller inside, or the caller sees
 *				what was unpublished before the scan.
 *				release on exit	<-> acquire in the scan.
 *	vs_rx.resv		acquire load, 16-byte CAS	<-> the 16-byte CAS that publishes a
 *				set-up; with UP seen, all other fields of vs_rx are valid.
 *	vs_tx.state		CAS to own it	<-> the CAS that publishes a set-up, the release
 *				store of the former owner.
 *	elisa_rx.posted		acquire	<-> the guest's release: buffer addresses are there.
 *	vs_rx.posted		release, acquire	<-> each other: what one sender saw of the above
 *				holds for the next.
 *	elisa_rxc.seq		release	<-> the guest's acquire: frame and length are there.
 *	vs_intent.queue		release before the CAS, release after the last commit	<-> nothing
 *				concurrent: it is read once the caller has been stopped for good,
 *				and then stores have taken effect in program order (x86-64).
 *	vs_caller.confirmed	CAS before the CAS on resv that hides its owner	<-> recovery reads
 *				resv first, then this.
 *	struct vs_fdb_slot	16-byte CAS	<-> 16-byte load: key and value belong together.
 *	elisa_rx.event		full barrier between the commits and the load	<-> the guest's
 *				between its store and its last look at the ring.
 *	vs_mode.flags		release after what belongs to it	<-> acquire
 *	vs_port.vlan		release after the list of VLANs	<-> acquire
 *	vs_port.mirror		release of one word that says it all	<-> acquire
 *	vs_buckets.tokens	atomic, in no order with anything
 *	vswitch.version		release add after a change	<-> acquire before what is cached
 *
 * VS_STEP() marks the gaps between these steps. The model test defines VS_MODEL and stops callers
 * in each of them; elsewhere it is nothing.
 */
#ifndef VS_BARRIER_H
#define VS_BARRIER_H

#include <stdbool.h>
#include <stdint.h>
#include <immintrin.h>

#ifdef VS_MODEL
void vs_model_step(const char *where, unsigned int line);
#define VS_STEP() vs_model_step(__func__, __LINE__)
#else
#define VS_STEP() ((void)0)
#endif

/* For a store before it and a load after it, which x86-64 would swap. */
#define vs_fence()	       __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define vs_load(p)	       __atomic_load_n((p), __ATOMIC_RELAXED)
#define vs_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define vs_store(p, v)	       __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define vs_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define vs_xchg(p, v)	       __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define vs_fetch_add(p, v)     __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define vs_fetch_and(p, v)     __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define vs_fetch_or(p, v)      __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define vs_count(p, v)	       ((void)__atomic_fetch_add((p), (v), __ATOMIC_RELAXED))
/* A counter with one writer at a time, read by others. */
#define vs_count_owned(p, v) vs_store((p), vs_load(p) + (v))
#define vs_cas(p, old, new) \
	__atomic_compare_exchange_n((p), (old), (new), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

#ifdef __SANITIZE_THREAD__
#define VS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VS_TSAN 1
#endif
#endif
#ifdef VS_TSAN
/* The sanitizer does not see into assembly: tell it what the instruction orders. */
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define vs_tsan_acquire(p) __tsan_acquire((void *)(uintptr_t)(p))
#define vs_tsan_release(p) __tsan_release((void *)(uintptr_t)(p))
#else
#define vs_tsan_acquire(p) ((void)0)
#define vs_tsan_release(p) ((void)0)
#endif

/* Keeps a pointer in a register, where the compiler would compute it again and again. */
#define vs_pin(pointer) __asm__("" : "+r"(pointer))

/* Two words that are read and changed as one. */
struct vs_pair {
	uint64_t a, b;
} __attribute__((aligned(16)));

/* Sequentially consistent. On failure `old` is what was there. */
static inline bool vs_cas_pair(struct vs_pair *p, struct vs_pair *old, struct vs_pair new)
{
	bool done;

	vs_tsan_release(p);
	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(done), "+m"(*p), "+a"(old->a), "+d"(old->b)
			 : "b"(new.a), "c"(new.b)
			 : "memory");
	vs_tsan_acquire(p);
	return done;
}

/*
 * One 16-byte load. Processors with AVX do an aligned one in a single access (SDM vol. 3, 9.1.1;
 * AMD64 APM vol. 2, 7.3.2).
 */
static inline struct vs_pair vs_load_pair(const struct vs_pair *p)
{
	struct vs_pair pair;
	__m128i v;

	__asm__ volatile("vmovdqa %1, %0" : "=x"(v) : "m"(*p) : "memory");
	vs_tsan_acquire(p);
	pair.a = (uint64_t)_mm_cvtsi128_si64(v);
	pair.b = (uint64_t)_mm_extract_epi64(v, 1);
	return pair;
}

/*
 * The cache line at `address` is wanted for writing: only fetching it would leave a copy with the
 * core that has it, and the store would have to wait for that one's end. No access: NULL will do.
 */
static inline void vs_fetch_to_write(uint64_t address)
{
	__asm__ volatile("prefetchw (%0)" : : "r"(address));
}

/* Four words next to each other, aligned, each read once. */
static inline __m256i vs_load_four(const uint64_t *p)
{
	__m256i v;

	__asm__ volatile("vmovdqa %1, %0" : "=x"(v) : "m"(*(const __m256i *)(const void *)p));
	return v;
}

#endif
