/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Delivery into a receiver's ring, and what is left of it when the sender is stopped for good.
 *
 *	reserve	note in the caller what is about to be taken, then take it with one CAS on the
 *		ring's tail. The CAS leaves who took it beside the tail.
 *	copy	straight from the sender's memory into the posted buffers, the last frame first
 *	commit	a release store of each completion's sequence number
 *	tell	if the receiver may sleep: what is to be rung, see bell.c
 *
 * Recovery has to know whether the CAS of a stopped caller X took place. Beside the tail it says
 * who reserved last. Whoever reserves after X sees X there, and before its own CAS hides that, it
 * writes into X's `confirmed` that it took place. So X's reservation number s took place if and
 * only if the ring names (X, s) or X's `confirmed` is at least s. Then those slots are X's alone,
 * and the ones whose completion does not bear their number are not committed: recovery commits
 * them as aborted.
 */
#include "offload.h"

#define VS_RESERVE_TRIES 16
#define VS_CONFIRM_TRIES 8

struct vs_taken {
	uint32_t first; /* slot, free-running */
	uint32_t frames, slots;
};

vs_inline uint32_t slots_of(uint32_t len, uint32_t buf_len)
{
	return vs_likely(len <= buf_len) ? 1 : (len + buf_len - 1) / buf_len;
}

/* How many whole frames fit. */
vs_inline void fit(const struct vs_load_of *load, uint32_t buf_len, uint32_t available,
		   struct vs_taken *taken)
{
	if (vs_likely(load->longest <= buf_len)) {
		taken->slots = load->count < available ? load->count : available;
		taken->frames = taken->slots;
		return;
	}
	taken->slots = 0;
	for (taken->frames = 0; taken->frames < load->count; taken->frames++) {
		uint32_t more = slots_of(load->frame[taken->frames].len, buf_len);

		if (more > available - taken->slots)
			break;
		taken->slots += more;
	}
}

/* Whoever is named beside the tail did reserve: say so where it survives our CAS. */
vs_inline bool confirm(const struct vs_caller *self, uint64_t owner)
{
	uint64_t id = owner & 0xffff, seq = owner >> 16, known;
	uint64_t *confirmed;

	if (vs_likely(id == self->id) || !id)
		return true;
	confirmed = &self->vs->callers[id - 1].confirmed;
	known = vs_load_acquire(confirmed);
	for (int i = 0; known < seq; i++) {
		if (i == VS_CONFIRM_TRIES)
			return false;
		VS_STEP();
		vs_cas(confirmed, &known, seq);
	}
	return true;
}

/*
 * One attempt. 0: got it; an enum elisa_drop that all frames meet; or AGAIN, with what is there
 * now.
 */
#define VS_AGAIN ELISA_DROP_COUNT
vs_inline unsigned int reserve_once(struct vs_caller *caller, struct vs_rx *rx,
				    const struct vs_load_of *load, struct vs_pair *now,
				    struct vs_taken *taken)
{
	struct vs_intent *intent = &caller->intent;
	struct vs_pair next;
	uint32_t available;
	uint64_t seq;

	if (vs_unlikely(!(now->a & VS_UP)))
		return ELISA_DROP_RX_LINK_DOWN;
	VS_STEP();
	/* What somebody saw last mostly does: the receiver's core has the line of the real count.
	 */
	available = vs_load_acquire(&rx->posted) - (uint32_t)now->a;
	if (vs_unlikely(available < load->count) || vs_unlikely(available > rx->size) ||
	    vs_unlikely(load->longest > rx->buf_len)) {
		uint32_t posted = vs_load_acquire(&rx->ring->posted);

		VS_STEP();
		vs_store_release(&rx->posted, posted);
		available = posted - (uint32_t)now->a;
	}
	if (vs_unlikely(available > rx->size) && VS_DEFENCE(posted)) {
		struct vs_pair seen = *now;

		/* Senseless, unless the tail that it was compared with is an old one. */
		VS_STEP();
		*now = vs_load_pair(&rx->resv);
		return now->a == seen.a ? ELISA_DROP_RX_BAD_RING : VS_AGAIN;
	}
	fit(load, rx->buf_len, available, taken);
	if (vs_unlikely(!taken->frames))
		return ELISA_DROP_RX_NO_BUFFER;
	VS_STEP();
	if (VS_DEFENCE(confirm) && vs_unlikely(!confirm(caller, now->b))) {
		*now = vs_load_pair(&rx->resv);
		return VS_AGAIN;
	}
	seq = caller->seq + 1;
	taken->first = (uint32_t)now->a;
	vs_store_release(&caller->seq, seq);
	vs_store_release(&intent->word, now->a);
	vs_store_release(&intent->seq, seq);
	vs_store_release(&intent->count, taken->slots);
	VS_STEP();
	vs_store_release(&intent->rx, VS_DEFENCE(intent) ? rx : NULL);
	VS_STEP();
	next.a = (now->a >> 32 << 32) | (uint32_t)((uint32_t)now->a + taken->slots);
	next.b = seq << 16 | caller->id;
	if (vs_likely(vs_cas_pair(&rx->resv, now, next)))
		return 0;
	VS_STEP();
	vs_store_release(&intent->rx, NULL);
	VS_STEP();
	return VS_AGAIN;
}

static vs_noinline unsigned int reserve_again(struct vs_caller *caller, struct vs_rx *rx,
					      const struct vs_load_of *load, struct vs_taken *taken)
{
	struct vs_pair now = vs_load_pair(&rx->resv);

	*taken = (struct vs_taken){0, 0, 0};
	for (int i = 1; i < VS_RESERVE_TRIES; i++) {
		unsigned int drop = reserve_once(caller, rx, load, &now, taken);

		if (drop != VS_AGAIN)
			return drop;
	}
	return ELISA_DROP_RX_CONTENDED;
}

/* The first eight bytes, then, with release, hash and sequence number. */
vs_inline void commit(struct elisa_rxc *comp, uint32_t index, uint64_t len_flags, uint64_t hash)
{
	uint64_t *word = (uint64_t *)(void *)comp;

	VS_STEP();
	vs_store(&word[0], len_flags | hash >> 32 << 16);
	VS_STEP();
	vs_store_release(&word[1], (uint64_t)(index + 1) << 32 | (uint32_t)hash);
	VS_STEP();
}

static vs_noinline uint8_t *buffer_at(const struct vs_rx *rx, uint64_t gpa)
{
	uint32_t range;

	return vs_guest_at(rx->guest, gpa, rx->buf_len, &range);
}

void vs_copy_pieces(uint8_t *to, struct vs_from *from, uint64_t len)
{
	while (len) {
		uint64_t part = from->seg->len - from->at;

		if (part > len)
			part = len;
		vs_copy(to, from->seg->data + from->at, part);
		to += part;
		len -= part;
		from->at += part;
		if (from->at == from->seg->len) {
			from->seg++;
			from->at = 0;
		}
	}
}

/* A checksum to be stored: where in the frame, and its bytes in their order. */
struct vs_checksum {
	uint32_t at;
	uint16_t sum;
};

/* Before the frame is copied: committed buffers are the receiver's. */
static void checksum_of(struct vs_checksum *c, const struct vs_seg *seg, uint32_t len)
{
	const uint32_t udp_offset = 6;

	c->at = vs_csum_at(&seg->offload);
	c->sum = vs_csum(seg, seg->offload.csum_start, len);
	/* RFC 768: 0 would mean that there is none. */
	if (!c->sum && c->at - seg->offload.csum_start == udp_offset)
		c->sum = 0xffff;
}

/* As far as it lies among bytes [first, first + len) of the frame, which begin at `to`. */
static void put_checksum(uint8_t *to, uint32_t first, uint32_t len, const struct vs_checksum *c)
{
	for (uint32_t i = 0; i < 2; i++)
		if (c->at + i - first < len)
			to[c->at + i - first] = (uint8_t)(c->sum >> 8 * i);
}

static void skip_pieces(struct vs_from *from, uint64_t len)
{
	for (from->at += len; from->at >= from->seg->len; from->seg++)
		from->at -= from->seg->len;
}

/*
 * The first `part` bytes of a frame, with its header as it was checked, or as it is with its tag
 * changed. 14 bytes at least.
 */
static void copy_first(uint8_t *to, const struct vs_frame *frame, struct vs_from *from,
		       uint64_t part, int32_t shift)
{
	uint64_t high = (uint64_t)_mm_cvtsi128_si64(_mm_bsrli_si128(frame->header, 8));

	if (shift > 0) {
		/* The addresses are in the header; behind them is what the sender has. */
		if (part > 16) {
			skip_pieces(from, 12);
			vs_copy_pieces(to + 16, from, part - 16);
		}
	} else {
		if (shift < 0)
			skip_pieces(from, (uint64_t)-shift);
		vs_copy_pieces(to, from, part);
	}
	if (!VS_DEFENCE(header_once))
		return;
	vs_put64(to, (uint64_t)_mm_cvtsi128_si64(frame->header));
	if (part >= 16) {
		vs_put64(to + 8, high);
		return;
	}
	vs_put64(to + 6, (uint64_t)_mm_cvtsi128_si64(_mm_bsrli_si128(frame->header, 6)));
	if (part == 15)
		to[14] = (uint8_t)(high >> 48);
}

/*
 * Any frame: in pieces, over several buffers, with something to do. After a bad buffer the rest of
 * the frame's slots are aborted too, so that the receiver does not take them for a frame.
 */
static vs_noinline bool copy_any(struct vs_rx *rx, const struct vs_load_of *load,
				 const struct vs_frame *frame, uint32_t index, uint32_t slots)
{
	uint64_t hash = load->hash ? load->hash[frame - load->frame] : 0;
	/* The frame's own length bounds what is taken of it. */
	struct vs_seg whole = {frame->data, UINT16_MAX, {0, 0, 0}};
	struct vs_from from = {frame->segs ? &load->segs[frame->seg] : &whole, 0};
	struct vs_offload offload =
		frame->segs & VS_SEGS_RAW ? (struct vs_offload){0, 0, 0} : from.seg->offload;
	uint32_t buf_len = rx->buf_len, left = frame->len;
	uint32_t lacks = vs_lacks(vs_load(&rx->features), offload.flags);
	struct vs_checksum checksum = {UINT32_MAX / 2, 0};
	/* Frames were cut up before, unless the queue was set up between then and now. */
	bool good = !(lacks & (ELISA_NET_F_TSO4 | ELISA_NET_F_TSO6));

	if (lacks) {
		checksum_of(&checksum, from.seg, left - (uint32_t)load->shift);
		checksum.at += (uint32_t)load->shift;
		offload = (struct vs_offload){0, 0, 0};
		vs_count_owned(load->filled, 1);
	}
	if (offload.flags & ELISA_NET_CSUM)
		offload.csum_start += (uint16_t)load->shift;
	for (uint32_t i = 0; i < slots; i++) {
		uint64_t meta = i ? 0
				  : (uint64_t)offload.gso_size << 48 |
						(uint64_t)offload.csum_start << 32 |
						(uint32_t)offload.flags << 16;
		struct elisa_rxc *comp = &rx->comp[(index + i) & rx->mask];
		uint32_t part = left < buf_len ? left : buf_len;
		uint8_t *to = NULL;

		if (good)
			to = buffer_at(rx, vs_load(&rx->ring->addr[(index + i) & rx->mask]));
		if (!to) {
			good = false;
			commit(comp, index + i, ELISA_RXC_ABORTED << 16, 0);
			continue;
		}
		if (i)
			vs_copy_pieces(to, &from, part);
		else
			copy_first(to, frame, &from, part, load->shift);
		put_checksum(to, frame->len - left, part, &checksum);
		left -= part;
		commit(comp, index + i, meta | part | (i + 1 < slots ? ELISA_NET_MORE << 16 : 0),
		       i ? 0 : hash);
	}
	return good;
}

/* The fill_*() functions return what could not be delivered after all. */
static vs_noinline struct vs_delivered fill_any(struct vs_rx *rx, const struct vs_load_of *load,
						struct vs_taken taken)
{
	struct vs_delivered lost = {0, 0};
	uint32_t index = taken.first;

	for (uint32_t i = 0; i < taken.frames; i++) {
		const struct vs_frame *frame = &load->frame[i];
		uint32_t slots = slots_of(frame->len, rx->buf_len);

		if (!copy_any(rx, load, frame, index, slots)) {
			lost.frames++;
			lost.bytes += frame->len;
		}
		index += slots;
	}
	return lost;
}

/*
 * A frame in one piece into one buffer; `len` is its own, of 16 bytes at least, and so much is
 * there of the sender's. `shift` as in vs_load_of, constant on the fast path.
 */
vs_inline void copy_whole(uint8_t *to, const struct vs_frame *frame, uint64_t len, int32_t shift)
{
	if (!VS_DEFENCE(header_once) && !shift) {
		vs_copy_16up(to, frame->data, len);
	} else if (shift > 0) {
		vs_copy_16up(to + shift, frame->data, len - (uint32_t)shift);
		VS_PUT128(to, frame->header);
	} else {
		vs_copy_headed(to, frame->data - shift, len, frame->header);
	}
}

/* Into a buffer that is not in the receiver's longest range of memory; or nowhere. */
static vs_noinline bool fill_elsewhere(struct vs_rx *rx, const struct vs_frame *frame,
				       uint32_t index, uint64_t hash, int32_t shift)
{
	struct elisa_rxc *comp = &rx->comp[index & rx->mask];
	uint8_t *to = buffer_at(rx, vs_load(&rx->ring->addr[index & rx->mask]));

	if (!to) {
		commit(comp, index, ELISA_RXC_ABORTED << 16, 0);
		return false;
	}
	copy_whole(to, frame, frame->len, shift);
	commit(comp, index, frame->len, hash);
	return true;
}

/*
 * The buffers of slots [index, index + count), if they lie in the receiver's longest range of
 * memory, else NULL. Also fetches them, the last one first: the receiver's core had them last, and
 * stores would wait for one after the other.
 *
 * Four at a time, from a multiple of four on: up to three slots of the ring at either end are
 * looked at in vain. The buffer of slot i is buffer[i - index / 4 * 4].
 */
#define VS_FOUR 4
vs_inline void locate(const struct vs_rx *rx, uint32_t index, uint32_t count, uint64_t *buffer)
{
	const struct vs_range *range = &rx->guest->range[0];
	const __m256i base = _mm256_set1_epi64x((int64_t)range->gpa);
	const __m256i last = _mm256_set1_epi64x((int64_t)(range->len - rx->buf_len));
	const __m256i addr = _mm256_set1_epi64x((int64_t)range->addr);
	const uint64_t *posted = &rx->ring->addr[index & rx->mask & -VS_FOUR];
	uint64_t i = ((index & (VS_FOUR - 1)) + count + VS_FOUR - 1) & -VS_FOUR;

	do {
		__m256i at, outside;

		i -= VS_FOUR;
		at = _mm256_sub_epi64(vs_load_four(&posted[i]), base);
		outside = _mm256_or_si256(_mm256_cmpgt_epi64(at, last),
					  _mm256_cmpgt_epi64(_mm256_setzero_si256(), at));
		if (!VS_DEFENCE(buffer))
			outside = _mm256_setzero_si256();
		at = _mm256_andnot_si256(outside, _mm256_add_epi64(at, addr));
		_mm256_store_si256((__m256i *)(void *)&buffer[i], at);
		vs_fetch_to_write(buffer[i + 3]);
		vs_fetch_to_write(buffer[i + 2]);
		vs_fetch_to_write(buffer[i + 1]);
		vs_fetch_to_write(buffer[i]);
	} while (i);
}

/*
 * The usual case: each frame in one piece, into one buffer, with no end of the ring in between.
 * `hashed` and `shift` are constant where this is used: frames without hashes do not pay for them,
 * nor those whose tags stay.
 *
 * The last frame goes first: a receiver that waits for the first completion leaves the cache lines
 * of the others alone until all are written, and then finds the whole burst.
 */
vs_inline void fill_stretch(struct vs_rx *rx, const struct vs_frame *first, const uint64_t *hash,
			    bool hashed, int32_t shift, uint32_t count, uint32_t index,
			    struct vs_delivered *lost)
{
	uint64_t buffers[VS_BATCH + 2 * VS_FOUR] __attribute__((aligned(32)));
	const uint64_t *buffer = &buffers[(index & (VS_FOUR - 1)) + count];
	const struct vs_frame *frame = first + count;
	uint64_t *comp = (uint64_t *)(void *)&rx->comp[(index & rx->mask) + count];
	uint64_t seq = (uint64_t)(index + count + 1) << 32, step = 1ull << 32;

	locate(rx, index, count, buffers);
	/* Kept in a register: it is no immediate. */
	__asm__("" : "+r"(step));
	if (hashed)
		hash += count;
	do {
		uint64_t len = (--frame)->len, with = hashed ? *--hash : 0;
		uint8_t *to = (uint8_t *)*--buffer;

		seq -= step;
		comp -= 2;
		if (vs_unlikely(!to)) {
			if (!fill_elsewhere(rx, frame, (uint32_t)(seq >> 32) - 1, with, shift)) {
				lost->frames++;
				lost->bytes += len;
			}
		} else {
			copy_whole(to, frame, len, shift);
			VS_STEP();
			vs_store(&comp[0], len | with >> 32 << 16);
			VS_STEP();
			vs_store_release(&comp[1], seq | (uint32_t)with);
			VS_STEP();
		}
	} while (frame != first);
}

vs_inline struct vs_delivered fill_single(struct vs_rx *rx, const struct vs_load_of *load,
					  const struct vs_taken *taken, bool hashed, int32_t shift)
{
	struct vs_delivered lost = {0, 0};
	uint32_t left = taken->frames;

	/* Twice at most: what lies beyond the end of the ring, then what lies before. */
	do {
		uint32_t count = ((taken->first + left - 1) & rx->mask) + 1;

		if (vs_likely(count > left))
			count = left;
		left -= count;
		fill_stretch(rx, load->frame + left, hashed ? load->hash + left : NULL, hashed,
			     shift, count, taken->first + left, &lost);
	} while (vs_unlikely(left));
	return lost;
}

static vs_noinline struct vs_delivered fill_hashed(struct vs_rx *rx, const struct vs_load_of *load,
						   struct vs_taken taken)
{
	return fill_single(rx, load, &taken, true, 0);
}

static vs_noinline struct vs_delivered fill_pushed(struct vs_rx *rx, const struct vs_load_of *load,
						   struct vs_taken taken)
{
	if (load->hash)
		return fill_single(rx, load, &taken, true, 4);
	return fill_single(rx, load, &taken, false, 4);
}

static vs_noinline struct vs_delivered fill_popped(struct vs_rx *rx, const struct vs_load_of *load,
						   struct vs_taken taken)
{
	if (load->hash)
		return fill_single(rx, load, &taken, true, -4);
	return fill_single(rx, load, &taken, false, -4);
}

/*
 * Before they are there: the CAS has just emptied the core's store buffer, and a locked instruction
 * after the copying would wait until that is all over at the receiver's lines.
 */
vs_inline struct vs_delivered count_taken(struct vs_rx *rx, const struct vs_load_of *load,
					  uint32_t frames)
{
	struct vs_delivered sum = {frames, 0};

#pragma GCC unroll 8
	for (const struct vs_frame *f = load->frame; f != load->frame + frames; f++)
		sum.bytes += f->len;
	vs_count(&rx->frames, sum.frames);
	vs_count(&rx->bytes, sum.bytes);
	return sum;
}

static vs_noinline void count_lost(struct vs_rx *rx, struct vs_delivered lost)
{
	vs_count(&rx->frames, -lost.frames);
	vs_count(&rx->bytes, -lost.bytes);
	vs_rx_drop(rx, ELISA_DROP_RX_BAD_ADDR, lost.frames);
}

/* A receiver that does not look at its ring by itself. */
static vs_noinline void attend(struct vs_caller *caller, struct vs_port *to, struct vs_rx *rx)
{
	const struct vs_nic *nic = vs_load(&to->nic);

	if (nic)
		caller->kick |= 1u << (nic - caller->vs->nics);
	if (vs_load(&rx->features) & ELISA_NET_F_EVENT)
		vs_bell_tell(caller, rx);
}

/* Frames from `first` on are dropped at `to`. Nothing is reserved. */
static vs_noinline void drop_rest(struct vs_caller *caller, struct vs_port *to, struct vs_rx *rx,
				  const struct vs_load_of *load, uint32_t first, unsigned int why)
{
	vs_rx_drop(rx, why, load->count - first);
	if (vs_load(&to->extras) & VS_EXTRA_DROPS)
		vs_mirror(caller, to, load, first, load->count, vs_dropped(why));
}

struct vs_delivered vs_deliver(struct vs_caller *caller, struct vs_port *to, unsigned int queue,
			       const struct vs_load_of *load)
{
	struct vs_rx *rx = &to->queue[queue].rx;
	struct vs_delivered done = {0, 0}, lost;
	struct vs_taken taken;
	struct vs_pair now;
	unsigned int drop = ELISA_DROP_RX_LINK_DOWN;

	vs_pin(rx);
	if (vs_likely(vs_load(&to->up))) {
		now.a = vs_load_acquire(&rx->resv.a);
		now.b = vs_load(&rx->resv.b);
		drop = reserve_once(caller, rx, load, &now, &taken);
		if (vs_unlikely(drop == VS_AGAIN)) {
			struct vs_taken later;

			/* Not &taken: it is to stay in registers. */
			drop = reserve_again(caller, rx, load, &later);
			taken = later;
		}
	}
	if (vs_unlikely(drop)) {
		drop_rest(caller, to, rx, load, 0, drop);
		return done;
	}
	VS_STEP();
	done = count_taken(rx, load, taken.frames);
	if (vs_unlikely(load->pieces || load->longest > rx->buf_len))
		lost = fill_any(rx, load, taken);
	else if (vs_unlikely(load->shift))
		lost = load->shift > 0 ? fill_pushed(rx, load, taken)
				       : fill_popped(rx, load, taken);
	else if (vs_unlikely(load->hash != NULL))
		lost = fill_hashed(rx, load, taken);
	else
		lost = fill_single(rx, load, &taken, false, 0);
	if (vs_unlikely(vs_load(&rx->features) & (ELISA_NET_F_EVENT | VS_F_NIC)))
		attend(caller, to, rx);
	vs_store_release(&caller->intent.rx, NULL);
	VS_STEP();
	if (vs_unlikely(vs_load(&to->extras) & VS_EXTRA_RX))
		vs_mirror(caller, to, load, 0, taken.frames, VS_GOT);
	if (vs_unlikely(taken.frames != load->count))
		drop_rest(caller, to, rx, load, taken.frames, ELISA_DROP_RX_NO_BUFFER);
	if (vs_unlikely(lost.frames)) {
		count_lost(rx, lost);
		done.frames -= lost.frames;
		done.bytes -= lost.bytes;
	}
	return done;
}

/*
 * `caller` was stopped for good. It counts as inside until this is over, so the receiver cannot
 * have its ring back before.
 */
void vs_recover_intent(struct vswitch *vs, struct vs_caller *caller)
{
	struct vs_intent *intent = &caller->intent;
	struct vs_rx *rx = intent->rx;
	uint64_t owner = intent->seq << 16 | caller->id;
	struct vs_pair now;

	(void)vs;
	if (!rx)
		return;
	now = vs_load_pair(&rx->resv);
	intent->rx = NULL;
	if (now.b != owner && vs_load_acquire(&caller->confirmed) < intent->seq)
		return;
	/* Taken down since: the guest gets its ring back as it is and begins anew. */
	if (!(now.a & VS_UP) || now.a >> 33 != intent->word >> 33)
		return;
	for (uint32_t i = 0; i < intent->count; i++) {
		uint32_t index = (uint32_t)intent->word + i;
		struct elisa_rxc *comp = &rx->comp[index & rx->mask];

		/* Already reused? Then it had been committed and consumed. */
		if ((uint32_t)now.a - index > rx->size)
			continue;
		if (vs_load_acquire(&comp->seq) == index + 1)
			continue;
		commit(comp, index, ELISA_RXC_ABORTED << 16, 0);
		vs_rx_drop(rx, ELISA_DROP_RX_ABORTED, 1);
	}
	/* It did not get to that, perhaps. */
	vs_bell_owe(rx);
}
