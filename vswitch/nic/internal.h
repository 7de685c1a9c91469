/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VS_NIC_INTERNAL_H
#define VS_NIC_INTERNAL_H

#include <rte_ethdev.h>
#include "burst.h"
#include "nic.h"

#define NIC_POOLS (2 * ELISA_QUEUES_MAX)

struct nic_queue {
	struct nic_rxq *rx;
	struct nic_txq *tx;
};

/* What one start makes, and the next one replaces. */
struct nic_run {
	struct nic_queue queue[ELISA_QUEUES_MAX];
	struct rte_mempool *pool[NIC_POOLS]; /* of queue i: 2 * i from the NIC, 2 * i + 1 to it */
	uint32_t buf_len, features;
	uint64_t drained; /* buffers left to their pools */
	bool rx_csum;
};

/* In DPDK's heap: exercise() finds it inside. */
struct nic {
	struct nic_config config;
	char device[NIC_MEMBERS_MAX][256]; /* what config.device points to */
	bool plugged, running;
	uint16_t member[NIC_MEMBERS_MAX]; /* ethdev's ports of the devices */
	uint16_t port;			  /* the one in use: of the device, or of the bond of two */
	struct nic_run run;
	uint64_t starts, lost;
	uint64_t full, errors; /* of former runs */
	uint8_t address[6];
	/* Addresses to receive, with what the device has for each. */
	struct nic_filter {
		uint8_t mac[6];
		bool taken;
		uint16_t queue;
		struct rte_flow *flow;
	} filter[NIC_MACS_MAX];
	unsigned int filters;
};

/* Returns `error`. */
int nic_why(char *why, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* plug.c */
int nic_plug(struct nic *nic, char *why);
void nic_unplug(struct nic *nic);
/* Device in use of a bond, -1: none. */
int nic_bond_active(const struct nic *nic);

/* plug.c: of virtual devices, at least one */
bool nic_is_software(const struct nic *nic);

/* run.c: `run` is empty */
int nic_run_create(struct nic *nic, struct nic_run *run, const struct rte_eth_dev_info *info,
		   char *why);
void nic_run_free(struct nic *nic, struct nic_run *run);
void nic_run_attach(struct nic *nic, struct nic_run *run);

/* eal.c */
int nic_open(const struct nic_env *env, char why[NIC_WHY_LEN]);
void nic_close(void);
int nic_memory(void (*cb)(const struct nic_memory *m, bool there, void *arg), void *arg);
int nic_span(struct nic_memory *span);
int nic_thread_begin(void *arg);
void nic_thread_end(void *arg);

/* telemetry.c */
const char *nic_telemetry(int (*figures)(enum nic_figures what, const char *port, nic_put *put,
					 void *to),
			  char why[NIC_WHY_LEN]);

/* steer.c */
int nic_macs(struct nic *nic, const uint8_t (*mac)[6], const uint16_t *queue, unsigned int count);
void nic_macs_forget(struct nic *nic);
bool nic_can_steer(const struct nic *nic);

/* exports.c */
int nic_exports(struct nic *nic, int (*cb)(const struct nic_export *e, void *arg), void *arg);

/* exercise.c */
int nic_exercise(struct nic *nic, unsigned int queue);

#endif
