/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A service that drives a NIC inside, with DPDK's own driver: the object that knows DPDK, loaded
 * with dlopen() by vmx-nic, which does not.
 */
#ifndef TESTS_VMX_NIC_SERVICE_H
#define TESTS_VMX_NIC_SERVICE_H

#include <stddef.h>
#include <stdint.h>
#include <elisa/abi.h>

enum nicsvc_op {
	NICSVC_TX = ELISA_OP_SERVICE, /* sends up to a1 (at most NICSVC_BURST) frames */
	NICSVC_RX,		      /* takes what has come, checks it, frees it */
	NICSVC_DRAIN,		      /* sends nothing, so that the driver frees what it has sent */
};
#define NICSVC_BURST 32

struct nicsvc_state {
	uint64_t sent, refused; /* frames taken by the driver, and not */
	uint64_t no_buffer;
	uint64_t good, bad; /* received: as they were sent, or not */
	uint64_t other;	    /* ... not ours */
	uint64_t bytes;	    /* of the good ones */
};

/* What is to be visible inside besides the service's own object. */
enum nicsvc_part { NICSVC_OBJECT, NICSVC_DATA_R, NICSVC_HEAP };
typedef int (*nicsvc_cb)(enum nicsvc_part part, const void *addr, size_t len, void *arg);

struct nicsvc {
	/* EAL's arguments, ended by NULL. The first port is used. -errno. */
	int (*start)(char **args, unsigned int cache);
	void (*stop)(void);
	int (*parts)(nicsvc_cb cb, void *arg);
	unsigned int (*free_buffers)(void);
	unsigned int (*all_buffers)(void);
	int (*thread_begin)(void *arg);
	void (*thread_end)(void *arg);
	const char *(*driver)(void);
	elisa_entry_fn entry; /* cookie: struct nicsvc_state */
	struct nicsvc_state *state;
};
extern const struct nicsvc nicsvc;

#endif
