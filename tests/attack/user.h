/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rows of the attack table that a guest's user space runs itself. One file per group, each with an
 * array that ends with an empty row and is named in attack.c.
 */
#ifndef TESTS_ATTACK_USER_H
#define TESTS_ATTACK_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <elisa/guest.h>
#include <elisa/net.h>

#include "abi.h"

struct user_attack {
	const char *id;
	/* Sets outcome and text by attack_is(); 0, or -errno when the row itself failed. */
	int (*run)(struct attack_run *run);
};

extern const struct user_attack rings_attacks[], memory_attacks[], exhaust_attacks[];

/* ---- rings of one's own (user.c): nothing of what a port library would see to ---- */

/*
 * The attacker's ports, by their index: the lab's configuration gives m0 its one address and limits
 * to what it floods; m1 any address, but few; m2 everything.
 */
#define USER_PORTS	3
#define USER_RING	256u
#define USER_BUF	1024u
#define USER_LEN	128u	/* of the frames that user_frame() writes */

/* One 2 MiB page holds it all; offsets in it. */
#define USER_SETUP	0x0000u	/* elisa_queue_setup */
#define USER_INFO	0x0080u
#define USER_COUNTERS	0x0200u
#define USER_MODE	0x0400u	/* elisa_rx_mode */
#define USER_RSS	0x0800u
#define USER_TX		0x10000u	/* USER_RING frames of USER_BUF */
#define USER_PORT(p)	(0x80000u + (p) * 0x60000u)	/* its rings, then its buffers */
#define USER_RX_RING	0x2000u
#define USER_COMP	0x4000u
#define USER_RX_BUFS	0x10000u
#define USER_CANARY	0x1a0000u	/* from here to the end: nobody is told of it */
#define USER_MEM	0x200000u

struct user_queue {
	struct elisa_txd *tx;
	struct elisa_rx *rx;
	struct elisa_rxc *comp;
	uint64_t handle;
	uint32_t next;		/* of tx */
	uint32_t head;		/* of comp */
	uint8_t mac[6];
};

struct user {
	struct elisa_guest *guest;
	struct elisa_call call;
	struct elisa_mem *mem;
	uint8_t *at;		/* the page, and its address for the switch */
	uint64_t gpa;
	uint64_t random;
	struct user_queue q[USER_PORTS];
};

/* `name`: of its memory; another process needs another one. Sets up queue 0 of each port. */
int user_open(struct user *u, const char *name);
/* Without what user_open() sets up, and no way to send. */
int user_open_memory(struct user *u, const char *name);
void user_close(struct user *u);

int64_t user_call(struct user *u, uint64_t op, uint64_t a1, uint64_t a2);
/* A proper set-up of the port's queue 0 in the place of what there is. 0 or an error. */
int user_set_up(struct user *u, unsigned int port);
/* What a proper set-up says, for an attack to spoil. */
void user_setup_fill(const struct user *u, unsigned int port, struct elisa_queue_setup *s);
/* Asks again while the answer is EAGAIN, a second at most. */
int user_reset(struct user *u, unsigned int port);
int user_counters(struct user *u, unsigned int port, struct elisa_port_counters *c);

uint32_t user_random(struct user *u, uint32_t below);
/* Writes a frame of USER_LEN bytes into TX buffer i; returns its address for the switch. */
uint64_t user_frame(struct user *u, uint32_t i, const uint8_t dst[6], const uint8_t src[6]);
/* Puts descriptor i of the next call. */
void user_put(struct user *u, unsigned int port, uint32_t i, uint64_t addr, uint16_t len,
	      uint16_t flags);
/* One call; what was taken, without flags, or an error. */
int64_t user_send(struct user *u, unsigned int port, uint64_t count);
/* Takes what came to the port and posts its buffers again; `each` may be NULL. Returns how many. */
uint32_t user_take(struct user *u, unsigned int port,
		   void (*each)(const uint8_t *data, uint32_t len, void *arg), void *arg);

/*
 * Ends a row: do queues that are set up properly work, from m0 to m1 and back, and is memory that the
 * switch was never told of as it was? If so the outcome is no-effect with this text; else a breach.
 */
int user_verdict(struct user *u, struct attack_run *run, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

double user_seconds(void);
/* The calling thread stays on that CPU; false: there is no such. */
bool user_pin(unsigned int cpu);

#endif
