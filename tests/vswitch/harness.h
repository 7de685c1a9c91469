/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A switch with simulated guests. A guest's RAM is mapped with inaccessible pages on both sides;
 * the helpers play its driver: rings, posted buffers, descriptors, completions.
 */
#ifndef VS_TEST_HARNESS_H
#define VS_TEST_HARNESS_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vswitch/vswitch.h>

/* Of what no test is about: they run without cmocka, too. */
#define CHECK(x)                                                                \
	do {                                                                    \
		if (!(x)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			abort();                                                \
		}                                                               \
	} while (0)

#ifndef T_RAM
#define T_RAM (4u << 20)
#endif
#define T_GPA	 0x100000u /* of the RAM's first byte */
#define T_GUESTS 16
#define T_SIZE	 64 /* slots of a ring, unless told */
#define T_BUF	 2048
#define T_QUEUES 4

struct t_queue {
	int64_t handle;
	uint32_t tx_size, rx_size, buf_len;
	struct elisa_txd *txd;
	struct elisa_rx *rx;
	struct elisa_rxc *comp;
	uint64_t setup, buffers, tx_buffers; /* GPAs */
	uint32_t tx_next, rx_next;
};

struct t_guest {
	int id, port;
	uint8_t *ram;
	uint64_t used; /* bytes of RAM given out */
	uint8_t mac[6];
	struct vs_caller *caller[4];
	struct t_queue q[T_QUEUES];
	bool bell; /* the last t_send() was told to ring */
};

struct t_switch {
	struct vswitch *vs;
	void *arena;
	size_t arena_len;
	struct t_guest guest[T_GUESTS];
	unsigned int guests;
};

struct t_frame {
	uint32_t len;
	bool aborted;
	uint8_t data[ELISA_FRAME_MAX + 16];
};

/* Zeroed memory with inaccessible pages on both sides; MAP_SHARED in t_map_flags: also for
 * children. */
extern int t_map_flags;
void *t_map(size_t len);
void t_unmap(void *at, size_t len);
void t_create_as(struct t_switch *t, const struct vs_config *cfg);
void t_create(struct t_switch *t, uint32_t fdb_capacity);
void t_create_with(struct t_switch *t, uint32_t fdb_capacity, bool bridge_nics);
void t_destroy(struct t_switch *t);
/* A guest with one port "pN", MAC 02:00:00:00:00:N+1, not set up. */
struct t_guest *t_guest(struct t_switch *t, bool anti_spoof);
/* The same, of up to T_QUEUES queues instead of two. */
struct t_guest *t_guest_with(struct t_switch *t, bool anti_spoof, unsigned int queues);
/* t_guest() with queue 0 set up and all buffers posted. */
struct t_guest *t_guest_up(struct t_switch *t, bool anti_spoof);
uint64_t t_alloc(struct t_guest *g, uint64_t len, uint64_t align);
void *t_at(struct t_guest *g, uint64_t gpa);
int64_t t_call(struct t_guest *g, uint64_t op, uint64_t a1, uint64_t a2);
int64_t t_setup(struct t_guest *g, unsigned int queue, uint32_t tx_size, uint32_t rx_size,
		uint32_t buf_len);
int64_t t_setup_with(struct t_guest *g, unsigned int queue, uint32_t tx_size, uint32_t rx_size,
		     uint32_t buf_len, uint32_t features);
void t_post(struct t_queue *q, uint32_t count);
/* Ethernet frame of `len` bytes into RAM; payload is made from `seed`. */
void t_fill(uint8_t *at, uint32_t len, const uint8_t dst[6], const uint8_t src[6], uint32_t seed);
/* Puts one descriptor into the ring, not sent yet. */
void t_desc(struct t_queue *q, uint64_t addr, uint16_t len, uint16_t flags);
/* Writes a frame of one segment into the queue's next buffer and its descriptor. */
void t_frame_put(struct t_guest *g, unsigned int queue, uint32_t len, const uint8_t dst[6],
		 const uint8_t src[6], uint32_t seed);
/* Sends what was put. Returns how many were taken, or an error. */
int64_t t_send(struct t_guest *g, unsigned int queue, uint32_t count);
/* One frame, put and sent. */
int64_t t_send_one(struct t_guest *g, uint32_t len, const uint8_t dst[6], const uint8_t src[6],
		   uint32_t seed);
/* Takes the next frame if there is one, and posts its buffers again. */
bool t_receive(struct t_guest *g, unsigned int queue, struct t_frame *frame);
/* Received, and just what t_fill() makes of these. */
bool t_frame_is(const struct t_frame *frame, uint32_t len, const uint8_t dst[6],
		const uint8_t src[6], uint32_t seed);
uint64_t t_drops(struct t_switch *t, struct t_guest *g, enum elisa_drop why);
uint64_t t_all_drops(struct t_switch *t, struct t_guest *g);
void t_port_set(struct t_switch *t, struct t_guest *g, const struct vs_port_config *cfg);
struct vs_port_config t_port_config(struct t_switch *t, struct t_guest *g);

extern const uint8_t t_broadcast[6];

/* xorshift64 by Marsaglia: the same numbers for the same state (not 0) on every machine. */
static inline uint32_t t_random(uint64_t *state, uint32_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 33) % below;
}

#endif
