/* SPDX-License-Identifier: BSD-3-Clause */
/* elisa-gen's parts: the frame format of sender and receiver, and what was asked for. */
#ifndef ELISA_GEN_H
#define ELISA_GEN_H

#include <stdbool.h>
#include <stdint.h>

#include <elisa/port.h>

#define PROGRAM	 "elisa-gen"
#define LIST_MAX 16

struct options {
	const char *transport, *port;
	enum { MODE_NONE, MODE_TX, MODE_RX, MODE_NOP, MODE_MAC, MODE_FETCH } mode;
	uint32_t sizes[LIST_MAX], bursts[LIST_MAX];
	uint32_t size_count, burst_count;
	uint64_t count, window, pause_us, segs, seq, timeout_s, wait_s, nops, fetches;
	uint64_t rx_size, rx_buf_len;
	bool vmcall, have_src;
	uint8_t dst[6], src[6];
};

/*
 * A frame: Ethernet header of type 0x88b5 (IEEE 802 local experimental 1), then this, then bytes
 * that count up from the low byte of seq. Little-endian.
 */
struct gen_header {
	uint8_t dst[6], src[6];
	uint8_t type[2];
	uint8_t magic[2];
	uint32_t seq;
	uint16_t len; /* of the frame */
} __attribute__((packed));
#define GEN_MIN	    ((uint32_t)sizeof(struct gen_header))
#define GEN_TYPE_0  0x88
#define GEN_TYPE_1  0xb5
#define GEN_MAGIC_0 0xe1
#define GEN_MAGIC_1 0x5a

static inline uint8_t gen_byte(uint32_t seq, uint32_t offset)
{
	return (uint8_t)(seq + offset);
}

/* Receives and checks; prints JSON. 0: all there and sound; 1: not. */
int gen_receive(struct elisa_port *port, const struct options *o);
/* Fetches bursts from NICs and measures; prints JSON. 1: they did not come. */
int gen_fetch(struct elisa_port *port, const struct options *o);

#endif
