/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libvswitch-nic: the NIC's side of NIC ports, over DPDK's ethdev.
 *
 * The daemon loads it with dlopen() when its configuration names NICs, so hosts without DPDK need
 * none of it; and nothing but this object includes DPDK's headers: a program that names DPDK's data
 * would get copies of it of its own, which drivers then use.
 *
 *	open -> add -> start -> [queue, ops, exports] -> stop -> start... -> remove -> close
 *
 * Once a process: DPDK cannot be opened again. start() makes queues, pools and rings anew: what
 * queue() and exports() said before is void.
 *
 * Functions return 0, a count, or a negative errno with a sentence in `why` (what, which value, what
 * to do). Each NIC may be used by one thread at a time; open() and close() while no other runs. They
 * may take seconds: not for an event loop.
 */
#ifndef VS_NIC_LIB_H
#define VS_NIC_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vswitch/nic.h>

#define NIC_WHY_LEN	512
#define NIC_MEMBERS_MAX 2 /* devices of one NIC: the active one and its backup */
#define NIC_MACS_MAX	256

struct nic;

struct nic_env {
	uint32_t memory_mib;  /* of DPDK's heap; it may grow beyond */
	char node_mib[64];    /* by NUMA node, as "0,64"; "": wherever the caller runs */
	bool huge;	      /* false: pages of usual size; without physical addresses, so vdevs only */
	const char *huge_dir; /* NULL: memory files */
	const char *drivers;  /* file or folder of more drivers than DPDK's own; NULL: none */
	bool verbose;	      /* DPDK's own log at level info instead of warning */
	const char *run_dir;  /* what DPDK leaves in the file system is in a folder "dpdk" there */
	bool telemetry;	      /* DPDK answers at a socket there, see telemetry() */
};

/* What the answers of DPDK's telemetry are made of. */
enum nic_figures {
	NIC_PORTS,  /* names of ports */
	NIC_PORT,   /* of the port of that name */
	NIC_SWITCH,
};
/* A figure: `text`, or `number` where that is NULL. Characters but letters, digits and '_' of its name
 * are shown as '_'. Of NIC_PORTS: a name and nothing else. */
typedef void nic_put(void *to, const char *name, const char *text, uint64_t number);

struct nic_config {
	char name[VS_NAME_LEN];
	/* "0000:00:04.0", or a vdev as in EAL's --vdev ("net_tap0,iface=up0"). Two: active/backup. */
	const char *device[NIC_MEMBERS_MAX];
	unsigned int devices;
	uint16_t queues, mtu;
	uint16_t rx_ring, tx_ring; /* descriptors of the NIC; 0: 512, or what the driver wants */
	bool promiscuous;
	bool offloads;	  /* checksums and segmentation by the NIC, where it can */
};

struct nic_info {
	char driver[64];	/* "net_e1000_em" */
	uint8_t mac[6];
	uint16_t mtu, queues;	/* as far as the device can */
	uint32_t features;	/* ELISA_NET_F_* that are done by the NIC */
	uint32_t rx_csum;	/* 1: checks checksums of what it receives */
	unsigned int devices;
	bool flow;		/* steers addresses to queues */
};

struct nic_link {
	bool up, full_duplex;
	uint32_t speed_mbps;	/* 0: not known */
	int active;		/* index of the device in use; -1: none */
};

struct nic_stats {
	uint64_t rx_frames, rx_bytes, rx_missed, rx_errors, rx_no_mbuf; /* as ethdev counts */
	uint64_t tx_frames, tx_bytes, tx_errors;
	uint64_t tx_full;	/* frames given up since the NIC did not take them */
	/* Packet buffers found missing when a run ended: with dead callers, or on their way in a device
	 * of software. The next start makes new ones. */
	uint64_t lost_buffers;
	uint64_t starts;
};

/* Memory of DPDK's heap: of memory file `fd` from `offset` on. */
struct nic_memory {
	void *addr;
	size_t len;
	int fd; /* -1: none, so other processes cannot map it */
	uint64_t offset;
};

/* What ops touch of this process besides the heap. */
enum nic_part { NIC_TEXT, NIC_CONST, NIC_DATA_R, NIC_DEVICE };
struct nic_export {
	enum nic_part part;
	/* An address in the object whose part is meant; of DEVICE the first byte. */
	const void *addr;
	size_t len; /* of DEVICE */
	char name[64];
};

struct nic_lib {
	uint32_t revision;
	int (*open)(const struct nic_env *env, char why[NIC_WHY_LEN]);
	void (*close)(void);
	/* Calls cb() for each range there is now, and for those that come and go until close(), from the
	 * thread that makes them do so. */
	int (*memory)(void (*cb)(const struct nic_memory *m, bool there, void *arg), void *arg);
	/* The addresses that all of these ranges have, now and later: the region of the port's guest. */
	int (*span)(struct nic_memory *span);
	/*
	 * Makes commands of DPDK's telemetry of what figures() puts: /elisa/ports, /elisa/port,NAME and
	 * /elisa/switch. It is called by threads of DPDK's, until the process ends; -errno: there is no
	 * such port, or nothing to be had. Returns the socket's path, or NULL with `why`.
	 */
	const char *(*telemetry)(int (*figures)(enum nic_figures what, const char *port,
						nic_put *put, void *to),
				 char why[NIC_WHY_LEN]);

	int (*add)(const struct nic_config *cfg, struct nic **nic, char why[NIC_WHY_LEN]);
	void (*remove)(struct nic *nic);
	/* From any state, also after callers died inside: the device runs, pools are full, rings empty. */
	int (*start)(struct nic *nic, char why[NIC_WHY_LEN]);
	void (*stop)(struct nic *nic);
	/* While started: what to set the port's queue up with, and what ops get for it. */
	int (*queue)(struct nic *nic, unsigned int queue, struct elisa_queue_setup *setup, void **rxq,
		     void **txq);
	const struct vs_nic_ops *ops;

	int (*info)(struct nic *nic, struct nic_info *info);
	int (*link)(struct nic *nic, struct nic_link *link); /* does not wait */
	int (*stats)(struct nic *nic, struct nic_stats *stats);
	/* Addresses behind this switch, to be received although not promiscuous, and [i] in RX queue
	 * queue[i] where the NIC can (NULL: anywhere). Returns how many it filters; if not all, it is
	 * promiscuous until it can: so with an address of zeros, which stands for any. Until stop(),
	 * which forgets them. */
	int (*macs)(struct nic *nic, const uint8_t (*mac)[6], const uint16_t *queue, unsigned int count);

	int (*exports)(struct nic *nic, int (*cb)(const struct nic_export *e, void *arg), void *arg);
	/* For parked threads, see elisa_ctx_thread(). */
	int (*thread_begin)(void *arg);
	void (*thread_end)(void *arg);
	/*
	 * Runs ops in all their ways: bursts, wrapped rings, empty and full pools. Sends frames of
	 * ethertype 0x88b5 (local experiments) from the NIC's address to itself. Needs what ops need
	 * and nothing more, so it shows what they touch. While started and held; to be started anew
	 * after. Returns how many frames it handed to the NIC's side.
	 */
	int (*exercise)(struct nic *nic, unsigned int queue);
};
#define NIC_LIB_REVISION 5
extern const struct nic_lib vs_nic_lib __attribute__((visibility("default")));

#endif
