/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the switch share: the arena's structures.
 *
 *	arena.c		vs_create: cuts the arena up
 *	guest.c		guests and their memory
 *	port.c		ports: configuration, binding, counters (control side)
 *	caller.c	vs_entry, epochs and grace periods, recovery of a dead caller
 *	queue.c		the guest's operations on queues: set-up, reset, information
 *	forward.c	ELISA_NET_TX: descriptors -> classify -> group by destination
 *	chain.h		... one frame of several descriptors, read once
 *	offload.c/.h	checksums and segments in software
 *	steer.c		which frames a port wants, and in which of its queues
 *	vlan.c/.h	which VLAN a frame is of, who is a member, tags that come and go
 *	rate.c		token buckets
 *	mirror.c	copies of a port's frames for another one
 *	deliver.c/.h	reserve -> copy -> commit into a receiver's ring
 *	bell.c		who sleeps over frames, and who is told to ring
 *	fdb.c		who is where
 *	nic.c		NIC ports: who runs the driver, and when
 *	mem.h		guest memory: address checks and copying
 *	barrier.h	memory orders, and what each pairs with
 *	defence.h	names of defences, for tests that switch them off
 *
 * Words that many write lie apart from those that many read. Strides are odd multiples of 128
 * bytes, so that equal fields of different ports and callers do not share cache sets.
 *
 * The callers' side uses nothing but its text, its stack, the arena and guest memory: no constant
 * from .rodata, no table, no pointer into the library. Tests look for it in the object code.
 */
#ifndef VS_INTERNAL_H
#define VS_INTERNAL_H

#pragma GCC visibility push(default)
#include <vswitch/nic.h>
#include <vswitch/vswitch.h>
#pragma GCC visibility pop
#include "barrier.h"
#include "defence.h"

#define VS_ALIGN       __attribute__((aligned(128)))
#define VS_LINE	       __attribute__((aligned(64)))
#define vs_inline      static inline __attribute__((always_inline))
#define vs_noinline    __attribute__((noinline))
#define vs_likely(x)   __builtin_expect(!!(x), 1)
#define vs_unlikely(x) __builtin_expect(!!(x), 0)

_Static_assert(VS_REGION_MIN > UINT16_MAX, "no segment or buffer is longer than a region");

/*
 * State words of queues: generation << 33 | UP | low 32 bits. Taking a queue down clears UP and
 * adds a generation in one go or two, whoever does it; publishing is a CAS from the very word that
 * was seen before all was checked. So nothing is published over somebody's taking down.
 */
#define VS_UP  (1ull << 32)
#define VS_GEN (1ull << 33)

/* Instead of a grace period's ticket: one is to come. */
#define VS_TICKET_PENDING UINT64_MAX

/* A piece of guest memory. */
struct vs_range {
	uint64_t gpa, len;
	uint8_t *addr;
};

struct vs_guest {
	struct vs_port *ports[ELISA_PORTS_PER_VM];
	uint32_t generation;
	uint32_t ranges;
	bool foreign;			       /* its callers do not run NICs' drivers */
	struct vs_range range[VS_REGIONS_MAX]; /* longest first */
	/* control side only */
	bool used;
	uint32_t callers;
	uint64_t ticket;
	char name[VS_NAME_LEN];
	uint8_t colour[128];
} VS_ALIGN;

/* Frames with these bytes, as far as the mask has them, go the way that was found last. */
struct vs_way {
	uint64_t version; /* of the switch when it was found; 0: none */
	struct vs_port *to;
	__m128i header, mask;
	uint32_t change; /* of their tags, VS_TAG_* */
};

/* What the owner of a TX queue is to ring, and what it was told before. See bell.c. */
#define VS_BELLS_MAX 64
struct vs_bells {
	uint32_t told, rung; /* free-running */
	uint64_t list[VS_BELLS_MAX];
};

/* The sending half of a queue: one owner at a time. */
struct vs_tx {
	uint64_t state; /* low 32 bits: the owning caller's id or 0 */
	struct vs_guest *guest;
	const struct elisa_txd *ring;
	uint32_t mask, size;
	uint32_t next;
	uint32_t hint; /* memory range that the last buffer was in */
	uint64_t learned, learned_version;
	struct vs_way way;
	struct {
		uint64_t frames, bytes, calls, multicast, broadcast, flooded;
		uint64_t csum, segmented, segments, bells;
		uint64_t drops[ELISA_DROP_RX_LINK_DOWN];
	} count;
	struct vs_bells bells;
} VS_ALIGN;

/* The receiver is a NIC: who delivers to it looks after it. Told apart where sleepers are. */
#define VS_F_NIC (1u << 31)

/* The receiving half. */
struct vs_rx {
	/* Written by every sender. */
	struct {
		/* a: state word, low 32 bits are the tail; b: who reserved last: seq << 16 | id */
		struct vs_pair resv;
		uint64_t frames, bytes;
		uint64_t drops[ELISA_DROP_COUNT - ELISA_DROP_RX_LINK_DOWN];
		uint32_t posted; /* ring->posted as some sender saw it; never one of a former set-up
				  */
		uint32_t owed;	 /* value of ring->event that there are frames for */
		uint32_t due;	 /* the same, as vs_bells_due() saw it last; control side only */
	} VS_ALIGN;
	/* Written at set-up. */
	struct {
		const struct elisa_rx *ring;
		struct elisa_rxc *comp;
		const struct vs_guest *guest;
		uint32_t mask, size;
		uint32_t buf_len;
		uint32_t features; /* ELISA_NET_F_* of its receiver, VS_F_NIC */
	} VS_LINE;
};

struct vs_queue {
	struct vs_tx tx;
	struct vs_rx rx;
	uint64_t ticket; /* grace period of the last taking down by the guest */
	uint8_t colour[128];
} VS_ALIGN;

/* What a port wants, see elisa_rx_mode. */
struct vs_mode {
	uint32_t flags, count;
	uint64_t key[ELISA_MACS_MAX]; /* addresses as FDB keys */
};

/* IPv6 addresses and ports are the longest input. */
#define VS_RSS_WORDS 9
/* Of a NIC port: its queues by who sends. Instead of ELISA_RSS_*. */
#define VS_RSS_BY_CALLER (1u << 31)
struct vs_rss {
	uint32_t types;		       /* 0: no steering */
	uint8_t reta[ELISA_RETA_SIZE]; /* RX queue by the low bits of the hash */
	uint64_t window[VS_RSS_WORDS]; /* 64 bits of the key from each word on, reversed */
};
_Static_assert((VS_RSS_WORDS + 1) * 4 == ELISA_RSS_KEY_LEN, "the windows are all of the key");

/*
 * Token buckets. Senders take, bounded and without a loop, so tokens may fall a little below 0 when
 * several do at once: that is a debt. The control side fills, see vs_refill().
 */
struct vs_buckets {
	uint64_t burst[VS_BUCKETS]; /* 0: no limit */
	int64_t tokens[VS_BUCKETS] VS_LINE;
};

/* What a port has besides, that frames must stop for: bits of vs_port.extras. */
#define VS_POLICE_TX	(1 << 0)
#define VS_POLICE_RX	(1 << 1)
#define VS_STORM	(1 << 2)
#define VS_MONITOR	(1 << 3) /* it is mirrored to */
#define VS_MIRROR_SHIFT 4	 /* VS_MIRROR_* that any of its mirrors has, from here on */
#define VS_EXTRA_TX	(VS_MIRROR_TX << VS_MIRROR_SHIFT)
#define VS_EXTRA_RX	(VS_MIRROR_RX << VS_MIRROR_SHIFT)
#define VS_EXTRA_DROPS	(VS_MIRROR_DROPS << VS_MIRROR_SHIFT)

/* A mirror is one word, so that nobody sees half of one: 0 or
 * snap << 32 | annotate << 24 | what << 16 | port id + 1. */
#define VS_MIRROR_ANNOTATE (1ull << 24)

struct vs_port {
	/* Read by everyone. */
	uint64_t key; /* its own address as an FDB key */
	uint64_t groups;
	uint32_t frame_max; /* bytes, untagged */
	uint32_t features;  /* ELISA_NET_F_* that all its RX queues have */
	uint16_t id;
	bool up, anti_spoof, used, no_carrier;
	uint8_t queues;
	uint8_t rx_map[ELISA_QUEUES_MAX]; /* TX queue -> RX queue of this port */
	uint8_t extras;			  /* VS_POLICE_*, VS_STORM, VS_MONITOR, VS_EXTRA_* */
	struct vs_guest *guest;
	uint64_t host_ticket; /* grace period of the last taking down by the host */
	uint32_t bell;	      /* of RX queue 0; 0: no doorbell */
	struct vs_nic *nic;   /* NULL: an ordinary port */
	uint8_t flood_off;    /* VS_FLOOD_* that do not reach it */
	bool mac_limit_drop;
	uint32_t mac_limit;
	uint32_t vlan;			 /* pvid << 16 | native_tagged << 8 | enum vs_vlan_mode */
	uint64_t mirror[VS_MIRRORS_MAX]; /* see VS_MIRROR_ANNOTATE */
	struct vs_rss rss VS_LINE;
	struct vs_mode mode VS_LINE;
	uint64_t allowed[64] VS_LINE; /* VLANs, with VS_VLAN_TRUNK */
	struct vs_buckets bucket VS_LINE;
	/* Addresses learned here, and changes of that << 32. See macs_recount(). */
	uint64_t macs VS_LINE;
	/* Try-lock of set-up and reset: a caller's id or 0. */
	uint32_t ctl VS_LINE;
	uint16_t guest_index;
	/* control side only */
	struct vs_port_config config;
	uint64_t unfilled[VS_BUCKETS]; /* of each bucket: millionths of a token that are due */
	uint32_t macs_seen;
	uint64_t macs_before;
	uint8_t colour[128];
	struct vs_queue queue[ELISA_QUEUES_MAX];
} VS_ALIGN;

/* One way of a NIC's queue: one owner at a time, who runs the driver. */
#define VS_NIC_HELD  (1ull << 32) /* nobody takes it */
#define VS_NIC_DIRTY (1ull << 33) /* its last owner was stopped for good */
struct vs_nic_half {
	uint64_t owner; /* low 32 bits: a caller's id or 0 */
	void *arg;	/* of the driver's functions; NULL: not in use */
	uint32_t taken; /* completions, towards the NIC */
	uint64_t busy;
	struct {
		uint64_t calls, frames;
	} by_host, by_guests;
} VS_ALIGN;

struct vs_nic {
	struct vs_port *port; /* NULL: none */
	struct vs_nic_ops ops;
	uint32_t serve; /* enum vs_nic_serve */
	bool held;
	struct {
		struct vs_nic_half rx, tx;
	} queue[ELISA_QUEUES_MAX];
} VS_ALIGN;

/* What a caller is about to take from a ring, or has and did not commit. */
struct vs_intent {
	struct vs_rx *rx; /* NULL: nothing */
	uint64_t word;	  /* rx->resv.a that it counts from */
	uint64_t seq;
	uint32_t count;
};

struct vs_caller {
	uint64_t active; /* epoch of entry; 0: outside */
	struct vswitch *vs;
	struct vs_guest *guest;
	uint64_t calls;
	uint64_t seq;	     /* of its last reservation; outlives the caller */
	struct vs_tx *tx;    /* that it owns or tries to own */
	struct vs_port *ctl; /* likewise */
	uint32_t id;	     /* index + 1 */
	uint32_t kick;	     /* NICs that it delivered to, a bit each */
	struct vs_intent intent VS_LINE;
	struct vs_nic_half *nic_rx, *nic_tx; /* as `tx` */
	uint32_t polls;
	bool used;
	/* Written by others: its reservation `seq` did happen. */
	uint64_t confirmed VS_ALIGN;
	uint8_t colour[128];
} VS_ALIGN;

struct vs_fdb {
	struct vs_pair *slot; /* a: key, 0: free; b: value */
	uint64_t mask;	      /* of buckets */
	uint64_t seed[3];
	uint64_t capacity;
	uint64_t cursor; /* of aging, in buckets */
	uint64_t learned VS_ALIGN;
	uint64_t moved, aged, full;
};

struct vswitch {
	struct vs_config config;
	struct vs_port *ports;
	struct vs_guest *guests;
	struct vs_caller *callers;
	struct vs_nic *nics;
	struct vs_fdb fdb;
	__m128i mask[3]; /* of a header, by enum vs_kind: what a way's frames have in common */
	uint32_t callers_high; /* ids in use are at most this */
	uint32_t ports_high;   /* ids in use are below this */
	uint32_t nics_high;    /* likewise */
	uint32_t attached;     /* generations given to guests */
	uint32_t bells_first;  /* port that vs_bells_due() begins with */
	uint64_t first_s;      /* clock at the first tick */
	uint64_t refilled_us;  /* clock of the last vs_refill(); 0: none yet */
	uint64_t epoch VS_ALIGN;
	/* Changes with each thing that a way depends on, and each second. Never 0. */
	uint64_t version VS_ALIGN;
	uint32_t now;			    /* seconds, from 1 */
	uint64_t linked[VS_PORTS_MAX / 64]; /* a hint: ports that may receive */
} VS_ALIGN;

_Static_assert(sizeof(struct vs_queue) / 128 % 2 == 1, "queues are coloured");
_Static_assert(sizeof(struct vs_port) / 128 % 2 == 1, "ports are coloured");
_Static_assert(sizeof(struct vs_caller) / 128 % 2 == 1, "callers are coloured");
_Static_assert(sizeof(struct vs_guest) / 128 % 2 == 1, "guests are coloured");
_Static_assert(VS_NICS_MAX <= 32, "a bit each");

/* An address as it lies in the frame's first bytes, and its key: VID in the low 16 bits. */
#define VS_KEY_MULTICAST (1ull << 16)
#define VS_KEY_BROADCAST 0xffffffffffff0000ull

vs_inline uint64_t vs_mac_key(const uint8_t mac[6])
{
	uint64_t key = 0;

	for (int i = 5; i >= 0; i--)
		key = key << 8 | mac[i];
	return key << 16;
}

#define VS_EEXIST 17
#define VS_ENOSPC 28

/* caller.c */
uint64_t vs_epoch_next(struct vswitch *vs);
bool vs_epoch_over(const struct vswitch *vs, uint64_t ticket, const struct vs_caller *but);
vs_inline void vs_changed(struct vswitch *vs)
{
	vs_fetch_add(&vs->version, 1);
}

/* port.c */
struct vs_port *vs_port_get(const struct vswitch *vs, int port);

void vs_extras_update(struct vswitch *vs);

/* rate.c */
bool vs_rate_valid(const struct vs_port_config *cfg);
void vs_rate_apply(struct vs_port *port, const struct vs_port_config *cfg);
uint8_t vs_rate_extras(const struct vs_port *port);

/* mirror.c */
uint8_t vs_mirror_extras(const struct vs_port *port);
struct vs_port *vs_mirror_target(const struct vswitch *vs, uint64_t mirror);
void vs_mirror_forget(struct vswitch *vs, struct vs_port *port);

/* vlan.c */
bool vs_vlan_valid(const struct vs_vlan *vlan);
void vs_vlan_apply(struct vs_port *port, const struct vs_vlan *vlan);
bool vs_vlan_member(const struct vs_port *port, uint32_t vid);

/* queue.c */
int64_t vs_op_port_info(struct vs_caller *caller, uint64_t index, uint64_t gpa);
int64_t vs_op_queue_setup(struct vs_caller *caller, uint64_t gpa);
int64_t vs_op_queue_reset(struct vs_caller *caller, uint64_t which);
int64_t vs_op_link(struct vs_caller *caller, uint64_t index);
int64_t vs_op_counters(struct vs_caller *caller, uint64_t index, uint64_t gpa);
void vs_queue_down(struct vs_queue *q);
struct vs_port *vs_port_of(struct vs_caller *caller, uint64_t index);
bool vs_ctl_take(struct vs_caller *caller, struct vs_port *port);
void vs_ctl_drop(struct vs_caller *caller, struct vs_port *port);
void vs_port_ctl_recover(struct vswitch *vs, struct vs_port *port);
void vs_port_down(struct vswitch *vs, struct vs_port *port);
bool vs_port_link(const struct vs_port *port);
void vs_port_count(const struct vs_port *port, struct elisa_port_counters *counters);

/* steer.c */
int64_t vs_op_rx_mode(struct vs_caller *caller, uint64_t index, uint64_t gpa);
int64_t vs_op_rss(struct vs_caller *caller, uint64_t index, uint64_t gpa);
bool vs_wants(const struct vs_port *port, uint64_t key);
void vs_tune_reset(struct vs_port *port);

/* bell.c */
uint32_t vs_bell_owe(struct vs_rx *rx);
void vs_bell_tell(struct vs_caller *caller, struct vs_rx *rx);
uint32_t vs_bell_next(struct vs_caller *caller, struct vs_tx *tx);

/* forward.c */
int64_t vs_op_tx(struct vs_caller *caller, uint64_t handle, uint64_t count);
int64_t vs_op_bell(struct vs_caller *caller, uint64_t handle);
int64_t vs_op_poll(struct vs_caller *caller, uint64_t handle);
uint32_t vs_send_nic(struct vs_caller *caller, struct vs_port *port, unsigned int queue,
		     uint32_t count);

/* nic.c */
void vs_nic_kick(struct vs_caller *caller);
uint32_t vs_nic_poll(struct vs_caller *caller, struct vs_port *port, unsigned int queue);
bool vs_nic_to_poll(const struct vs_caller *caller, const struct vs_port *port);
void vs_nic_recover(struct vs_caller *caller);

/* deliver.c */
void vs_recover_intent(struct vswitch *vs, struct vs_caller *caller);

/* fdb.c */
size_t vs_fdb_size(uint32_t capacity);
void vs_fdb_init(struct vs_fdb *fdb, void *slots, uint32_t capacity, uint64_t seed);
int vs_fdb_find(const struct vs_fdb *fdb, uint64_t key);
bool vs_fdb_learn(struct vswitch *vs, uint64_t key, uint16_t port);
void vs_fdb_age(struct vswitch *vs, uint32_t elapsed);
void vs_fdb_forget_left(struct vswitch *vs, const struct vs_port *port);
unsigned int vs_fdb_forget(struct vswitch *vs, int port, bool statics);

#endif
