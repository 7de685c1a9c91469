/* SPDX-License-Identifier: BSD-3-Clause */
/* What is left to do for a frame, as the TAP's header and as descriptors say it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "../../elisa-guest/tap-offload.h"

#define CSUM(offset) (ELISA_NET_CSUM | (offset) << ELISA_NET_CSUM_OFFSET)

static const struct {
	struct virtio_net_hdr header; /* without its hint */
	uint16_t flags, csum_start, gso_size;
} same[] = {
	{.header = {.flags = 0}},
	{.header = {.flags = 1, .csum_start = 34, .csum_offset = 6}, CSUM(6), 34, 0},
	{.header = {.flags = 1, .csum_start = 54, .csum_offset = 16}, CSUM(16), 54, 0},
	{.header = {.flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16, .gso_size = 9},
	 CSUM(16) | ELISA_NET_TSO4, 34, 9},
	{.header = {.flags = 1, .gso_type = 4, .csum_start = 54, .csum_offset = 16,
		    .gso_size = 0xfffe},
	 CSUM(16) | ELISA_NET_TSO6, 54, 0xfffe},
	{.header = {.flags = 1, .gso_type = 0x81, .csum_start = 34, .csum_offset = 16,
		    .gso_size = 1448},
	 CSUM(16) | ELISA_NET_TSO4 | ELISA_NET_ECN, 34, 1448},
	{.header = {.flags = 1, .gso_type = 0x84, .csum_start = 58, .csum_offset = 255,
		    .gso_size = 1448},
	 CSUM(255) | ELISA_NET_TSO6 | ELISA_NET_ECN, 58, 1448},
};

static void both_ways(void **state)
{
	uint8_t data[128] = {0};

	for (unsigned int i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		struct elisa_frame f = {.data = data,
					.len = 3000,
					.seg_len = 128,
					.segs = 24,
					.flags = same[i].flags,
					.csum_start = same[i].csum_start,
					.gso_size = same[i].gso_size};
		struct virtio_net_hdr h;
		struct tap_request r;

		assert_true(tap_request_of(&same[i].header, &r));
		assert_int_equal(r.flags, same[i].flags);
		assert_int_equal(r.csum_start, same[i].csum_start);
		assert_int_equal(r.gso_size, same[i].gso_size);
		data[f.csum_start + 12] = 0x80;
		h = tap_header_of(&f);
		assert_int_equal(h.hdr_len, same[i].gso_size ? f.csum_start + 32 : 0);
		h.hdr_len = 0;
		assert_memory_equal(&h, &same[i].header, sizeof(h));
		/* The TCP header ends in another buffer: its least is known. */
		f.seg_len = f.csum_start + 12;
		h = tap_header_of(&f);
		assert_int_equal(h.hdr_len, same[i].gso_size ? f.csum_start + 20 : 0);
		data[f.csum_start + 12] = 0;
	}
}

/* The hash and what is not for us does not matter. */
static void other_flags(void **state)
{
	struct elisa_frame f = {.flags = ELISA_RXC_HASH, .hash = 5, .csum_start = 0};
	struct virtio_net_hdr h = tap_header_of(&f), zero = {.flags = 0};
	struct tap_request r;

	assert_memory_equal(&h, &zero, sizeof(h));
	h.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	assert_true(tap_request_of(&h, &r));
	assert_int_equal(r.flags | r.csum_start | r.gso_size, 0);
	/* A NIC has looked at it. */
	f.flags |= ELISA_RXC_CSUM_OK;
	h = tap_header_of(&f);
	zero.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	assert_memory_equal(&h, &zero, sizeof(h));
	f.flags = CSUM(6) | ELISA_RXC_CSUM_OK;
	h = tap_header_of(&f);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
}

static void unsayable(void **state)
{
	const struct virtio_net_hdr bad[] = {
		{.flags = 1, .csum_start = 34, .csum_offset = 256},
		{.flags = 0, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1448},
		{.flags = 1, .gso_type = VIRTIO_NET_HDR_GSO_UDP, .gso_size = 1448},
		{.flags = 1, .gso_type = 5, .gso_size = 1448},
		{.flags = 1, .gso_type = 2, .gso_size = 1448},
	};
	struct tap_request r;

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(tap_request_of(&bad[i], &r));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ways),
		cmocka_unit_test(other_flags),
		cmocka_unit_test(unsayable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
