/* SPDX-License-Identifier: BSD-3-Clause */
/* Steering by hash, receive mode and doorbells. */
#include "harness.h"
#include <cmocka.h>

#define RETA ELISA_RETA_SIZE

static struct t_switch t;
static struct t_guest *a, *b; /* a: sender, b: receiver of four queues */
static struct t_frame frame;
static uint64_t arg_at, tx_at; /* GPAs: in b's RAM, in a's */
static struct elisa_rss rss;
static uint32_t random_state;

static uint32_t any(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state >> 8 ^ random_state << 16;
}

static void set_up_receiver(uint32_t size, uint32_t buf_len, uint32_t features)
{
	b->used = 4096;
	for (unsigned int i = 0; i < T_QUEUES; i++) {
		memset(b->ram + b->used, 0, size * 40);
		assert_true(t_setup_with(b, i, T_SIZE, size, buf_len, features) > 0);
		t_post(&b->q[i], size);
	}
}

static int setup(void **state)
{
	(void)state;
	t_create(&t, 1024);
	a = t_guest(&t, false);
	b = t_guest_with(&t, false, T_QUEUES);
	assert_true(t_setup(a, 0, T_SIZE, T_SIZE, T_BUF) > 0);
	assert_true(t_setup(a, 1, T_SIZE, 0, 0) > 0);
	t_post(&a->q[0], T_SIZE);
	tx_at = t_alloc(a, 64 * 2048, 64);
	arg_at = t_alloc(b, 1024, 8);
	set_up_receiver(T_SIZE, T_BUF, 0);
	/* So that a knows where b is. */
	assert_int_equal(t_send_one(b, 60, a->mac, b->mac, 0), 1);
	assert_true(t_receive(a, 0, &frame));
	random_state = 4711;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t_destroy(&t);
	return 0;
}

/* ---- packets ---- */

struct packet {
	unsigned int tags, options; /* IPv4 options in words */
	bool v6, extension;	    /* an IPv6 extension header before the protocol's */
	uint8_t proto;
	uint16_t fragment; /* IPv4 flags and offset */
	uint8_t src[16], dst[16];
	uint16_t sport, dport;
	uint32_t flow, seq; /* in the payload */
};

static void put16(uint8_t *at, unsigned int v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

/* Returns its length. */
static uint32_t packet_put(uint8_t *to, const struct packet *p)
{
	uint8_t *at = to + 12;

	memcpy(to, b->mac, 6);
	memcpy(to + 6, a->mac, 6);
	for (unsigned int i = 0; i < p->tags; i++, at += 4) {
		put16(at, i & 1 ? 0x8100 : 0x88a8);
		put16(at + 2, 7 + i);
	}
	put16(at, p->v6 ? 0x86dd : 0x0800);
	at += 2;
	memset(at, 0, 60);
	if (p->v6) {
		at[0] = 0x60;
		at[6] = p->extension ? 60 : p->proto;
		memcpy(at + 8, p->src, 16);
		memcpy(at + 24, p->dst, 16);
		at[40] = p->proto;
		at += p->extension ? 48 : 40;
	} else {
		at[0] = (uint8_t)(0x45 + p->options);
		put16(at + 6, p->fragment);
		at[9] = p->proto;
		memcpy(at + 12, p->src, 4);
		memcpy(at + 16, p->dst, 4);
		at += 20 + 4 * p->options;
	}
	put16(at, p->sport);
	put16(at + 2, p->dport);
	memcpy(at + 4, &p->flow, 4);
	memcpy(at + 8, &p->seq, 4);
	return (uint32_t)(at + 12 - to);
}

static struct packet packet_any(void)
{
	const uint8_t protos[] = {6, 17, 1, 50};
	struct packet p = {
		.tags = any() % 4,
		.options = any() % 3 ? 0 : any() % 11,
		.v6 = any() & 1,
		.extension = any() % 5 == 0,
		.proto = protos[any() % 4],
		.sport = (uint16_t)any(),
		.dport = (uint16_t)any(),
	};
	const uint16_t fragments[] = {0, 0, 0, 0x4000, 0x2000, 0x1fff, 1, 0x8000};

	p.fragment = fragments[any() % 8];
	for (int i = 0; i < 16; i++) {
		p.src[i] = (uint8_t)any();
		p.dst[i] = (uint8_t)any();
	}
	return p;
}

/* ---- the hash, bit by bit as it is defined ---- */

static uint32_t toeplitz(const uint8_t *key, const uint8_t *in, unsigned int len)
{
	uint32_t hash = 0;

	for (unsigned int bit = 0; bit < len * 8; bit++) {
		uint32_t window = 0;

		for (unsigned int i = bit; i < bit + 32; i++)
			window = window << 1 | (key[i / 8] >> (7 - i % 8) & 1);
		if (in[bit / 8] >> (7 - bit % 8) & 1)
			hash ^= window;
	}
	return hash;
}

/* What the hash of `p` is to be. False: there is none. */
static bool expected_hash(const struct packet *p, uint32_t *hash)
{
	unsigned int alen = p->v6 ? 16 : 4, len = 2 * alen;
	uint32_t plain = p->v6 ? ELISA_RSS_IPV6 : ELISA_RSS_IPV4, type = 0;
	uint8_t in[36];

	if (p->tags > 2)
		return false;
	if (p->proto == 6)
		type = p->v6 ? ELISA_RSS_TCP6 : ELISA_RSS_TCP4;
	else if (p->proto == 17)
		type = p->v6 ? ELISA_RSS_UDP6 : ELISA_RSS_UDP4;
	if (p->v6 ? p->extension : p->fragment & 0x3fff)
		type = 0;
	if (!(rss.types & (type | plain)))
		return false;
	memcpy(in, p->src, alen);
	memcpy(in + alen, p->dst, alen);
	if (rss.types & type) {
		put16(in + len, p->sport);
		put16(in + len + 2, p->dport);
		len += 4;
	}
	*hash = toeplitz(rss.key, in, len);
	return true;
}

/* ---- helpers ---- */

static int64_t rss_set(void)
{
	memcpy(t_at(b, arg_at), &rss, sizeof(rss));
	return t_call(b, ELISA_NET_RSS, 0, arg_at);
}

static void rss_any(uint32_t types)
{
	rss.types = types;
	rss.reserved = 0;
	for (int i = 0; i < ELISA_RSS_KEY_LEN; i++)
		rss.key[i] = (uint8_t)any();
	for (int i = 0; i < RETA; i++)
		rss.reta[i] = (uint8_t)(any() % T_QUEUES);
}

static void put_packet(unsigned int slot, const struct packet *p)
{
	uint64_t at = tx_at + slot * 2048;

	t_desc(&a->q[0], at, (uint16_t)packet_put(t_at(a, at), p), 0);
}

static bool receive(unsigned int queue, struct elisa_rxc *first)
{
	struct t_queue *q = &b->q[queue];

	*first = q->comp[q->rx_next % q->rx_size];
	return t_receive(b, queue, &frame);
}

static void nothing_received(void)
{
	for (unsigned int i = 0; i < T_QUEUES; i++)
		assert_false(t_receive(b, i, &frame));
}

static uint64_t queue_drops(struct t_guest *g, unsigned int queue, enum elisa_drop why)
{
	struct vs_queue_info info;

	assert_int_equal(vs_port_queue(t.vs, g->port, queue, &info), 0);
	return info.drops[why];
}

/* ---- steering ---- */

/* Microsoft's "Verifying the RSS Hash Calculation". */
static const uint8_t ms_key[ELISA_RSS_KEY_LEN] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
	0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
	0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};
static const struct {
	struct packet p;
	uint32_t addresses, ports;
} ms_vectors[] = {
	{{.dst = {161, 142, 100, 80}, .dport = 1766, .src = {66, 9, 149, 187}, .sport = 2794},
	 0x323e8fc2,
	 0x51ccc178},
	{{.dst = {65, 69, 140, 83}, .dport = 4739, .src = {199, 92, 111, 2}, .sport = 14230},
	 0xd718262a,
	 0xc626b0ea},
	{{.dst = {12, 22, 207, 184}, .dport = 38024, .src = {24, 19, 198, 95}, .sport = 12898},
	 0xd2d0a5de,
	 0x5c2b394a},
	{{.dst = {209, 142, 163, 6}, .dport = 2217, .src = {38, 27, 205, 30}, .sport = 48228},
	 0x82989176,
	 0xafc7327f},
	{{.dst = {202, 188, 127, 2}, .dport = 1303, .src = {153, 39, 163, 191}, .sport = 44251},
	 0x5d1809c5,
	 0x10e828a2},
	{{.v6 = true,
	  .dst = {0x3f, 0xfe, 0x25, 1, 2, 0, 0, 3, [15] = 1},
	  .dport = 1766,
	  .src = {0x3f, 0xfe, 0x25, 1, 2, 0, 0x1f, 0xff, [15] = 7},
	  .sport = 2794},
	 0x2cc18cd5,
	 0x40207d3d},
	{{.v6 = true,
	  .dst = {0xff, 2, [15] = 1},
	  .dport = 4739,
	  .src = {0x3f, 0xfe, 5, 1, 0, 8, 0, 0, 2, 0x60, 0x97, 0xff, 0xfe, 0x40, 0xef, 0xab},
	  .sport = 14230},
	 0x0f0c461c,
	 0xdde51bbf},
	{{.v6 = true,
	  .dport = 38024,
	  .sport = 44251,
	  .dst = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0xf8, 0xff, 0xfe, 0x21, 0x67, 0xcf},
	  .src = {0x3f, 0xfe, 0x19, 0, 0x45, 0x45, 0, 3, 2, 0, 0xf8, 0xff, 0xfe, 0x21, 0x67, 0xcf}},
	 0x4b61e985,
	 0x02d1feef},
};

static void hash_vectors(void **state)
{
	(void)state;
	memset(&rss, 0, sizeof(rss));
	memcpy(rss.key, ms_key, sizeof(ms_key));
	for (unsigned int i = 0; i < 2 * sizeof(ms_vectors) / sizeof(ms_vectors[0]); i++) {
		struct packet p = ms_vectors[i / 2].p;
		struct elisa_rxc c;

		p.proto = 6;
		rss.types = i & 1 ? ELISA_RSS_ALL : ELISA_RSS_IPV4 | ELISA_RSS_IPV6;
		assert_int_equal(rss_set(), 0);
		put_packet(0, &p);
		assert_int_equal(t_send(a, 0, 1), 1);
		assert_true(receive(0, &c));
		assert_int_equal(c.flags, ELISA_RXC_HASH);
		assert_int_equal(c.hash,
				 i & 1 ? ms_vectors[i / 2].ports : ms_vectors[i / 2].addresses);
	}
}

static void hash_by_definition(void **state)
{
	uint32_t hashed = 0;

	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		struct packet p = packet_any();
		uint32_t hash = 0;
		struct elisa_rxc c;
		uint8_t queue;
		bool has;

		if (round % 32 == 0) {
			rss_any(1 + any() % ELISA_RSS_ALL);
			assert_int_equal(rss_set(), 0);
		}
		has = expected_hash(&p, &hash);
		queue = rss.reta[has ? hash % RETA : 0];
		put_packet(0, &p);
		assert_int_equal(t_send(a, 0, 1), 1);
		assert_true(receive(queue, &c));
		assert_int_equal(c.flags, has ? ELISA_RXC_HASH : 0);
		assert_int_equal(c.hash, hash);
		assert_int_equal(frame.len, packet_put(t_at(a, tx_at), &p));
		assert_memory_equal(frame.data, t_at(a, tx_at), frame.len);
		hashed += has;
	}
	nothing_received();
	assert_in_range(hashed, 4000, 18000);
	assert_int_equal(t_all_drops(&t, b), 0);
}

/* Bursts of many flows: each stays in one queue and in order, and all queues have their part. */
static void flows_stay_in_order(void **state)
{
	enum { FLOWS = 64, BURSTS = 500 };
	static struct packet flow[FLOWS];
	uint32_t got[FLOWS] = {0}, of_queue[T_QUEUES] = {0};
	int home[FLOWS];

	(void)state;
	rss_any(ELISA_RSS_ALL);
	assert_int_equal(rss_set(), 0);
	for (uint32_t i = 0; i < FLOWS; i++) {
		flow[i] = packet_any();
		flow[i].tags %= 3;
		flow[i].flow = i;
		home[i] = -1;
	}
	for (int burst = 0; burst < BURSTS; burst++) {
		uint32_t count = 1 + any() % 48;

		for (uint32_t i = 0; i < count; i++) {
			struct packet *p = &flow[any() % FLOWS];

			put_packet(i, p);
			p->seq++;
		}
		assert_int_equal(t_send(a, 0, count), count);
		for (int q = 0; q < T_QUEUES; q++) {
			struct elisa_rxc c;

			while (receive((unsigned int)q, &c)) {
				uint32_t f, seq;

				memcpy(&f, frame.data + frame.len - 8, 4);
				memcpy(&seq, frame.data + frame.len - 4, 4);
				assert_in_range(f, 0, FLOWS - 1);
				assert_int_equal(seq, got[f]++);
				assert_true(home[f] < 0 || home[f] == q);
				home[f] = q;
				of_queue[q]++;
			}
		}
	}
	for (int i = 0; i < FLOWS; i++)
		assert_int_equal(got[i], flow[i].seq);
	for (int q = 0; q < T_QUEUES; q++)
		assert_in_range(of_queue[q], 500, 10000);
	assert_int_equal(t_all_drops(&t, b), 0);
}

/* A change takes effect with the next call, and frames in flight stay where they are. */
static void reta_changes(void **state)
{
	struct packet p = {.proto = 17, .src = {10, 0, 0, 1}, .dst = {10, 0, 0, 2}};
	struct elisa_rxc c;

	(void)state;
	rss_any(ELISA_RSS_ALL);
	for (uint32_t round = 0; round < 100; round++) {
		uint8_t queue = (uint8_t)(any() % T_QUEUES);

		memset(rss.reta, queue, RETA);
		assert_int_equal(rss_set(), 0);
		for (uint32_t i = 0; i < 10; i++) {
			p.seq = round * 10 + i;
			p.sport = (uint16_t)any();
			put_packet(i, &p);
		}
		assert_int_equal(t_send(a, 0, 10), 10);
		for (uint32_t i = 0; i < 10; i++) {
			assert_true(receive(queue, &c));
			assert_memory_equal(frame.data + frame.len - 4, &(uint32_t){round * 10 + i},
					    4);
		}
	}
	/* Off again: by the sender's queue. */
	rss.types = 0;
	assert_int_equal(rss_set(), 0);
	put_packet(0, &p);
	assert_int_equal(t_send(a, 0, 1), 1);
	assert_true(receive(0, &c));
	assert_int_equal(c.flags, 0);
	assert_int_equal(c.hash, 0);
	nothing_received();
}

/* Whatever is missing or wrong in the headers, the frame arrives, in the first entry's queue. */
static void headers_that_are_none(void **state)
{
	struct packet p = {.proto = 6, .src = {1}, .dst = {2}, .sport = 3, .dport = 4};
	struct t_queue *q = &a->q[0];
	struct elisa_rxc c;

	(void)state;
	rss_any(ELISA_RSS_ALL);
	memset(rss.reta, 1, RETA);
	rss.reta[0] = 3;
	for (unsigned int kind = 0; kind < 6; kind++) {
		uint32_t l3, need, full;
		uint8_t *at = t_at(a, tx_at);

		p.v6 = kind & 1;
		p.tags = kind / 2;
		full = packet_put(at, &p);
		l3 = 14 + 4 * p.tags;
		need = l3 + (p.v6 ? 40 : 20);
		rss.types = ELISA_RSS_TCP4 | ELISA_RSS_TCP6;
		assert_int_equal(rss_set(), 0);
		/* The whole frame ends too early for ports, or its first piece. */
		for (uint32_t len = ELISA_FRAME_MIN; len < full; len++) {
			bool has = len >= need + 4;

			memcpy(a->ram + T_RAM - len, at, len);
			t_desc(q, T_GPA + T_RAM - len, (uint16_t)len, 0);
			t_desc(q, tx_at, (uint16_t)len, ELISA_NET_MORE);
			t_desc(q, tx_at + len, (uint16_t)(full - len), 0);
			assert_int_equal(t_send(a, 0, 3), 3);
			for (int i = 0; i < 2; i++) {
				assert_true(receive(has ? 1 : 3, &c));
				assert_int_equal(c.flags, has ? ELISA_RXC_HASH : 0);
				assert_int_equal(frame.len, i ? full : len);
				assert_memory_equal(frame.data, at, frame.len);
			}
		}
		/* Versions and header lengths that cannot be. */
		for (unsigned int first = 0; first < 256; first++) {
			bool has = p.v6 ? first >> 4 == 6 : first == 0x45 || first == 0x46;

			at[l3] = (uint8_t)first;
			rss.types = ELISA_RSS_TCP4 | ELISA_RSS_TCP6;
			t_desc(q, tx_at, (uint16_t)(need + 8), 0);
			assert_int_equal(t_send(a, 0, 1), 1);
			assert_true(receive(has ? 1 : 3, &c));
			assert_int_equal(c.flags, has ? ELISA_RXC_HASH : 0);
		}
	}
	nothing_received();
	assert_int_equal(t_all_drops(&t, b), 0);
}

/* The hash comes in the first completion of a frame of several; floods are steered, too. */
static void hash_of_long_and_flooded_frames(void **state)
{
	struct packet p = {.proto = 6, .src = {1}, .dst = {2}, .sport = 3, .dport = 4};
	uint8_t *at = t_at(a, tx_at);
	uint32_t hash = 0, len = 1200;
	struct elisa_rxc c;

	(void)state;
	set_up_receiver(T_SIZE, 256, 0);
	rss_any(ELISA_RSS_ALL);
	assert_int_equal(rss_set(), 0);
	for (uint32_t i = 0; i < 200; i++) {
		unsigned int queue, slot = 0;

		p.sport = (uint16_t)any();
		memset(at, 0x77, len);
		packet_put(at, &p);
		if (i & 1)
			memcpy(at, t_broadcast, 6);
		assert_true(expected_hash(&p, &hash));
		queue = rss.reta[hash % RETA];
		if (i & 2) {
			t_desc(&a->q[0], tx_at, 100, ELISA_NET_MORE);
			t_desc(&a->q[0], tx_at + 100, (uint16_t)(len - 100), 0);
		} else {
			t_desc(&a->q[0], tx_at, (uint16_t)len, 0);
		}
		assert_int_equal(t_send(a, 0, i & 2 ? 2 : 1), i & 2 ? 2 : 1);
		for (; slot < 4; slot++) {
			c = b->q[queue].comp[(b->q[queue].rx_next + slot) % T_SIZE];
			assert_int_equal(c.flags, ELISA_NET_MORE | (slot ? 0 : ELISA_RXC_HASH));
			assert_int_equal(c.hash, slot ? 0 : hash);
		}
		assert_true(receive(queue, &c));
		assert_int_equal(frame.len, len);
		assert_memory_equal(frame.data, at, len);
	}
	nothing_received();
}

static void steered_to_a_queue_that_is_down(void **state)
{
	struct packet p = {.proto = 6, .src = {1}, .dst = {2}};
	struct elisa_rxc c;

	(void)state;
	rss_any(ELISA_RSS_ALL);
	memset(rss.reta, 2, RETA);
	assert_int_equal(rss_set(), 0);
	assert_int_equal(t_call(b, ELISA_NET_QUEUE_RESET, 2, 0), 0);
	for (unsigned int i = 0; i < 3; i++)
		put_packet(i, &p);
	assert_int_equal(t_send(a, 0, 3), 3);
	assert_int_equal(queue_drops(b, 2, ELISA_DROP_RX_LINK_DOWN), 3);
	nothing_received();
	/* The setting outlives that; not when all queues go down. */
	memset(rss.reta, 1, RETA);
	assert_int_equal(rss_set(), 0);
	put_packet(0, &p);
	assert_int_equal(t_send(a, 0, 1), 1);
	assert_true(receive(1, &c));
	set_up_receiver(T_SIZE, T_BUF, 0);
	put_packet(0, &p);
	assert_int_equal(t_send(a, 0, 1), 1);
	assert_true(receive(1, &c));
	for (uint64_t i = 0; i < T_QUEUES; i++)
		assert_int_equal(t_call(b, ELISA_NET_QUEUE_RESET, i, 0), 0);
	set_up_receiver(T_SIZE, T_BUF, 0);
	put_packet(0, &p);
	assert_int_equal(t_send(a, 0, 1), 1);
	assert_true(receive(0, &c));
	assert_int_equal(c.flags, 0);
	/* Nor when the host resets the guest. */
	assert_int_equal(rss_set(), 0);
	assert_int_equal(vs_guest_reset(t.vs, b->id), 0);
	set_up_receiver(T_SIZE, T_BUF, 0);
	put_packet(0, &p);
	assert_int_equal(t_send(a, 0, 1), 1);
	assert_true(receive(0, &c));
	nothing_received();
}

static void rss_arguments(void **state)
{
	(void)state;
	rss_any(ELISA_RSS_ALL);
	assert_int_equal(t_call(b, ELISA_NET_RSS, 1, arg_at), -ELISA_ENODEV);
	assert_int_equal(t_call(b, ELISA_NET_RSS, 1ull << 40, arg_at), -ELISA_ENODEV);
	assert_int_equal(t_call(b, ELISA_NET_RSS, 0, T_GPA + T_RAM - 175), -ELISA_EFAULT);
	assert_int_equal(t_call(b, ELISA_NET_RSS, 0, UINT64_MAX), -ELISA_EFAULT);
	rss.types = ELISA_RSS_ALL + 1;
	assert_int_equal(rss_set(), -ELISA_EINVAL);
	rss.types = 1;
	rss.reserved = 1;
	assert_int_equal(rss_set(), -ELISA_EINVAL);
	rss.reserved = 0;
	rss.reta[127] = T_QUEUES;
	assert_int_equal(rss_set(), -ELISA_EINVAL);
	rss.reta[127] = T_QUEUES - 1;
	assert_int_equal(rss_set(), 0);
}

/* ---- receive mode ---- */

static const uint8_t group1[6] = {1, 0, 0x5e, 0, 0, 1}, group2[6] = {1, 0, 0x5e, 0, 0, 2};
static const uint8_t other[6] = {2, 0, 0, 0, 9, 9};

static int64_t mode_of(struct t_guest *g, uint32_t flags, unsigned int unicast,
		       const uint8_t *const *macs, unsigned int count)
{
	struct elisa_rx_mode m = {
		.flags = flags,
		.unicast = (uint16_t)unicast,
		.multicast = (uint16_t)(count - unicast),
	};
	uint64_t at = g == b ? arg_at : tx_at;

	for (unsigned int i = 0; i < count; i++)
		memcpy(m.mac[i], macs[i], 6);
	memcpy(t_at(g, at), &m, sizeof(m));
	return t_call(g, ELISA_NET_RX_MODE, 0, at);
}
#define MODE(g, flags, unicast, ...)                                      \
	mode_of(g, flags, unicast, (const uint8_t *const[]){__VA_ARGS__}, \
		sizeof((const uint8_t *const[]){__VA_ARGS__}) / sizeof(void *))

/* Does a frame to `dst` arrive? If not, it is counted as filtered. */
static bool arrives(const uint8_t *dst)
{
	uint64_t before = t_drops(&t, b, ELISA_DROP_RX_FILTERED);
	bool arrived;

	assert_int_equal(t_send_one(a, 60, dst, a->mac, 1), 1);
	arrived = t_receive(b, 0, &frame);
	assert_int_equal(t_drops(&t, b, ELISA_DROP_RX_FILTERED), before + !arrived);
	return arrived;
}

static void modes(void **state)
{
	(void)state;
	/* At first: everything. */
	assert_true(arrives(b->mac) && arrives(other) && arrives(group1) && arrives(t_broadcast));
	assert_int_equal(MODE(b, 0, 1, b->mac, group1), 0);
	assert_true(arrives(b->mac) && arrives(group1) && arrives(t_broadcast));
	assert_false(arrives(group2));
	assert_false(arrives(other));
	assert_int_equal(MODE(b, ELISA_RX_ALLMULTI, 1, b->mac), 0);
	assert_true(arrives(b->mac) && arrives(group1) && arrives(group2) && arrives(t_broadcast));
	assert_false(arrives(other));
	/* The way to its own address is found already, and is not gone any more. */
	assert_true(arrives(b->mac));
	assert_int_equal(MODE(b, 0, 1, other, group2), 0);
	assert_false(arrives(b->mac));
	assert_false(arrives(group1));
	assert_true(arrives(other) && arrives(group2) && arrives(t_broadcast));
	assert_int_equal(MODE(b, ELISA_RX_PROMISC, 0), 0);
	assert_true(arrives(b->mac) && arrives(other) && arrives(group1) && arrives(t_broadcast));
	/* Nothing but broadcasts. */
	assert_int_equal(MODE(b, 0, 0), 0);
	assert_false(arrives(b->mac));
	assert_true(arrives(t_broadcast));
	/* A frame that nobody wanted is nobody's to have been sent to. */
	assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_NO_PORT), 0);
}

static void filtered_amid_a_burst(void **state)
{
	(void)state;
	assert_int_equal(MODE(b, 0, 1, b->mac), 0);
	vs_fdb_add(t.vs, other, 0, b->port);
	for (uint32_t i = 0; i < 30; i++)
		t_frame_put(a, 0, 60, i % 3 ? b->mac : other, a->mac, i);
	assert_int_equal(t_send(a, 0, 30), 30);
	for (uint32_t i = 0; i < 30; i++) {
		if (i % 3 == 0)
			continue;
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, 60, b->mac, a->mac, i));
	}
	nothing_received();
	assert_int_equal(queue_drops(b, 0, ELISA_DROP_RX_FILTERED), 10);
	/* Counted at the queue that it would have gone to. */
	t_frame_put(a, 1, 60, other, a->mac, 0);
	assert_int_equal(t_send(a, 1, 1), 1);
	assert_int_equal(queue_drops(b, 1, ELISA_DROP_RX_FILTERED), 1);
}

static void mode_arguments(void **state)
{
	const uint8_t zero[6] = {0};
	const uint8_t *many[ELISA_MACS_MAX + 1];
	struct vs_port_config cfg = t_port_config(&t, b);

	(void)state;
	for (int i = 0; i <= ELISA_MACS_MAX; i++)
		many[i] = i ? group1 : b->mac;
	assert_int_equal(t_call(b, ELISA_NET_RX_MODE, 1, arg_at), -ELISA_ENODEV);
	assert_int_equal(t_call(b, ELISA_NET_RX_MODE, 0, T_GPA + T_RAM - 391), -ELISA_EFAULT);
	assert_int_equal(MODE(b, 4, 1, b->mac), -ELISA_EINVAL);
	assert_int_equal(MODE(b, 0, 1, group1), -ELISA_EINVAL);
	assert_int_equal(MODE(b, 0, 0, b->mac), -ELISA_EINVAL);
	assert_int_equal(MODE(b, 0, 1, zero), -ELISA_EINVAL);
	assert_int_equal(mode_of(b, 0, 1, many, ELISA_MACS_MAX), 0);
	memset(t_at(b, arg_at), 0xff, 8);
	((struct elisa_rx_mode *)t_at(b, arg_at))->flags = 0;
	assert_int_equal(t_call(b, ELISA_NET_RX_MODE, 0, arg_at), -ELISA_EINVAL);
	((struct elisa_rx_mode *)t_at(b, arg_at))->unicast = 1;
	((struct elisa_rx_mode *)t_at(b, arg_at))->multicast = ELISA_MACS_MAX;
	assert_int_equal(t_call(b, ELISA_NET_RX_MODE, 0, arg_at), -ELISA_EINVAL);
	/* Only its own address where the host says so. */
	assert_int_equal(MODE(b, 0, 2, b->mac, other), 0);
	cfg.anti_spoof = true;
	t_port_set(&t, b, &cfg);
	assert_int_equal(MODE(b, 0, 2, b->mac, other), -ELISA_EPERM);
	assert_int_equal(MODE(b, ELISA_RX_PROMISC, 1, other), -ELISA_EPERM);
	assert_int_equal(MODE(b, 0, 1, b->mac, group1), 0);
	assert_false(arrives(other));
}

static void mode_ends(void **state)
{
	struct t_guest *c;

	(void)state;
	/* With the last queue. */
	assert_int_equal(MODE(b, 0, 0), 0);
	for (uint64_t i = 0; i < T_QUEUES; i++) {
		assert_int_equal(t_call(b, ELISA_NET_QUEUE_RESET, i, 0), 0);
		if (i < T_QUEUES - 1) {
			assert_int_equal(t_send_one(a, 60, b->mac, a->mac, 0), 1);
			assert_int_equal(t_drops(&t, b, ELISA_DROP_RX_FILTERED), i + 1);
		}
	}
	set_up_receiver(T_SIZE, T_BUF, 0);
	assert_true(arrives(b->mac) && arrives(group1));
	/* With the guest. */
	assert_int_equal(MODE(b, 0, 0), 0);
	assert_false(arrives(b->mac));
	assert_int_equal(vs_guest_reset(t.vs, b->id), 0);
	set_up_receiver(T_SIZE, T_BUF, 0);
	assert_true(arrives(b->mac) && arrives(group1));
	/* With the binding; what was set before the first queue holds. */
	assert_int_equal(MODE(b, 0, 0), 0);
	assert_int_equal(vs_port_unbind(t.vs, b->port), 0);
	assert_int_equal(MODE(b, 0, 0), -ELISA_ENODEV);
	assert_int_equal(vs_port_bind(t.vs, b->port, b->id), 0);
	set_up_receiver(T_SIZE, T_BUF, 0);
	assert_true(arrives(b->mac) && arrives(group1));
	c = t_guest(&t, false);
	assert_int_equal(mode_of(c, 0, 0, NULL, 0), 0);
	assert_true(t_setup(c, 0, T_SIZE, T_SIZE, T_BUF) > 0);
	t_post(&c->q[0], T_SIZE);
	assert_int_equal(t_send_one(a, 60, c->mac, a->mac, 0), 1);
	assert_false(t_receive(c, 0, &frame));
	assert_int_equal(t_drops(&t, c, ELISA_DROP_RX_FILTERED), 1);
}

/* ---- doorbells ---- */

#define BELL 0x50020

static int64_t ask(unsigned int queue)
{
	return t_call(a, ELISA_NET_BELL, (uint64_t)a->q[queue].handle, 0);
}

static void send_to_b(unsigned int queue, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		t_frame_put(a, queue, 60, b->mac, a->mac, i);
	assert_int_equal(t_send(a, queue, count), count);
	for (uint32_t i = 0; i < count; i++)
		assert_true(t_receive(b, queue, &frame));
}

static void with_bells(void)
{
	set_up_receiver(T_SIZE, T_BUF, ELISA_NET_F_EVENT);
	assert_int_equal(vs_port_bell(t.vs, b->port, BELL), 0);
}

static uint64_t bells_of(struct t_guest *g)
{
	struct elisa_port_counters c;

	assert_int_equal(vs_port_counters(t.vs, g->port, &c), 0);
	return c.tx_bells;
}

static void told_once_per_sleep(void **state)
{
	(void)state;
	with_bells();
	assert_int_equal(((struct elisa_port_info *)t_at(b, arg_at))->bell, 0);
	assert_int_equal(t_call(b, ELISA_NET_PORT_INFO, 0, arg_at), 0);
	assert_int_equal(((struct elisa_port_info *)t_at(b, arg_at))->bell, BELL);
	send_to_b(0, 5);
	assert_false(a->bell);
	for (uint32_t event = 1; event < 50; event++) {
		b->q[0].rx->event = event;
		send_to_b(0, 3);
		assert_true(a->bell);
		/* As long as it does not ask. */
		send_to_b(0, 1);
		assert_true(a->bell);
		assert_int_equal(ask(0), BELL);
		assert_int_equal(ask(0), 0);
		/* Told: not again for this number. */
		send_to_b(0, 3);
		assert_false(a->bell);
		assert_int_equal(ask(0), 0);
		/* Another TX queue was not told. */
		b->q[1].rx->event = event;
		send_to_b(1, 1);
		assert_true(a->bell);
		assert_int_equal(ask(1), BELL + 1);
		assert_int_equal(ask(1), 0);
		if (event & 1)
			b->q[0].rx->event = 0;
		send_to_b(0, 1);
		assert_false(a->bell);
	}
	assert_int_equal(bells_of(a), 98);
	/* Numbers may take turns. */
	for (uint32_t i = 0; i < 20; i++) {
		b->q[0].rx->event = 100 + i % 2;
		send_to_b(0, 1);
		assert_int_equal(ask(0), BELL);
	}
	/* Frames that do not arrive wake nobody. */
	b->q[0].rx->event = 7;
	t_send_one(a, 13, b->mac, a->mac, 0);
	t_send_one(a, 60, a->mac, a->mac, 0);
	assert_false(a->bell);
}

static void nobody_to_ring(void **state)
{
	(void)state;
	/* Without the feature nobody looks. */
	assert_int_equal(vs_port_bell(t.vs, b->port, BELL), 0);
	b->q[0].rx->event = 1;
	send_to_b(0, 1);
	assert_false(a->bell);
	/* Without a doorbell nobody tells. */
	with_bells();
	assert_int_equal(vs_port_bell(t.vs, b->port, 0), 0);
	b->q[0].rx->event = 1;
	send_to_b(0, 1);
	assert_false(a->bell);
	/* Gone between telling and asking. */
	assert_int_equal(vs_port_bell(t.vs, b->port, BELL), 0);
	b->q[0].rx->event = 2;
	send_to_b(0, 1);
	assert_true(a->bell);
	assert_int_equal(vs_port_unbind(t.vs, b->port), 0);
	assert_int_equal(ask(0), 0);
	assert_int_equal(bells_of(a), 0);
	/* Bound again, it has to be said again. */
	assert_int_equal(vs_port_bind(t.vs, b->port, b->id), 0);
	assert_int_equal(t_call(b, ELISA_NET_PORT_INFO, 0, arg_at), 0);
	assert_int_equal(((struct elisa_port_info *)t_at(b, arg_at))->bell, 0);
	/* A queue set up anew begins to count anew: its number 2 is another one. */
	with_bells();
	b->q[0].rx->event = 2;
	send_to_b(0, 1);
	assert_int_equal(ask(0), BELL);
	assert_int_equal(vs_port_bell(t.vs, 79, 1), -ELISA_ENODEV);
	assert_int_equal(t_call(a, ELISA_NET_BELL, 1, 0), -ELISA_ESTALE);
	assert_int_equal(t_call(a, ELISA_NET_BELL, UINT64_MAX, 0), -ELISA_ESTALE);
}

/* More sleepers than the list has room for: those that it has not are due. */
static void list_overflows(void **state)
{
	uint32_t due[T_QUEUES], told = 0;

	(void)state;
	with_bells();
	for (uint32_t event = 1; event <= 100; event++) {
		b->q[0].rx->event = event;
		send_to_b(0, 1);
		assert_true(a->bell);
	}
	while (ask(0) == BELL)
		told++;
	assert_int_equal(told, 64);
	assert_int_equal(vs_bells_due(t.vs, due, T_QUEUES), 0);
	assert_int_equal(vs_bells_due(t.vs, due, T_QUEUES), 1);
	assert_int_equal(due[0], BELL);
	/* The list works on. */
	b->q[0].rx->event = 101;
	send_to_b(0, 1);
	assert_int_equal(ask(0), BELL);
	assert_int_equal(ask(0), 0);
	/* Set up anew, it is empty. */
	b->q[0].rx->event = 102;
	send_to_b(0, 1);
	assert_true(a->bell);
	assert_true(t_setup(a, 0, T_SIZE, T_SIZE, T_BUF) > 0);
	assert_int_equal(ask(0), 0);
}

static void sleepers_that_are_due(void **state)
{
	uint32_t due[16];

	(void)state;
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	with_bells();
	/* Sleeping over nothing is sleeping well. */
	b->q[0].rx->event = 1;
	for (int i = 0; i < 5; i++)
		assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	/* Awake in time. */
	send_to_b(0, 1);
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	b->q[0].rx->event = 0;
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	b->q[0].rx->event = 2;
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	/* Not rung: due from the second time on, until it wakes. */
	send_to_b(0, 1);
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(vs_bells_due(t.vs, due, 16), 1);
		assert_int_equal(due[0], BELL);
	}
	b->q[0].rx->event = 0;
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	/* Several, and an array that is too small: the others come next. */
	for (unsigned int i = 0; i < 2; i++) {
		b->q[i].rx->event = 3;
		send_to_b(i, 1);
	}
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	assert_int_equal(vs_bells_due(t.vs, due, 16), 2);
	assert_int_equal(due[0], BELL);
	assert_int_equal(due[1], BELL + 1);
	assert_int_equal(vs_bells_due(t.vs, due, 1), 1);
	assert_int_equal(vs_bells_due(t.vs, due, 0), 0);
	/* Nobody is due who is gone. */
	assert_int_equal(vs_port_unbind(t.vs, b->port), 0);
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
	assert_int_equal(vs_bells_due(t.vs, due, 16), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hash_vectors),
		TEST(hash_by_definition),
		TEST(flows_stay_in_order),
		TEST(reta_changes),
		TEST(headers_that_are_none),
		TEST(hash_of_long_and_flooded_frames),
		TEST(steered_to_a_queue_that_is_down),
		TEST(rss_arguments),
		TEST(modes),
		TEST(filtered_amid_a_burst),
		TEST(mode_arguments),
		TEST(mode_ends),
		TEST(told_once_per_sleep),
		TEST(nobody_to_ring),
		TEST(list_overflows),
		TEST(sleepers_that_are_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
