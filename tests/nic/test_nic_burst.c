/* SPDX-License-Identifier: BSD-3-Clause */
/* What becomes of frames between the rings of a NIC's port and the driver, byte by byte. */
#include <rte_mbuf.h>
#include <rte_ethdev.h>
#include "common.h"

#define TCP_AT	   16
#define UDP_AT	   6
#define L4_REQ(at) (ELISA_NET_CSUM | (at) << ELISA_NET_CSUM_OFFSET)
#define CSUMS	   (RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
#define TSO_CAPA                                                              \
	(CSUMS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO | \
	 RTE_ETH_TX_OFFLOAD_MULTI_SEGS)

static struct nic *nic;
static struct hand h;
static uint8_t frame[ELISA_GSO_FRAME_MAX];
static struct fake_wire *sent, *received;

static void fill(uint32_t len, uint32_t seed)
{
	for (uint32_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		frame[i] = (uint8_t)(seed >> 24);
	}
}

static void up_with(const struct nic_config *cfg)
{
	nic = nic_up(cfg);
	hand_take(&h, nic, 0);
	sent = &fake[0].sent[0];
	received = &fake[0].received[0];
}

static void up(void)
{
	struct nic_config cfg = nic_config("net_fake0");

	up_with(&cfg);
}

/* A device that takes and gives long frames in pieces. */
static void up_in_pieces(void)
{
	struct nic_config cfg = nic_config("net_fake0");

	cfg.mtu = 9000;
	fake[0].tx_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	fake[0].rx_capa = RTE_ETH_RX_OFFLOAD_SCATTER;
	up_with(&cfg);
}

static int begin(void **state)
{
	fake_reset();
	return 0;
}

/* All buffers are back in their pools, or where they belong. */
static int end(void **state)
{
	uint64_t lost;

	lib->stop(nic);
	assert_int_equal(lib->start(nic, why), 0);
	lost = nic_lost(nic);
	lib->remove(nic);
	return lost ? -1 : 0;
}

static void assert_sent(uint32_t len)
{
	const struct fake_frame *f = fake_get(sent);

	assert_non_null(f);
	assert_int_equal(f->len, len);
	assert_memory_equal(f->data, frame, len);
}

/* ---- to the NIC ---- */

static void many_to_nic(void **state)
{
	uint32_t n = 0, seen = 0;

	up();
	while (n < 5000) {
		for (uint32_t i = 0; i < 1 + n % 40; i++) {
			fill(60 + n % 1440, n);
			if (!hand_send(&h, frame, 60 + n % 1440, 0, 0, 0))
				break;
			n++;
		}
		assert_true(hand_tx(&h) <= VS_NIC_BURST);
		for (const struct fake_frame *f; (f = fake_get(sent)); seen++) {
			fill(60 + seen % 1440, seen);
			assert_int_equal(f->len, 60 + seen % 1440);
			assert_int_equal(f->segs, 1);
			assert_int_equal(f->ol_flags, 0);
			assert_memory_equal(f->data, frame, f->len);
		}
	}
	while (hand_tx(&h))
		;
	seen += sent->put - sent->got;
	assert_int_equal(seen, n);
}

static void short_ones_are_padded(void **state)
{
	static const uint8_t zeroes[46];
	const struct fake_frame *f;

	up();
	/* What was in the buffer before must not show. */
	for (int i = 0; i < 600; i++) {
		memset(frame, 0xee, 200);
		assert_true(hand_send(&h, frame, 200, 0, 0, 0));
		hand_tx(&h);
		assert_sent(200);
	}
	assert_true(hand_send(&h, frame, 14, 0, 0, 0));
	assert_int_equal(hand_tx(&h), 1);
	f = fake_get(sent);
	assert_int_equal(f->len, 60);
	assert_memory_equal(f->data, frame, 14);
	assert_memory_equal(f->data + 14, zeroes, 46);
}

static void jumbo_to_nic(void **state)
{
	const struct fake_frame *f;

	up_in_pieces();
	assert_int_equal(h.setup.rx_buf_len, 2048);
	assert_int_equal(fake[0].mtu, 9000);
	for (uint32_t len = 2000; len <= 9014; len += 7) {
		fill(len, len);
		while (!hand_send(&h, frame, len, 0, 0, 0))
			hand_tx(&h);
		hand_tx(&h);
		f = fake_get(sent);
		assert_int_equal(f->len, len);
		assert_int_equal(f->segs, (len + 2047) / 2048);
		assert_memory_equal(f->data, frame, len);
	}
}

/* A device that takes no pieces gets buffers that need none. */
static void jumbo_in_one_piece(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	const struct elisa_txd *d;

	cfg.mtu = 9000;
	up_with(&cfg);
	assert_true(h.setup.rx_buf_len >= 9018);
	fill(9014, 1);
	assert_true(hand_send(&h, frame, 9014, 0, 0, 0));
	hand_tx(&h);
	assert_int_equal(sent->frame[0].segs, 1);
	assert_sent(9014);
	fake_put(received, frame, 9014, 9014, 0);
	assert_int_equal(hand_rx(&h), 1);
	d = hand_desc(&h, 0);
	assert_int_equal(d->len, 9014);
	assert_memory_equal((void *)(uintptr_t)d->addr, frame, 9014);
	hand_done(&h, 1);
}

/* Frames whose sender died are void, with all their buffers; others are not touched. */
static void aborted(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	struct nic_stats stats;

	fake[0].tx_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	up_with(&cfg);
	for (uint32_t i = 0; i < 2000; i++) {
		fill(100, i);
		assert_true(hand_send(&h, frame, 100, 0, 0, 0));
		switch (i % 4) {
		case 0: /* alone */
			hand_commit(&h, 0, ELISA_RXC_ABORTED, 0, 0);
			break;
		case 1: /* from its second buffer on */
			hand_commit(&h, 2048, ELISA_NET_MORE, 0, 0);
			hand_commit(&h, 0, ELISA_RXC_ABORTED, 0, 0);
			hand_commit(&h, 0, ELISA_RXC_ABORTED, 0, 0);
			break;
		case 2: /* the first ones, with a good one after */
			hand_commit(&h, 0, ELISA_RXC_ABORTED, 0, 0);
			assert_true(hand_send(&h, frame, 100, 0, 0, 0));
			break;
		default: /* longer than its buffer, or of nothing: nobody commits that */
			hand_commit(&h, 60000, 0, 0, 0);
			hand_commit(&h, 0, 0, 0, 0);
		}
		hand_tx(&h);
		assert_sent(100);
		if (i % 4 == 2)
			assert_sent(100);
		assert_null(fake_get(sent));
	}
	assert_int_equal(lib->stats(nic, &stats), 0);
	assert_int_equal(stats.tx_errors + stats.tx_full, 0);
}

/* Not all pieces are there yet: nothing of it is taken. */
static void unfinished(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");

	fake[0].tx_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	up_with(&cfg);
	fill(2248, 3);
	memcpy(hand_buffer(&h), frame, 2048);
	hand_commit(&h, 2048, ELISA_NET_MORE, 0, 0);
	assert_int_equal(hand_tx(&h), 0);
	assert_int_equal(hand_tx(&h), 0);
	memcpy(hand_buffer(&h), frame + 2048, 200);
	hand_commit(&h, 200, 0, 0, 0);
	assert_int_equal(hand_tx(&h), 2);
	assert_sent(2248);
}

static void too_many_pieces(void **state)
{
	struct nic_stats stats;

	fake[0].segs_max = 3;
	up_in_pieces();
	fill(9000, 3);
	assert_true(hand_send(&h, frame, 9000, 0, 0, 0));
	assert_true(hand_send(&h, frame, 6000, 0, 0, 0));
	hand_tx(&h);
	assert_sent(6000);
	assert_null(fake_get(sent));
	assert_int_equal(lib->stats(nic, &stats), 0);
	assert_int_equal(stats.tx_errors, 1);
}

/* ---- a NIC that does not take them ---- */

static void slow(void **state)
{
	uint32_t n = 0, seen = 0;

	fake[0].accepts = 3;
	up();
	while (seen < 3000) {
		for (fill(64, n); n < 3000 && hand_send(&h, frame, 64, 0, 0, 0); fill(64, n))
			n++;
		hand_tx(&h);
		for (const struct fake_frame *f; (f = fake_get(sent)); seen++) {
			fill(64, seen);
			assert_memory_equal(f->data, frame, 64);
		}
	}
}

/* The end of a burst that the NIC had no room for: nothing comes after it. */
static void end_of_burst(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	uint32_t rounds = 0;

	fake[0].tx_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	up_with(&cfg);
	for (uint32_t i = 0; i < 20; i++) {
		fill(64, i);
		assert_true(hand_send(&h, frame, 64, 0, 0, 0));
		if (i % 5 == 0)
			hand_commit(&h, 0, ELISA_RXC_ABORTED, 0, 0);
	}
	/* As the switch does: for as long as something is there that was not taken. */
	for (fake[0].accepts = 3; h.taken != h.next; rounds++) {
		assert_true(rounds < 20);
		hand_tx(&h);
	}
	for (uint32_t i = 0; i < 20; i++) {
		fill(64, i);
		assert_sent(64);
	}
	assert_int_equal(rounds, 7);
}

static void stuck(void **state)
{
	struct nic_stats stats;
	struct nic_link link;
	uint32_t n = 0;

	fake[0].accepts = 0;
	up();
	while (hand_send(&h, frame, 64, 0, 0, 0))
		n++;
	/* It holds some back, but they are not taken: somebody has to come again. */
	for (int i = 0; i < 100; i++)
		hand_tx(&h);
	assert_int_equal(h.taken, 0);
	assert_int_equal(lib->stats(nic, &stats), 0);
	assert_int_equal(stats.tx_full, 0);
	/* For ever. */
	for (int i = 0; i < 100000; i++)
		hand_tx(&h);
	assert_int_equal(lib->stats(nic, &stats), 0);
	assert_int_equal(stats.tx_full, 1);
	/* Without a link nothing is kept. */
	fake[0].link = false;
	assert_int_equal(lib->link(nic, &link), 0);
	assert_false(link.up);
	assert_int_equal(link.active, -1);
	for (int i = 0; i < 100; i++)
		hand_tx(&h);
	assert_int_equal(lib->stats(nic, &stats), 0);
	assert_int_equal(stats.tx_full, n);
	/* It comes back. */
	fake[0].link = true;
	fake[0].accepts = 1000;
	assert_int_equal(lib->link(nic, &link), 0);
	assert_true(link.up && link.full_duplex);
	assert_int_equal(link.speed_mbps, 1000);
	fill(64, 7);
	assert_true(hand_send(&h, frame, 64, 0, 0, 0));
	hand_tx(&h);
	assert_sent(64);
}

/* ---- from the NIC ---- */

static void many_from_nic(void **state)
{
	uint32_t put = 0, seen = 0;

	up();
	while (seen < 5000) {
		for (uint32_t i = 0; i < 1 + put % 50; i++, put++) {
			fill(60 + put % 1440, put);
			fake_put(received, frame, 60 + put % 1440, 2048, 0);
		}
		while (hand_rx(&h)) {
			uint32_t done = 1 + seen % 7 < h.described ? 1 + seen % 7 : h.described;

			for (uint32_t i = 0; i < done; i++, seen++) {
				const struct elisa_txd *d = hand_desc(&h, i);

				fill(60 + seen % 1440, seen);
				assert_int_equal(d->len, 60 + seen % 1440);
				assert_int_equal(d->flags | d->csum_start | d->gso_size, 0);
				assert_memory_equal((void *)(uintptr_t)d->addr, frame, d->len);
			}
			hand_done(&h, done);
		}
		assert_int_equal(seen, put);
	}
	assert_int_equal(fake[0].received[0].got, put);
}

static void pieces_from_nic(void **state)
{
	struct nic_stats stats;

	up_in_pieces();
	for (uint32_t seg = 100; seg < 2048; seg += 131) {
		uint32_t at = 0, n;

		fill(3900, seg);
		fake_put(received, frame, 3900, seg, 0);
		n = hand_rx(&h);
		assert_int_equal(n, (3900 + seg - 1) / seg);
		for (uint32_t i = 0; i < n; i++) {
			const struct elisa_txd *d = hand_desc(&h, i);

			assert_int_equal(d->flags, i + 1 < n ? ELISA_NET_MORE : 0);
			assert_memory_equal((void *)(uintptr_t)d->addr, frame + at, d->len);
			at += d->len;
		}
		assert_int_equal(at, 3900);
		hand_done(&h, n);
	}
	/* More pieces than a frame may have. */
	fake_put(received, frame, 3900, 3900 / ELISA_SEGS_MAX, 0);
	fake_put(received, frame, 60, 60, 0);
	assert_int_equal(hand_rx(&h), 1);
	assert_int_equal(hand_desc(&h, 0)->len, 60);
	hand_done(&h, 1);
	assert_int_equal(lib->stats(nic, &stats), 0);
	assert_int_equal(stats.rx_errors, 1);
}

static void checksums_from_nic(void **state)
{
	static const struct {
		uint64_t ol_flags;
		uint16_t flags;
	} rows[] = {
		{0, 0},
		{RTE_MBUF_F_RX_L4_CKSUM_GOOD, ELISA_RXC_CSUM_OK},
		{RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_GOOD, ELISA_RXC_CSUM_OK},
		{RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_BAD, 0},
		{RTE_MBUF_F_RX_L4_CKSUM_BAD | RTE_MBUF_F_RX_IP_CKSUM_GOOD, 0},
		{RTE_MBUF_F_RX_L4_CKSUM_NONE | RTE_MBUF_F_RX_IP_CKSUM_GOOD, 0},
		{RTE_MBUF_F_RX_IP_CKSUM_GOOD, 0},
	};
	struct nic_info info;

	fake[0].rx_capa = RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	up();
	assert_int_equal(lib->info(nic, &info), 0);
	assert_int_equal(info.rx_csum, 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fake_put(received, frame, 100, 60, rows[i].ol_flags);
		assert_int_equal(hand_rx(&h), 2);
		assert_int_equal(hand_desc(&h, 0)->flags, rows[i].flags | ELISA_NET_MORE);
		assert_int_equal(hand_desc(&h, 1)->flags, 0);
		hand_done(&h, 2);
	}
}

/* ---- what is left to do for a frame ---- */

struct layout {
	bool v6;
	uint32_t tags, options; /* of IP, bytes */
	uint8_t proto;
	uint16_t fragment;
};

/* Headers of a frame of `len` bytes, random behind. Returns where L4 begins. */
static uint32_t headers(const struct layout *l, uint32_t len)
{
	uint32_t at = 12, l4;

	fill(len, len);
	frame[0] = 2;
	for (uint32_t i = 0; i < l->tags; i++, at += 4) {
		frame[at] = i + 1 < l->tags ? 0x88 : 0x81;
		frame[at + 1] = i + 1 < l->tags ? 0xa8 : 0x00;
	}
	frame[at++] = l->v6 ? 0x86 : 0x08;
	frame[at++] = l->v6 ? 0xdd : 0x00;
	l4 = at + (l->v6 ? 40 : 20) + l->options;
	if (l->v6) {
		frame[at] = 0x60;
		frame[at + 4] = (uint8_t)((len - at - 40) >> 8);
		frame[at + 5] = (uint8_t)(len - at - 40);
		frame[at + 6] = l->options ? 60 : l->proto;
		frame[at + 40] = l->proto;
		frame[at + 41] = (uint8_t)(l->options / 8 - 1);
	} else {
		frame[at] = (uint8_t)(0x45 + l->options / 4);
		frame[at + 2] = (uint8_t)((len - at) >> 8);
		frame[at + 3] = (uint8_t)(len - at);
		frame[at + 6] = (uint8_t)(l->fragment >> 8);
		frame[at + 7] = (uint8_t)l->fragment;
		frame[at + 9] = l->proto;
	}
	frame[l4 + 12] = 0x80; /* TCP with twelve bytes of options */
	return l4;
}

/* RFC 1071, the plain way. */
static uint16_t sum_of(const uint8_t *p, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void checksums_by_nic(void **state)
{
	static const struct {
		struct layout layout;
		uint16_t offset;
		uint64_t ol_flags; /* 0: by software */
	} rows[] = {
		{{.proto = 6}, TCP_AT, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM},
		{{.proto = 17}, UDP_AT, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM},
		{{.proto = 6, .options = 40}, TCP_AT, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM},
		{{.proto = 6, .tags = 2}, TCP_AT, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM},
		{{.v6 = true, .proto = 6}, TCP_AT, RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_TCP_CKSUM},
		{{.v6 = true, .proto = 17, .tags = 1},
		 UDP_AT,
		 RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM},
		{{.v6 = true, .proto = 6, .options = 8}, TCP_AT, 0},
		{{.proto = 6, .fragment = 0x2000}, TCP_AT, 0},
		{{.proto = 6, .tags = 3}, TCP_AT, 0},
		{{.proto = 132}, 8, 0},
		{{.proto = 17}, TCP_AT, 0},
		{{.proto = 6}, UDP_AT, 0},
	};
	uint32_t by_nic = 0;

	fake[0].tx_capa = CSUMS | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	up();
	assert_int_equal(h.setup.features, ELISA_NET_F_CSUM);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (uint32_t len = 150; len < 1514; len += 97) {
			uint32_t l4 = headers(&rows[i].layout, len), at = l4 + rows[i].offset;
			const struct fake_frame *f;

			assert_true(
				hand_send(&h, frame, len, L4_REQ(rows[i].offset), (uint16_t)l4, 0));
			hand_tx(&h);
			f = fake_get(sent);
			assert_non_null(f);
			assert_int_equal(f->ol_flags, rows[i].ol_flags);
			if (f->ol_flags) {
				by_nic++;
				assert_int_equal(f->l2_len, 14 + 4 * rows[i].layout.tags);
				assert_int_equal(f->l2_len + f->l3_len, l4);
			} else {
				uint16_t sum = (uint16_t)~sum_of(frame + l4, len - l4, 0);

				if (!sum && rows[i].offset == UDP_AT)
					sum = 0xffff;
				frame[at] = (uint8_t)(sum >> 8);
				frame[at + 1] = (uint8_t)sum;
			}
			assert_memory_equal(f->data, frame, len);
		}
	}
	assert_int_equal(fake[0].prepared, by_nic);
}

/* Pieces that begin at odd places, the sum's own bytes in two of them, a start behind the first. */
static void software_over_pieces(void **state)
{
	static const uint16_t starts[] = {14, 33, 34, 40};

	fake[0].tx_capa = CSUMS | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	up();
	for (uint32_t cut = 15; cut < 60; cut++)
		for (int s = 0; s < 4; s++) {
			uint32_t len = 301 + cut % 2, start = starts[s], at = start + 10, done = 0;
			uint32_t parts[] = {cut, cut % 7 + 1, 1, len - cut - cut % 7 - 2};
			const struct fake_frame *f;
			uint16_t sum;

			fill(len, cut);
			frame[12] = 0x88;
			frame[13] = 0xb5;
			for (int i = 0; i < 4; done += parts[i++]) {
				memcpy(hand_buffer(&h), frame + done, parts[i]);
				hand_commit(&h, parts[i],
					    (i ? 0 : L4_REQ(10)) | (i < 3 ? ELISA_NET_MORE : 0),
					    i ? 0 : (uint16_t)start, 0);
			}
			assert_int_equal(hand_tx(&h), 4);
			sum = (uint16_t)~sum_of(frame + start, len - start, 0);
			frame[at] = (uint8_t)(sum >> 8);
			frame[at + 1] = (uint8_t)sum;
			f = fake_get(sent);
			assert_int_equal(f->len, len);
			assert_int_equal(f->ol_flags, 0);
			assert_memory_equal(f->data, frame, len);
		}
	/* Beyond the end: nobody asks for that. */
	assert_true(hand_send(&h, frame, 100, L4_REQ(10), 90, 0));
	assert_true(hand_send(&h, frame, 100, L4_REQ(10), 1000, 0));
	hand_tx(&h);
	assert_null(fake_get(sent));
}

static void segments_by_nic(void **state)
{
	static const struct layout rows[] = {{.proto = 6},
					     {.proto = 6, .tags = 1},
					     {.proto = 6, .options = 12},
					     {.v6 = true, .proto = 6}};

	fake[0].tx_capa = TSO_CAPA;
	up();
	assert_int_equal(h.setup.features, ELISA_NET_F_CSUM | ELISA_NET_F_TSO4 | ELISA_NET_F_TSO6);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (uint32_t len = 3000; len < 65000; len += 9973) {
			uint32_t l4 = headers(&rows[i], len), l2 = 14 + 4 * rows[i].tags;
			uint16_t tso = rows[i].v6 ? ELISA_NET_TSO6 : ELISA_NET_TSO4, sum;
			const struct fake_frame *f;

			assert_true(hand_send(&h, frame, len, L4_REQ(TCP_AT) | tso, (uint16_t)l4,
					      1400));
			hand_tx(&h);
			f = fake_get(sent);
			assert_non_null(f);
			assert_int_equal(
				f->ol_flags,
				RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM |
					(rows[i].v6 ? RTE_MBUF_F_TX_IPV6
						    : RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM));
			assert_int_equal(f->l2_len, l2);
			assert_int_equal(f->l2_len + f->l3_len, l4);
			assert_int_equal(f->l4_len, 32);
			assert_int_equal(f->tso_segsz, 1400);
			/* The pseudo header: addresses and protocol, no length. */
			if (rows[i].v6) {
				sum = sum_of(frame + l2 + 8, 32, 6);
			} else {
				sum = sum_of(frame + l2 + 12, 8, 6);
				memset(frame + l2 + 10, 0, 2);
			}
			frame[l4 + TCP_AT] = (uint8_t)(sum >> 8);
			frame[l4 + TCP_AT + 1] = (uint8_t)sum;
			assert_int_equal(f->len, len);
			assert_memory_equal(f->data, frame, len);
		}
}

/* Headers that are not what they were when the switch looked: counted, not sent. */
static void bad_segments(void **state)
{
	static const struct layout rows[] = {{.proto = 17},
					     {.v6 = true, .proto = 6},
					     {.proto = 6, .fragment = 1},
					     {.proto = 6, .tags = 3}};
	uint16_t flags = L4_REQ(TCP_AT) | ELISA_NET_TSO4;
	struct nic_stats stats;
	uint32_t l4;

	fake[0].tx_capa = TSO_CAPA;
	up();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		l4 = headers(&rows[i], 5000);
		assert_true(hand_send(&h, frame, 5000, flags, (uint16_t)l4, 1400));
	}
	/* A TCP header longer than there is, or too short; no payload; tiny segments; what the
	 * driver finds it cannot do. */
	l4 = headers(&rows[2], 5000);
	frame[20] = frame[21] = 0;
	frame[l4 + 12] = 0x40;
	assert_true(hand_send(&h, frame, 5000, flags, (uint16_t)l4, 1400));
	frame[l4 + 12] = 0xf0;
	assert_true(hand_send(&h, frame, l4 + 40, flags, (uint16_t)l4, 1400));
	frame[l4 + 12] = 0x50;
	assert_true(hand_send(&h, frame, l4 + 20, flags, (uint16_t)l4, 1400));
	assert_true(hand_send(&h, frame, 5000, flags, (uint16_t)l4, 63));
	assert_true(hand_send(&h, frame, 5000, flags, (uint16_t)l4, 77));
	assert_true(hand_send(&h, frame, 5000, flags, 65000, 1400));
	while (hand_tx(&h))
		;
	assert_null(fake_get(sent));
	assert_int_equal(lib->stats(nic, &stats), 0);
	assert_int_equal(stats.tx_errors, 10);
	assert_true(hand_send(&h, frame, 5000, flags, (uint16_t)l4, 1400));
	hand_tx(&h);
	assert_non_null(fake_get(sent));
}

/* ---- anything ---- */

static uint32_t seed = 1;

static uint32_t any(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)seed * below >> 32);
}

/* Often such headers as there are, sometimes with a byte that is none. */
static uint32_t any_frame(uint32_t len)
{
	struct layout l = {.v6 = any(2), .tags = any(4), .proto = any(2) ? 6 : 17};
	uint32_t l4 = 0;

	l.options = any(3) ? 0 : 8 * any(5);
	if (len > 150 && any(10))
		l4 = headers(&l, len);
	else
		fill(len, seed);
	for (uint32_t n = any(4); n; n--)
		frame[any(len < 100 ? len : 100)] = (uint8_t)any(256);
	return any(10) ? l4 : any(len + 30);
}

/* In pieces of any length, requests of all kinds, some cut off by a death. */
static void send_anything(void)
{
	uint32_t len = 14 + (any(8) ? any(1500) : any(60000)), at = 0, l4 = any_frame(len);
	uint16_t flags = 0, gso = 0;

	if (any(4))
		flags = ELISA_NET_CSUM | (any(5) ? (any(2) ? TCP_AT : UDP_AT) : any(256))
						 << ELISA_NET_CSUM_OFFSET;
	if (flags && !any(2)) {
		flags |= any(2) ? ELISA_NET_TSO4 : ELISA_NET_TSO6;
		gso = (uint16_t)any(3000);
	}
	while (at < len) {
		uint32_t part = any(6) ? 2048 : 1 + any(2048);

		if (part > len - at)
			part = len - at;
		memcpy(hand_buffer(&h), frame + at, part);
		at += part;
		if (!any(60)) {
			hand_commit(&h, part, ELISA_RXC_ABORTED, 0, 0);
			return;
		}
		hand_commit(&h, part, flags | (at < len ? ELISA_NET_MORE : 0),
			    flags ? (uint16_t)l4 : 0, gso);
		flags = 0;
	}
}

static void check_sent(const struct fake_frame *f)
{
	uint32_t headers_len = f->l2_len + f->l3_len;

	assert_true(f->len >= (f->segs > 1 ? 14 : 60) && f->first_len <= f->len);
	if (!f->ol_flags)
		return;
	assert_true(f->l2_len >= 14 && f->l2_len <= 22 && f->l3_len >= 20 && f->l3_len <= 60);
	if (f->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
		assert_true(f->l4_len >= 20 && f->l4_len <= 60 && f->tso_segsz >= 64);
		assert_true(headers_len + f->l4_len <= f->first_len);
		assert_true(headers_len + f->l4_len < f->len);
	} else {
		assert_true(headers_len + 8 <= f->first_len);
	}
}

static void anything(void **state)
{
	struct nic_stats stats;
	uint64_t sent_in_all = 0;

	fake[0].tx_capa = TSO_CAPA;
	fake[0].accepts = 20;
	up();
	for (int i = 0; i < 100000; i++) {
		while (h.next - h.taken > 400)
			hand_tx(&h);
		send_anything();
		if (any(3))
			continue;
		hand_tx(&h);
		for (const struct fake_frame *f; (f = fake_get(sent)); sent_in_all++)
			check_sent(f);
	}
	assert_int_equal(lib->stats(nic, &stats), 0);
	assert_true(sent_in_all > 50000 && stats.tx_errors > 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
		T(many_to_nic),
		T(short_ones_are_padded),
		T(jumbo_to_nic),
		T(jumbo_in_one_piece),
		T(aborted),
		T(unfinished),
		T(too_many_pieces),
		T(slow),
		T(end_of_burst),
		T(stuck),
		T(many_from_nic),
		T(pieces_from_nic),
		T(checksums_from_nic),
		T(checksums_by_nic),
		T(software_over_pieces),
		T(segments_by_nic),
		T(bad_segments),
		T(anything),
	};

	return cmocka_run_group_tests(tests, common_open, common_close);
}
