/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checksums and segmentation: what each receiver gets, byte by byte, against frames that this test
 * builds on its own: a segment is built like any frame, from what it is to say.
 */
#include "harness.h"
#include <cmocka.h>

#define MTU	  9000
#define SLOTS	  1024
#define FRAME_LEN (ELISA_GSO_FRAME_MAX + 64)
#define CSUM	  ELISA_NET_F_CSUM
#define TSO4	  ELISA_NET_F_TSO4
#define TSO6	  ELISA_NET_F_TSO6
#define FIN	  0x01
#define PSH	  0x08
#define ACK	  0x10
#define CWR	  0x80

/* What a frame says, beside its payload. */
struct spec {
	bool v6, udp;
	unsigned int tags;	/* 0 .. 2 */
	unsigned int options;	/* words after the IPv4 header; 8-byte units of an IPv6 one */
	unsigned int tcp_words; /* of options */
	uint16_t id;
	uint32_t seq;
	uint8_t tcp_flags;
	uint32_t seed; /* of the payload */
};

struct got {
	uint32_t len;
	uint16_t flags, csum_start, gso_size;
	bool aborted;
	uint8_t data[FRAME_LEN];
};

struct peer {
	struct t_guest *g;
	uint32_t features, buf_len;
};

static struct t_switch t;
static struct t_guest *a;
static struct peer peer[10];
static struct got got;
static uint8_t frame[FRAME_LEN], expected[FRAME_LEN];
static uint64_t tx_at, tx_room; /* GPAs: where the next frame goes, and of all there is for it */

/* ---- frames ---- */

static uint32_t sum16(uint32_t sum, const uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++) {
		sum += i & 1 ? p[i] : p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static void be16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint8_t payload_byte(const struct spec *s, uint32_t i)
{
	return (uint8_t)((s->seed + i) * 2654435761u >> 13);
}

static uint32_t l4_of(const struct spec *s)
{
	return 14 + 4 * s->tags + (s->v6 ? 40 + 8 * s->options : 20 + 4 * s->options);
}

static uint32_t headers_of(const struct spec *s)
{
	return l4_of(s) + (s->udp ? 8 : 20 + 4 * s->tcp_words);
}

static uint16_t csum_field(const struct spec *s)
{
	return s->udp ? 6 : 16;
}

static uint8_t *put_l2(uint8_t *p, const struct spec *s, const uint8_t dst[6])
{
	memcpy(p, dst, 6);
	memcpy(p + 6, a->mac, 6);
	p += 12;
	for (unsigned int i = 0; i < s->tags; i++, p += 4) {
		be16(p, i + 1 < s->tags ? 0x88a8 : 0x8100);
		be16(p + 2, 100 + i);
	}
	be16(p, s->v6 ? 0x86dd : 0x0800);
	return p + 2;
}

static uint8_t *put_ip(uint8_t *p, const struct spec *s, uint32_t l4_len)
{
	uint8_t proto = s->udp ? 17 : 6;

	if (s->v6) {
		memset(p, 0, 40);
		p[0] = 0x60;
		be16(p + 4, 8 * s->options + l4_len);
		p[6] = s->options ? 60 : proto;
		p[7] = 64;
		for (int i = 8; i < 40; i++)
			p[i] = (uint8_t)(i * 11);
		p += 40;
		if (s->options) {
			memset(p, 0, 8 * s->options);
			p[0] = proto;
			p[1] = (uint8_t)(s->options - 1);
		}
		return p + 8 * s->options;
	}
	memset(p, 1, 20 + 4 * s->options);
	p[0] = (uint8_t)(0x45 + s->options);
	be16(p + 2, 20 + 4 * s->options + l4_len);
	be16(p + 4, s->id);
	be16(p + 6, 0x4000);
	p[9] = proto;
	be16(p + 10, 0);
	for (int i = 12; i < 20; i++)
		p[i] = (uint8_t)(i * 13);
	be16(p + 10, (uint16_t)~sum16(0, p, 20 + 4 * s->options));
	return p + 20 + 4 * s->options;
}

/*
 * A frame with `len` bytes of payload from `from` on. `partial`: the checksum is left to do.
 * Returns its length.
 */
static uint32_t build(uint8_t *to, const struct spec *s, const uint8_t dst[6], uint32_t from,
		      uint32_t len, bool partial)
{
	uint32_t l4 = l4_of(s), l4_len = headers_of(s) - l4 + len, sum;
	uint8_t *ip = put_l2(to, s, dst), *p = put_ip(ip, s, l4_len), *field = p + csum_field(s);
	uint8_t proto_len[4] = {0, s->udp ? 17 : 6, (uint8_t)(l4_len >> 8), (uint8_t)l4_len};

	memset(p, 3, headers_of(s) - l4);
	if (s->udp) {
		be16(p + 4, l4_len);
	} else {
		be16(p + 4, (uint16_t)(s->seq >> 16));
		be16(p + 6, (uint16_t)s->seq);
		p[12] = (uint8_t)((5 + s->tcp_words) << 4);
		p[13] = s->tcp_flags;
	}
	for (uint32_t i = 0; i < len; i++)
		to[headers_of(s) + i] = payload_byte(s, from + i);
	sum = s->v6 ? sum16(0, ip + 8, 32) : sum16(0, ip + 12, 8);
	sum = sum16(sum, proto_len, 4);
	be16(field, sum);
	if (!partial) {
		sum = (uint16_t)~sum16(0, p, l4_len);
		be16(field, s->udp && !sum ? 0xffff : sum);
	}
	return headers_of(s) + len;
}

/* ---- sending and receiving ---- */

static uint32_t dice;
static uint32_t roll(uint32_t n)
{
	dice = dice * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(dice >> 4) * n >> 28);
}

/* Puts the frame into the ring in `pieces` pieces of odd lengths. Returns the descriptors. */
static uint32_t put(const uint8_t *data, uint32_t len, uint32_t pieces, uint16_t flags,
		    uint16_t start, uint16_t gso)
{
	struct t_queue *q = &a->q[0];
	uint32_t at = 0, first = q->tx_next, least = (len + 65534) / 65535;

	tx_at += roll(64);
	if (pieces < least)
		pieces = least;
	for (uint32_t i = 0; i < pieces; i++) {
		uint32_t left = len - at, part = left;

		if (i + 1 < pieces && left > pieces - i)
			part = 1 + roll(2 * left / (pieces - i) - 1);
		if (part > left - (pieces - 1 - i))
			part = left - (pieces - 1 - i);
		if (part > 65535)
			part = 65535;
		memcpy(t_at(a, tx_at), data + at, part);
		t_desc(q, tx_at, (uint16_t)part, i + 1 < pieces ? ELISA_NET_MORE : 0);
		at += part;
		tx_at += part + roll(3);
	}
	assert_int_equal(at, len);
	q->txd[first % q->tx_size].flags |= flags;
	q->txd[first % q->tx_size].csum_start = start;
	q->txd[first % q->tx_size].gso_size = gso;
	return pieces;
}

static int64_t send_all(uint32_t descs)
{
	tx_at = tx_room;
	return t_send(a, 0, descs);
}

/* One frame of at least as many bytes as pieces. */
static void send_frame(const uint8_t *data, uint32_t len, uint32_t pieces, uint16_t flags,
		       uint16_t start, uint16_t gso)
{
	uint32_t n = put(data, len, pieces, flags, start, gso);

	assert_int_equal(send_all(n), n);
}

static bool receive(struct peer *p)
{
	struct t_queue *q = &p->g->q[0];
	uint32_t slots = 0;
	bool more = true;

	got.len = 0;
	got.aborted = false;
	for (; more; slots++) {
		uint32_t index = q->rx_next + slots;
		struct elisa_rxc *c = &q->comp[index % q->rx_size];

		if (__atomic_load_n(&c->seq, __ATOMIC_ACQUIRE) != index + 1)
			return false;
		if (!slots) {
			got.flags = c->flags & (uint16_t)~ELISA_NET_MORE;
			got.csum_start = c->csum_start;
			got.gso_size = c->gso_size;
		} else {
			assert_int_equal(c->flags & ~ELISA_NET_MORE, 0);
			assert_int_equal(c->csum_start | c->gso_size, 0);
		}
		more = c->flags & ELISA_NET_MORE;
		assert_true(more ? c->len == q->buf_len : c->len <= q->buf_len);
		memcpy(got.data + got.len, t_at(p->g, q->rx->addr[index % q->rx_size]), c->len);
		got.len += c->len;
	}
	q->rx_next += slots;
	t_post(q, slots);
	return true;
}

static void expect(struct peer *p, uint32_t len, uint16_t flags, uint16_t start, uint16_t gso)
{
	assert_true(receive(p));
	assert_int_equal(got.len, len);
	assert_int_equal(got.flags, flags);
	assert_int_equal(got.csum_start, start);
	assert_int_equal(got.gso_size, gso);
	assert_memory_equal(got.data, expected, len);
}

static void expect_nothing(void)
{
	for (unsigned int i = 0; i < 10; i++)
		assert_false(receive(&peer[i]));
}

static uint16_t request(const struct spec *s, uint16_t gso)
{
	uint16_t flags = (uint16_t)(ELISA_NET_CSUM | csum_field(s) << ELISA_NET_CSUM_OFFSET);

	if (gso)
		flags |= s->v6 ? ELISA_NET_TSO6 : ELISA_NET_TSO4;
	if (gso && s->tcp_flags & CWR)
		flags |= ELISA_NET_ECN;
	return flags;
}

/* What this receiver must get of a frame with `len` bytes of payload, sent with this request. */
static void expect_frame(struct peer *p, const struct spec *s, const uint8_t dst[6], uint32_t len,
			 uint16_t flags, uint16_t gso)
{
	bool csum = flags & ELISA_NET_CSUM, partial = csum && p->features & CSUM;
	uint16_t start = (uint16_t)l4_of(s), one = (uint16_t)(request(s, 0));
	uint32_t all = s->v6 ? TSO6 : TSO4;

	if (!gso || p->features & all) {
		uint32_t n = build(expected, s, dst, 0, len, partial);

		expect(p, n, partial ? flags : 0, partial ? start : 0, partial ? gso : 0);
		return;
	}
	for (uint32_t at = 0, i = 0; at < len; at += gso, i++) {
		struct spec seg = *s;
		uint32_t part = len - at < gso ? len - at : gso, n;

		seg.seq += at;
		seg.id = (uint16_t)(seg.id + i);
		if (at + part < len)
			seg.tcp_flags &= (uint8_t) ~(FIN | PSH);
		if (i && flags & ELISA_NET_ECN)
			seg.tcp_flags &= (uint8_t)~CWR;
		n = build(expected, &seg, dst, at, part, partial);
		expect(p, n, partial ? one : 0, partial ? start : 0, 0);
	}
}

static void try_one(struct peer *p, const struct spec *s, uint32_t len, uint32_t pieces,
		    uint16_t flags, uint16_t gso)
{
	uint32_t n = build(frame, s, p->g->mac, 0, len, flags & ELISA_NET_CSUM);

	send_frame(frame, n, pieces, flags, flags ? (uint16_t)l4_of(s) : 0, gso);
	expect_frame(p, s, p->g->mac, len, flags, gso);
}

static int setup(void **state)
{
	const uint32_t features[] = {0, CSUM, CSUM | TSO4, CSUM | TSO6, CSUM | TSO4 | TSO6};
	struct vs_port_config cfg;
	struct t_guest *g;

	(void)state;
	t_create(&t, 1024);
	for (unsigned int i = 0; i < 11; i++) {
		uint32_t buf_len = i % 2 ? 256 : 2048;

		g = t_guest(&t, false);
		cfg = t_port_config(&t, g);
		cfg.mtu = MTU;
		t_port_set(&t, g, &cfg);
		assert_true(t_setup(g, 0, 512, SLOTS, buf_len) > 0);
		if (i == 10) {
			a = g;
			continue;
		}
		struct elisa_queue_setup *s = t_at(g, g->q[0].setup);

		peer[i] = (struct peer){g, features[i / 2], buf_len};
		s->features = features[i / 2];
		g->q[0].handle = t_call(g, ELISA_NET_QUEUE_SETUP, g->q[0].setup, 0);
		assert_true(g->q[0].handle > 0);
		t_post(&g->q[0], SLOTS);
		assert_int_equal(vs_fdb_add(t.vs, g->mac, 0, g->port), 0);
	}
	tx_at = tx_room = t_alloc(a, 8 * FRAME_LEN, 64);
	dice = 1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t_destroy(&t);
	return 0;
}

static uint64_t all_drops(void)
{
	uint64_t sum = t_all_drops(&t, a);

	for (unsigned int i = 0; i < 10; i++)
		sum += t_all_drops(&t, peer[i].g);
	return sum;
}

/* ---- tests ---- */

/* Each kind of frame and request to each kind of receiver. */
static void matrix(void **state)
{
	(void)state;
	for (unsigned int kind = 0; kind < 2 * 2 * 3 * 2; kind++) {
		struct spec s = {
			.v6 = kind & 1,
			.udp = kind >> 1 & 1,
			.tags = (kind >> 2) % 3,
			.options = kind / 12 * 2,
			.tcp_words = kind / 12 * 3,
			.id = 0xfffe,
			.seq = 0xfffffff0,
			.tcp_flags = ACK | PSH | FIN,
			.seed = kind,
		};

		for (unsigned int i = 0; i < 10; i++) {
			try_one(&peer[i], &s, 700, 1, 0, 0);
			try_one(&peer[i], &s, 700, 1, request(&s, 0), 0);
			try_one(&peer[i], &s, 1001, 7, request(&s, 0), 0);
			if (s.udp)
				continue;
			for (uint32_t len = 1; len < 20000; len = len * 3 + 5)
				try_one(&peer[i], &s, len, 1 + len % 3, request(&s, 1), 1448);
		}
	}
	expect_nothing();
	assert_int_equal(all_drops(), 0);
}

/* The largest there are: bytes, segments, pieces; and one of each that is too much. */
static void extremes(void **state)
{
	struct spec s4 = {.seq = 1, .tcp_flags = ACK}, s6 = {.v6 = true, .tags = 2};
	uint32_t most4 = 65535 - 40, most6 = ELISA_GSO_FRAME_MAX - headers_of(&s6);

	(void)state;
	for (unsigned int i = 0; i < 10; i++) {
		try_one(&peer[i], &s4, most4, 3, request(&s4, 1), 1448);
		try_one(&peer[i], &s6, most6, ELISA_SEGS_MAX, request(&s6, 1), 1440);
		try_one(&peer[i], &s4, ELISA_GSO_SEGS_MAX * ELISA_GSO_SIZE_MIN, 2, request(&s4, 1),
			ELISA_GSO_SIZE_MIN);
		/* Segments as long as the MTU. */
		try_one(&peer[i], &s4, 40000, 2, request(&s4, 1), MTU - 40);
		assert_int_equal(all_drops(), 0);
	}
	send_frame(frame,
		   build(frame, &s4, peer[0].g->mac, 0, ELISA_GSO_SEGS_MAX * ELISA_GSO_SIZE_MIN + 1,
			 true),
		   1, request(&s4, 1), 34, ELISA_GSO_SIZE_MIN);
	assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_BAD_OFFLOAD), 1);
	send_frame(frame, build(frame, &s4, peer[0].g->mac, 0, 40000, true), 1, request(&s4, 1), 34,
		   MTU - 39);
	assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_TOO_LONG), 1);
	/* The last segment alone may be short enough. */
	send_frame(frame, build(frame, &s4, peer[0].g->mac, 0, MTU - 40, true), 1, request(&s4, 1),
		   34, 65535);
	assert_true(receive(&peer[0]));
	assert_int_equal(all_drops(), 2);
	expect_nothing();
}

/* A sum that comes out as 0 means "none" in UDP, and is 0xffff. */
static void zero_sum(void **state)
{
	struct spec s = {.udp = true};
	uint32_t n = build(frame, &s, peer[0].g->mac, 0, 100, true);

	(void)state;
	/* Two bytes of payload make up for all others. */
	frame[n - 2] = frame[n - 1] = 0;
	be16(frame + n - 2, (uint16_t)~sum16(0, frame + 34, n - 34));
	memcpy(expected, frame, n);
	be16(expected + 40, 0xffff);
	send_frame(frame, n, 3, request(&s, 0), 34, 0);
	expect(&peer[0], n, 0, 0, 0);
	/* TCP has no such rule. */
	be16(expected + 40, 0);
	expected[23] = frame[23] = 6;
	frame[12] = expected[12] = 0x09; /* not IP: nobody looks */
	send_frame(frame, n, 1, ELISA_NET_CSUM | 7 << ELISA_NET_CSUM_OFFSET, 33, 0);
	assert_true(receive(&peer[0]));
	assert_int_equal(got.data[40] << 8 | got.data[41], (uint16_t)~sum16(0, frame + 33, n - 33));
}

/* The two bytes of a checksum wherever they can lie, also across buffers. */
static void places(void **state)
{
	uint32_t n = 900;

	(void)state;
	for (uint32_t start = 14; start < 800; start++) {
		uint32_t offset = start % 2 && start < 768 ? 255 - start % 256 : start * 7 % 90;
		uint16_t sum;

		for (uint32_t i = 0; i < n; i++)
			frame[i] = (uint8_t)roll(256);
		memcpy(frame, peer[1].g->mac, 6);
		memcpy(frame + 6, a->mac, 6);
		memcpy(expected, frame, n);
		sum = (uint16_t)~sum16(0, frame + start, n - start);
		if (offset == 6 && !sum)
			sum = 0xffff;
		be16(expected + start + offset, sum);
		send_frame(frame, n, 1 + start % 11,
			   (uint16_t)(ELISA_NET_CSUM | offset << ELISA_NET_CSUM_OFFSET),
			   (uint16_t)start, 0);
		expect(&peer[1], n, 0, 0, 0);
	}
	assert_int_equal(all_drops(), 0);
}

static void random_frames(void **state)
{
	(void)state;
	for (uint32_t round = 0; round < 8000; round++) {
		struct spec s = {
			.v6 = roll(2),
			.udp = !roll(4),
			.tags = roll(3),
			.tcp_words = roll(11),
			.id = (uint16_t)roll(65536),
			.seq = roll(1u << 28) << 4,
			.tcp_flags = (uint8_t)roll(256),
			.seed = roll(1u << 20),
		};
		uint32_t len = 1 + roll(roll(8) ? 3000 : 60000), pieces = 1 + roll(12);
		uint16_t gso = (uint16_t)(ELISA_GSO_SIZE_MIN + roll(4000)), flags = 0;
		struct peer *p = &peer[roll(10)];

		s.options = roll(s.v6 ? 4 : 11);
		if (s.udp || !roll(4)) {
			gso = 0;
			len = 1 + len % 8000;
		} else if (len > (uint32_t)gso * ELISA_GSO_SEGS_MAX) {
			len = (uint32_t)gso * ELISA_GSO_SEGS_MAX;
		}
		if (gso || roll(4))
			flags = request(&s, gso);
		try_one(p, &s, len, pieces, flags, gso);
	}
	expect_nothing();
	assert_int_equal(all_drops(), 0);
}

/* Plain frames and requests in one call: in their order at each receiver, none slower for good. */
static void mixed_batch(void **state)
{
	struct spec plain = {.udp = true}, tso = {.tcp_flags = ACK};
	uint32_t n = 0;

	(void)state;
	for (uint32_t i = 0; i < 30; i++) {
		struct peer *p = &peer[i % 2 ? 0 : 8];
		bool big = i % 5 == 2;
		uint32_t payload = big ? 5000 : 100, len;

		plain.seed = tso.seed = i;
		len = build(frame, big ? &tso : &plain, p->g->mac, 0, payload, true);
		n += put(frame, len, 1, request(big ? &tso : &plain, big), 34, big ? 1000 : 0);
	}
	assert_int_equal(send_all(n), n);
	for (uint32_t i = 0; i < 30; i++) {
		struct peer *p = &peer[i % 2 ? 0 : 8];
		bool big = i % 5 == 2;

		plain.seed = tso.seed = i;
		expect_frame(p, big ? &tso : &plain, p->g->mac, big ? 5000 : 100,
			     request(big ? &tso : &plain, big), big ? 1000 : 0);
	}
	expect_nothing();
	assert_int_equal(all_drops(), 0);
}

static void floods_by_features(void **state)
{
	struct spec s = {.v6 = true, .tcp_flags = ACK | PSH | CWR};
	struct elisa_port_counters count;
	uint32_t n = build(frame, &s, t_broadcast, 0, 30000, true);

	(void)state;
	for (unsigned int pieces = 1; pieces < 5; pieces++) {
		send_frame(frame, n, pieces, request(&s, 1), (uint16_t)l4_of(&s), 1400);
		for (unsigned int i = 0; i < 10; i++)
			expect_frame(&peer[i], &s, t_broadcast, 30000, request(&s, 1), 1400);
	}
	n = build(frame, &s, t_broadcast, 0, 300, true);
	send_frame(frame, n, 1, request(&s, 0), (uint16_t)l4_of(&s), 0);
	for (unsigned int i = 0; i < 10; i++)
		expect_frame(&peer[i], &s, t_broadcast, 300, request(&s, 0), 0);
	expect_nothing();
	assert_int_equal(all_drops(), 0);
	vs_port_counters(t.vs, a->port, &count);
	assert_int_equal(count.tx_frames, 5);
	assert_int_equal(count.tx_bytes, 4 * (30000 + 74) + 374);
	assert_int_equal(count.tx_broadcast, 5);
	/* Six of ten receivers cannot segment TCP over IPv6; two cannot do checksums. */
	assert_int_equal(count.tx_segmented, 4 * 6);
	assert_int_equal(count.tx_segments, 4 * 6 * 22);
	assert_int_equal(count.tx_csum, 4 * 2 * 22 + 2);
}

/* Whoever asks for much gets less per call, but always some. */
static void calls_are_bounded(void **state)
{
	struct spec s = {.tcp_flags = ACK};
	uint32_t payload = ELISA_GSO_SEGS_MAX * 64;

	(void)state;
	for (unsigned int to = 0; to < 2; to++) {
		struct peer *p = &peer[to ? 8 : 0];
		uint32_t n = build(frame, &s, p->g->mac, 0, payload, true), done = 0;

		for (int i = 0; i < 10; i++)
			put(frame, n, 1, request(&s, 1), 34, 64);
		/* Whole or cut up, four times 256 are what a call does. */
		while (done < 10) {
			int64_t took = send_all(10 - done);

			assert_int_equal(took, done < 8 ? 4 : 2);
			done += (uint32_t)took;
			while (receive(p))
				;
		}
	}
	/* A flood of more than that is a call of its own. */
	for (int i = 0; i < 3; i++)
		put(frame, build(frame, &s, t_broadcast, 0, payload, true), 1, request(&s, 1), 34,
		    64);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(send_all(3 - (uint32_t)i), 1);
		for (unsigned int j = 0; j < 10; j++)
			expect_frame(&peer[j], &s, t_broadcast, payload, request(&s, 1), 64);
	}
	assert_int_equal(all_drops(), 0);
}

/* A receiver's MTU bounds the segments, not the frame. */
static void smaller_mtu(void **state)
{
	struct spec s = {.tcp_flags = ACK, .tags = 1};
	struct vs_port_config cfg;
	uint32_t n;

	(void)state;
	for (unsigned int i = 0; i < 10; i++) {
		cfg = t_port_config(&t, peer[i].g);
		cfg.mtu = 1500;
		t_port_set(&t, peer[i].g, &cfg);
		try_one(&peer[i], &s, 10000, 2, request(&s, 1), 1460);
		assert_int_equal(all_drops(), i);
		n = build(frame, &s, peer[i].g->mac, 0, 10000, true);
		send_frame(frame, n, 2, request(&s, 1), (uint16_t)l4_of(&s), 1461);
		assert_int_equal(t_drops(&t, peer[i].g, ELISA_DROP_RX_TOO_LONG), 1);
	}
	n = build(frame, &s, t_broadcast, 0, 10000, true);
	send_frame(frame, n, 2, request(&s, 1), (uint16_t)l4_of(&s), 1461);
	assert_int_equal(all_drops(), 20);
	expect_nothing();
}

/* Too few buffers: whole segments arrive, the others are counted. */
static void few_buffers(void **state)
{
	struct spec s = {.tcp_flags = ACK};
	struct t_queue *q = &peer[0].g->q[0];
	uint32_t n = build(frame, &s, peer[0].g->mac, 0, 100000 / 2, true), segments = 0;

	(void)state;
	/* Leave 13. */
	for (uint32_t left = SLOTS - 13; left; left--) {
		struct spec small = {.udp = true};
		uint32_t len = build(expected, &small, peer[0].g->mac, 0, 10, false);

		send_frame(expected, len, 1, 0, 0, 0);
	}
	send_frame(frame, n, 1, request(&s, 1), 34, 1000);
	assert_int_equal(t_drops(&t, peer[0].g, ELISA_DROP_RX_NO_BUFFER), 50 - 13);
	q->rx_next += SLOTS - 13;
	while (segments < 13) {
		struct spec seg = s;

		seg.seq += 1000 * segments;
		seg.id = (uint16_t)(seg.id + segments);
		n = build(expected, &seg, peer[0].g->mac, 1000 * segments++, 1000, false);
		expect(&peer[0], n, 0, 0, 0);
	}
	expect_nothing();
}

static void bad(uint32_t len, uint32_t pieces, uint16_t flags, uint16_t start, uint16_t gso,
		enum elisa_drop why)
{
	uint64_t before = t_drops(&t, a, why), all = all_drops();

	send_frame(frame, len, pieces, flags, start, gso);
	assert_int_equal(t_drops(&t, a, why), before + 1);
	assert_int_equal(all_drops(), all + 1);
	expect_nothing();
}

#define BAD(n, flags, start, gso) bad(n, 1, flags, start, gso, ELISA_DROP_TX_BAD_OFFLOAD)

static void bad_requests(void **state)
{
	struct spec s = {.tcp_flags = ACK};
	uint32_t n = build(frame, &s, peer[0].g->mac, 0, 3000, true);
	uint16_t good = request(&s, 1), csum = request(&s, 0);

	(void)state;
	for (int bit = 5; bit < 8; bit++)
		bad(n, 1, (uint16_t)(good | 1 << bit), 34, 1000, ELISA_DROP_TX_BAD_DESC);
	BAD(n, 0, 34, 0);
	BAD(n, 0, 0, 1000);
	BAD(n, 1 << ELISA_NET_CSUM_OFFSET, 0, 0);
	BAD(n, ELISA_NET_TSO4, 0, 1000);
	BAD(n, ELISA_NET_ECN, 0, 0);
	BAD(n, csum, 0, 0);
	BAD(n, csum, 13, 0);
	BAD(n, csum, (uint16_t)(n - 17), 0);
	BAD(n, csum, 65535, 0);
	BAD(n, csum, 34, 1000);
	BAD(n, csum | ELISA_NET_ECN, 34, 0);
	BAD(n, good | ELISA_NET_TSO6, 34, 1000);
	BAD(n, (good & ~ELISA_NET_CSUM), 34, 1000);
	BAD(n, (good & 0xff) | 6 << ELISA_NET_CSUM_OFFSET, 34, 1000);
	BAD(n, good, 34, 0);
	BAD(n, good, 34, ELISA_GSO_SIZE_MIN - 1);
	BAD(n, good, 33, 1000);
	BAD(n, good, 35, 1000);
	BAD(n, good, 200, 1000);
	BAD(n, (uint16_t)(good ^ ELISA_NET_TSO4 ^ ELISA_NET_TSO6), 34, 1000);
	BAD(40, good, 34, 1000);
	/* Nothing after the headers. */
	BAD(build(frame, &s, peer[0].g->mac, 0, 0, true), good, 34, 1000);
}

/* One byte of the headers is not what it should be. */
static void bad_headers(void **state)
{
	struct {
		struct spec s;
		uint32_t at;
		uint8_t value;
	} wrong[] = {
		{{.v6 = false}, 12, 0x09},	      /* EtherType */
		{{.v6 = false, .tags = 1}, 16, 0x09}, /* behind a tag */
		{{.v6 = false}, 14, 0x55},	      /* version */
		{{.v6 = false}, 14, 0x44},	      /* header length */
		{{.v6 = false}, 14, 0x46},
		{{.v6 = false}, 14, 0x4f},
		{{.v6 = false}, 16, 0}, /* total length */
		{{.v6 = false}, 17, 0},
		{{.v6 = false}, 20, 0x20}, /* fragments */
		{{.v6 = false}, 21, 0x01},
		{{.v6 = false}, 23, 17},   /* protocol */
		{{.v6 = false}, 46, 0x40}, /* TCP header's length */
		{{.v6 = true}, 14, 0x40},  /* version */
		{{.v6 = true}, 18, 0},	   /* payload length */
		{{.v6 = true}, 20, 17},	   /* next header */
		{{.v6 = true}, 20, 44},
		{{.v6 = true, .options = 3}, 20, 44},  /* an unknown extension */
		{{.v6 = true, .options = 3}, 54, 17},  /* not TCP after it */
		{{.v6 = true, .options = 3}, 55, 1},   /* too short */
		{{.v6 = true, .options = 3}, 55, 255}, /* too long */
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct spec *s = &wrong[i].s;
		uint32_t n = build(frame, s, peer[i % 10].g->mac, 0, 3000, true);

		assert_true(frame[wrong[i].at] != wrong[i].value);
		frame[wrong[i].at] = wrong[i].value;
		bad(n, 1 + i % 4, request(s, 1), (uint16_t)l4_of(s), 1000,
		    ELISA_DROP_TX_BAD_OFFLOAD);
	}
	/* Headers longer than the switch looks at: 14 + 40 + 8 * 12 is the last start that fits. */
	for (unsigned int words = 8; words <= 11; words++) {
		struct spec s = {.v6 = true, .options = 12, .tcp_words = words - 5};
		uint32_t n = build(frame, &s, peer[0].g->mac, 0, 3000, true);

		if (headers_of(&s) > ELISA_HEADERS_MAX)
			bad(n, 3, request(&s, 1), (uint16_t)l4_of(&s), 1000,
			    ELISA_DROP_TX_BAD_OFFLOAD);
		else
			try_one(&peer[0], &s, 3000, 3, request(&s, 1), 1000);
	}
	assert_true(t_drops(&t, a, ELISA_DROP_TX_BAD_OFFLOAD) > 20);
}

/* A port with queues of both kinds: what one of them cannot take is done for all. */
static void queues_differ(void **state)
{
	struct spec s = {.tcp_flags = ACK};
	struct t_guest *g = peer[4].g;

	(void)state;
	assert_true(t_setup(g, 1, 0, 64, 2048) > 0);
	try_one(&peer[0], &s, 3000, 1, request(&s, 1), 1000);
	send_frame(frame, build(frame, &s, g->mac, 0, 3000, true), 1, request(&s, 1), 34, 1000);
	for (uint32_t i = 0; i < 3; i++) {
		struct spec seg = s;

		seg.seq = 1000 * i;
		seg.id = (uint16_t)i;
		expect(&peer[4], build(expected, &seg, g->mac, 1000 * i, 1000, true),
		       request(&s, 0), 34, 0);
	}
	assert_int_equal(t_call(g, ELISA_NET_QUEUE_RESET, 1, 0), 0);
	try_one(&peer[4], &s, 3000, 1, request(&s, 1), 1000);
	expect_nothing();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(matrix),	  T(extremes),	  T(zero_sum),		 T(places),
		T(random_frames), T(mixed_batch), T(floods_by_features), T(calls_are_bounded),
		T(smaller_mtu),	  T(few_buffers), T(bad_requests),	 T(bad_headers),
		T(queues_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
