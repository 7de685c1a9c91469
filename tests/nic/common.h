/* SPDX-License-Identifier: BSD-3-Clause */
/* DPDK opened once for the whole program, and a NIC that the test plays the switch for. */
#ifndef NIC_TEST_COMMON_H
#define NIC_TEST_COMMON_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "fake.h"
#include "../../vswitch/nic/nic.h"

extern const struct nic_lib *lib;
extern struct fake_dev *fake; /* FAKE_DEVS */
extern char why[NIC_WHY_LEN];

/* For cmocka's groups. */
int common_open(void **state);
int common_close(void **state);
/* Fake devices that can do nothing, with nothing on their wires. */
void fake_reset(void);
/* Onto the wire; `data` is copied. */
void fake_put(struct fake_wire *wire, const uint8_t *data, uint32_t len, uint32_t seg_len,
	      uint64_t ol_flags);
/* Next of those sent, NULL: none. Lasts until FAKE_FRAMES more. */
const struct fake_frame *fake_get(struct fake_wire *wire);

struct nic_config nic_config(const char *device);
struct nic *nic_up(const struct nic_config *cfg);
uint64_t nic_lost(struct nic *nic);

/* One queue, driven by hand. */
struct hand {
	struct elisa_queue_setup setup;
	void *rxq, *txq;
	uint32_t next, taken; /* completions */
	uint32_t desc, described;
};

void hand_take(struct hand *h, struct nic *nic, unsigned int queue);
/* A frame into posted buffers. False: too few are. */
bool hand_send(struct hand *h, const uint8_t *data, uint32_t len, uint16_t flags,
	       uint16_t csum_start, uint16_t gso_size);
/* One completion as it is said. */
void hand_commit(struct hand *h, uint32_t len, uint16_t flags, uint16_t csum_start,
		 uint16_t gso_size);
uint8_t *hand_buffer(struct hand *h);
/* A round to the NIC. Returns completions taken by it. */
uint32_t hand_tx(struct hand *h);
/* A round from the NIC. Returns descriptors there. */
uint32_t hand_rx(struct hand *h);
const struct elisa_txd *hand_desc(struct hand *h, uint32_t i);
/* The first `descs` are done. */
void hand_done(struct hand *h, uint32_t descs);

#endif
