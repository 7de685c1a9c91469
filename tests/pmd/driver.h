/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's test program: two ports of one switch in one process and thread, no timing. */
#ifndef DRIVER_H
#define DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

#define LONGEST 9230 /* MTU 9216, untagged */
#define RING	512

/* What a test asks of a port; 0: the default. */
struct conf {
	uint16_t queues;
	uint16_t mtu;
	uint16_t ring;
	uint64_t rx, tx; /* offloads */
	uint64_t rss;	 /* hash functions; 0: no RSS */
	bool promiscuous_off;
};

/* Ethdev ids of "p0" and "p1"; "p2" is another port, whose host insists on its own address. */
extern uint16_t port[2];
extern struct rte_mempool *pool;
extern const char *socket_path;

#define FAIL(...) driver_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond, ...)                   \
	do {                               \
		if (!(cond))               \
			FAIL(__VA_ARGS__); \
	} while (0)
#define CHECK_INT(a, b)                                                     \
	do {                                                                \
		const long long a_ = (long long)(a), b_ = (long long)(b);   \
		if (a_ != b_)                                               \
			FAIL("%s is %lld, but %s is %lld", #a, a_, #b, b_); \
	} while (0)

_Noreturn void driver_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Configures and starts both ports; a NULL stands for the defaults. */
void up(const struct conf *c0, const struct conf *c1);
void down(void);
void port_up(uint16_t id, const struct conf *c);
/* A frame from p0 to p1, or the other way, with `len` bytes that follow from `seed`, in segments.
 */
struct rte_mbuf *frame(int from, uint32_t len, uint32_t segs, uint32_t seed);
/* An mbuf chain with these bytes. */
struct rte_mbuf *from_bytes(const uint8_t *bytes, uint32_t len, uint32_t segs);
/* Fails if m is not that frame; frees it. */
void check_frame(struct rte_mbuf *m, int from, uint32_t len, uint32_t seed);
void give(int from, struct rte_mbuf **pkts, uint16_t n);
/* What lies in the ring of p1, or p0, now. */
uint16_t take(int at, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
uint32_t random32(void);
uint64_t xstat(uint16_t id, const char *name);
/* The bytes of a chain. */
uint32_t to_bytes(const struct rte_mbuf *m, uint8_t *bytes, uint32_t max);

/* driver-offload.c */
void test_checksum(void);
void test_ip_checksum(void);
void test_segmentation(void);
void test_vlan(void);
/* driver-nic.c */
void test_nic_polls(void);
void test_nic_checksum(void);
/* driver-control.c */
void test_infos(void);
void test_filters(void);
void test_rss(void);
void test_stats(void);
void test_restart(void);
void test_hotplug(void);
void test_refusals(void);
void test_descriptors(void);

#endif
