/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory. A guest names it by GPA; what it names must lie within one of its ranges. Guests
 * change their memory while it is looked at, so each field is read once, into a local.
 */
#ifndef VS_MEM_H
#define VS_MEM_H

#include "internal.h"

#define VS_READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))

#ifdef VS_MODEL
extern uint64_t vs_model_copied;
#define VS_COPIED(n) (vs_model_copied += (n))
#else
#define VS_COPIED(n) ((void)0)
#endif

/* All ones if a < b, else 0: holds in speculation too, unlike a branch. */
vs_inline uint64_t vs_mask_below(uint64_t a, uint64_t b)
{
	uint64_t mask;

	__asm__("cmp %2, %1\n\tsbb %0, %0" : "=r"(mask) : "r"(a), "rm"(b) : "cc");
	return mask;
}

/*
 * The same with the answer as a bool for the branch: one comparison serves both, since subtracting
 * a register from itself with borrow keeps the borrow.
 */
vs_inline bool vs_below(uint64_t a, uint64_t b, uint64_t *mask)
{
	bool below;

	__asm__("cmp %3, %2\n\tsbb %0, %0" : "=r"(*mask), "=@ccc"(below) : "r"(a), "rm"(b));
	return below;
}

/* `len` at most the range's own, which is VS_REGION_MIN or more. NULL: not in this range. */
vs_inline uint8_t *vs_range_at(const struct vs_range *r, uint64_t gpa, uint64_t len)
{
	uint64_t offset = gpa - r->gpa, mask;

	if (vs_unlikely(!vs_below(offset, r->len + 1 - len, &mask)) && VS_DEFENCE(range))
		return NULL;
	if (!VS_DEFENCE(mask))
		mask = UINT64_MAX;
	return r->addr + (offset & mask);
}

/* Any length: of a ring, or of a buffer whose length was bounded. `found`: the range it is in. */
vs_inline uint8_t *vs_guest_at(const struct vs_guest *guest, uint64_t gpa, uint64_t len,
			       uint32_t *found)
{
	for (uint32_t i = 0; i < guest->ranges; i++) {
		const struct vs_range *r = &guest->range[i];
		bool fits = len <= r->len || !VS_DEFENCE(length);
		uint8_t *at = fits ? vs_range_at(r, gpa, len) : NULL;

		if (at) {
			*found = i;
			return at;
		}
	}
	return NULL;
}

#define VS_ACCESS(name, type)                           \
	vs_inline type vs_get##name(const uint8_t *p)   \
	{                                               \
		type v;                                 \
		__builtin_memcpy(&v, p, sizeof(v));     \
		return v;                               \
	}                                               \
	vs_inline void vs_put##name(uint8_t *p, type v) \
	{                                               \
		__builtin_memcpy(p, &v, sizeof(v));     \
	}
VS_ACCESS(16, uint16_t)
VS_ACCESS(32, uint32_t)
VS_ACCESS(64, uint64_t)

#define VS_GET256(p)	_mm256_loadu_si256((const __m256i *)(const void *)(p))
#define VS_PUT256(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), (v))
#define VS_GET128(p)	_mm_loadu_si128((const __m128i *)(const void *)(p))
#define VS_PUT128(p, v) _mm_storeu_si128((__m128i *)(void *)(p), (v))

vs_inline void vs_copy128(uint8_t *to, const uint8_t *from)
{
	__m256i a = VS_GET256(from), b = VS_GET256(from + 32);
	__m256i c = VS_GET256(from + 64), d = VS_GET256(from + 96);

	VS_PUT256(to, a);
	VS_PUT256(to + 32, b);
	VS_PUT256(to + 64, c);
	VS_PUT256(to + 96, d);
}

/*
 * Copies in pieces whose last one overlaps the one before, so never past the end. Some bytes are
 * read twice: for payload, about which nothing was decided, that does no harm.
 */
vs_inline void vs_copy_16up(uint8_t *to, const uint8_t *from, uint64_t len)
{
	VS_COPIED(len);
	if (vs_likely(len - 32 <= 32)) {
		__m256i a = VS_GET256(from), b = VS_GET256(from + len - 32);

		VS_PUT256(to, a);
		VS_PUT256(to + len - 32, b);
		return;
	}
	if (len < 32) {
		__m128i a = VS_GET128(from), b = VS_GET128(from + len - 16);

		VS_PUT128(to, a);
		VS_PUT128(to + len - 16, b);
		return;
	}
	if (len <= 128) {
		__m256i a = VS_GET256(from), b = VS_GET256(from + 32);
		__m256i c = VS_GET256(from + len - 64), d = VS_GET256(from + len - 32);

		VS_PUT256(to, a);
		VS_PUT256(to + 32, b);
		VS_PUT256(to + len - 64, c);
		VS_PUT256(to + len - 32, d);
		return;
	}
	uint8_t *last = to + len - 128;
	const uint8_t *last_from = from + len - 128;

	do {
		vs_copy128(to, from);
		to += 128;
		from += 128;
	} while (to < last);
	vs_copy128(last, last_from);
}

/*
 * The same, but what gets there in the first 16 bytes is `header`, which was read before: stored
 * last, or together with what follows it.
 */
vs_inline void vs_copy_headed(uint8_t *to, const uint8_t *from, uint64_t len, __m128i header)
{
	if (vs_likely(len - 32 <= 32)) {
		__m256i a = VS_GET256(from), b = VS_GET256(from + len - 32);

		VS_COPIED(len);
		VS_PUT256(to + len - 32, b);
		VS_PUT256(to, _mm256_inserti128_si256(a, header, 0));
		return;
	}
	vs_copy_16up(to, from, len);
	VS_PUT128(to, header);
}

vs_inline void vs_copy(uint8_t *to, const uint8_t *from, uint64_t len)
{
	if (len >= 16) {
		vs_copy_16up(to, from, len);
		return;
	}
	VS_COPIED(len);
	if (len >= 8) {
		uint64_t a = vs_get64(from), b = vs_get64(from + len - 8);

		vs_put64(to, a);
		vs_put64(to + len - 8, b);
	} else if (len >= 4) {
		uint32_t a = vs_get32(from), b = vs_get32(from + len - 4);

		vs_put32(to, a);
		vs_put32(to + len - 4, b);
	} else if (len >= 2) {
		uint16_t a = vs_get16(from), b = vs_get16(from + len - 2);

		vs_put16(to, a);
		vs_put16(to + len - 2, b);
	} else if (len) {
		*to = *from;
	}
}

/*
 * A structure that the guest passes by its address. From here on the copy only: the compiler must
 * not look at guest memory again in its place. False: the guest has no such memory.
 */
vs_inline bool vs_copy_in(const struct vs_guest *guest, uint64_t gpa, void *to, uint64_t len)
{
	uint32_t range;
	const uint8_t *from = vs_guest_at(guest, gpa, len, &range);

	if (!from)
		return false;
	vs_copy(to, from, len);
	__asm__ volatile("" : : "r"(to) : "memory");
	return true;
}

#endif
