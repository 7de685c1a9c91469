/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libvswitch: the switch itself, as plain C over one arena of memory. No system call, no libc, no
 * lock that a dead or descheduled caller could keep, no knowledge of EPTs.
 *
 * Two sides:
 *	control	 the daemon, ONE thread at a time: everything in this header but vs_entry()
 *	callers	 vCPUs (or threads of a local client), any number at once: vs_entry()
 *
 * A caller may be stopped for good between any two instructions. What it had reserved in another
 * port's ring is then given back by vs_caller_del().
 *
 * Removing things: first make it unreachable (vs_port_unbind, vs_caller_del...), then wait until
 * every call that began before has ended (vs_grace_begin / vs_grace_done), then free.
 *
 * All functions return 0, a count or an id, or a negative errno value (the numbers of abi.h).
 */
#ifndef VSWITCH_H
#define VSWITCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <elisa/net.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vswitch;
struct vs_caller;

#define VS_PORTS_MAX	1024
#define VS_GUESTS_MAX	256
#define VS_CALLERS_MAX	1024
#define VS_REGIONS_MAX	16
#define VS_NAME_LEN	32	/* with its NUL */
#define VS_FDB_MIN	1024
#define VS_FDB_MAX	(1u << 20)

struct vs_config {
	uint32_t ports, guests, callers;	/* capacities, 1 .. VS_*_MAX */
	uint32_t fdb_capacity;		/* addresses, VS_FDB_MIN .. VS_FDB_MAX */
	uint32_t fdb_age_s;		/* seconds after which a silent address is forgotten, or
					 * up to an eighth later; 0: never */
	uint32_t generation;		/* of this arena, see ELISA_OP_HELLO; not 0, new each time */
	bool bridge_nics;		/* NIC ports exchange frames with each other, too: that makes one
					 * network of those outside, and a loop if they are one already */
};

/*
 * What a process that maps a foreign arena compares before it calls: the revision of the structures
 * in it. Another value means another version of this library.
 */
extern const uint64_t vs_state_revision;

/* Bytes of arena that vs_create() needs for `cfg`; 0 when a value is out of range. */
size_t vs_arena_size(const struct vs_config *cfg);
/* `arena`: zeroed, page aligned, mapped at this same address in every process that calls. The
 * switch keeps pointers into it. It is owned by the caller of this and simply unmapped at the end. */
int vs_create(void *arena, size_t len, const struct vs_config *cfg, struct vswitch **vs);

/* ---- guests: who calls, and which memory their addresses mean ---- */

#define VS_REGION_MIN	0x10000		/* bytes */
struct vs_region {
	uint64_t gpa, len;	/* multiples of 4096; len at least VS_REGION_MIN; no overlap */
	void *addr;		/* where it is mapped, at the same address for every caller */
};
/*
 * Returns a guest id. ENOSPC; EINVAL: a region that is not as above. `regions` are copied, at most
 * VS_REGIONS_MAX. A buffer or ring must lie in one region.
 */
int vs_guest_add(struct vswitch *vs, const char *name, const struct vs_region *regions,
		 unsigned int count);
/* All its ports must be unbound, its callers deleted, and a grace period over. EBUSY. */
int vs_guest_del(struct vswitch *vs, int guest);
/* The guest was reset or lost its state: all queues of its ports go down at once, and HELLO
 * answers with a new generation. */
int vs_guest_reset(struct vswitch *vs, int guest);

/* One vCPU or thread of a guest, the cookie of vs_entry(). */
int vs_caller_add(struct vswitch *vs, int guest, struct vs_caller **caller);
/* The caller is not inside and will not enter again (stopped anywhere, also in the middle of a call):
 * aborts what it had reserved, frees its locks. `caller` is invalid after. */
void vs_caller_del(struct vswitch *vs, struct vs_caller *caller);
uint64_t vs_caller_calls(const struct vs_caller *caller);

/* ---- ports ---- */

/*
 * VLANs (IEEE 802.1Q), of C-tags (TPID 0x8100) only: a frame whose first tag is another one (0x88a8)
 * counts as untagged. A frame belongs to one VID, of the sender's port; it reaches members of that
 * VID only, each as its own port says. Further tags are never looked at and pass as they are. A tag
 * without a VID (0) is a priority for untagged frames; priorities last as long as their tags.
 */
enum vs_vlan_mode {
	VS_VLAN_NONE,	/* tags mean nothing here: every frame is of VID 0 and passes as it is */
	VS_VLAN_ACCESS,	/* member of `pvid`, which comes and goes untagged; tagged with it is taken, too */
	VS_VLAN_TRUNK,	/* member of `allowed`, tagged; and of `pvid`, if it is not 0: untagged frames */
	VS_VLAN_QINQ,	/* member of `pvid`; what comes, tagged or not, is its payload (a dot1q tunnel) */
};
#define VS_VID_MAX	4094
/*
 * The pvid of access ports that are the daemon's own: a VLAN that no tag and no other port's
 * configuration can name. Its FDB entries have it as their vid.
 */
#define VS_VID_HIDDEN	4095
struct vs_vlan {
	uint8_t mode;		/* enum vs_vlan_mode */
	bool native_tagged;	/* trunk: frames of `pvid` go out tagged, too */
	uint16_t pvid;		/* 1 .. VS_VID_MAX; 0: none (trunk), must be 0 with VS_VLAN_NONE */
	uint64_t allowed[64];	/* trunk: a bit for each VID, 1 .. VS_VID_MAX; else 0 */
};

/* Kinds of flooded frames: bits of vs_port_config.flood_off. */
#define VS_FLOOD_BROADCAST	(1 << 0)
#define VS_FLOOD_MULTICAST	(1 << 1)
#define VS_FLOOD_UNKNOWN	(1 << 2)	/* unicast to an address that nobody is known to have */

/*
 * Token buckets of a port. Bytes are those of frames, without preamble, FCS and gap; a frame that is
 * to be cut into segments counts with its payload and headers once, and passes when the bucket is
 * full if it is longer than that is deep: what it took too much is paid off first. There is no clock
 * inside: vs_refill() fills them.
 */
enum vs_bucket {
	VS_TX_BYTES,	/* from the guest; what is too much: tx-policed */
	VS_TX_FRAMES,
	VS_RX_BYTES,	/* to the guest: rx-policed */
	VS_RX_FRAMES,
	VS_STORM_BROADCAST,	/* frames from the guest that would be flooded: tx-storm */
	VS_STORM_MULTICAST,
	VS_STORM_UNKNOWN,
	VS_BUCKETS
};
struct vs_rate {
	uint64_t per_s;		/* 0: no limit */
	uint64_t burst;		/* depth of the bucket; at least per_s / 100, and the largest frame if bytes */
};
#define VS_RATE_MAX	(UINT64_C(1) << 40)	/* of per_s and burst */

struct vs_port_config {
	char name[VS_NAME_LEN];		/* [A-Za-z0-9_.-]{1,31}, unique: EEXIST */
	uint8_t mac[6];			/* unicast, not zero */
	uint16_t mtu;			/* 68 .. ELISA_MTU_MAX */
	uint16_t queues;		/* 1 .. ELISA_QUEUES_MAX */
	bool up;			/* administratively */
	bool anti_spoof;		/* only `mac` may be a source */
	uint64_t groups;		/* isolation: frames pass between ports with a group in common */
	struct vs_vlan vlan;
	uint8_t flood_off;		/* VS_FLOOD_* that do not reach this port */
	bool mac_limit_drop;		/* frames from addresses above the limit: tx-mac-limit; false: they
					 * pass, and are not learned */
	uint32_t mac_limit;		/* addresses learned at this port at a time; 0: no limit */
	struct vs_rate rate[VS_BUCKETS];
};
#define VS_GROUPS_DEFAULT	1	/* group 0 */

/*
 * Returns a port id. EINVAL, EEXIST, ENOSPC; EAGAIN: the only free ids are of ports just deleted,
 * which calls under way may still know.
 */
int vs_port_add(struct vswitch *vs, const struct vs_port_config *cfg);
/* Changes all but name and queues, at run time; addresses learned in a VID that the port has left are
 * forgotten. EBUSY: queues differ. */
int vs_port_set(struct vswitch *vs, int port, const struct vs_port_config *cfg);
/* Must be unbound, and a grace period over. Forgets its FDB entries. EBUSY. */
int vs_port_del(struct vswitch *vs, int port);
/* Makes the port the guest's next one. EBUSY: bound; ENOSPC: more than ELISA_PORTS_PER_VM. */
int vs_port_bind(struct vswitch *vs, int port, int guest);
/* Takes all queues down; nobody begins to use the port's rings after this. */
int vs_port_unbind(struct vswitch *vs, int port);

/*
 * What wakes RX queue q of this port is rung as `bell` + q; 0: it has no doorbell. Forgotten at
 * vs_port_unbind().
 */
int vs_port_bell(struct vswitch *vs, int port, uint32_t bell);
/*
 * A fallback for senders that cannot ring, do not, or died before: fills in what to ring for queues
 * that sleep over frames which lay there at the last call already. Returns how many, at most `max`.
 */
int vs_bells_due(struct vswitch *vs, uint32_t *bells, unsigned int max);

struct vs_queue_info {
	bool set_up;
	uint32_t tx_size, rx_size, rx_buf_len;
	uint32_t rx_reserved, rx_posted;	/* free-running */
	uint32_t features;		/* ELISA_NET_F_* of its receiver */
	uint64_t tx_frames, tx_bytes, rx_frames, rx_bytes;
	uint64_t drops[ELISA_DROP_COUNT];
};
struct vs_port_info {
	struct vs_port_config config;
	int id, guest;			/* guest -1: unbound */
	uint16_t guest_index;		/* its index among the guest's ports */
	bool link;			/* up, bound, with carrier, at least one queue set up */
	uint32_t macs;			/* addresses learned here */
};
int vs_port_by_name(const struct vswitch *vs, const char *name);	/* ENODEV */
/* ENODEV for an id that is not in use; ids are below vs_config.ports. */
int vs_port_info(const struct vswitch *vs, int port, struct vs_port_info *info);
int vs_port_queue(const struct vswitch *vs, int port, unsigned int queue, struct vs_queue_info *q);
int vs_port_counters(const struct vswitch *vs, int port, struct elisa_port_counters *counters);
/* Short name of a drop reason, NULL past the last. */
const char *vs_drop_name(unsigned int drop);

/* ---- forwarding database ---- */

struct vs_fdb_entry {
	uint8_t mac[6];
	uint16_t vid;			/* 0: of ports that know no VLANs */
	int port;
	bool is_static;
	uint32_t age_s;			/* since last seen; 0 for static */
};
/* static; takes the place of a learned one if there is no other. ENOSPC: those in the way are
 * static, too; EINVAL */
int vs_fdb_add(struct vswitch *vs, const uint8_t mac[6], uint16_t vid, int port);
int vs_fdb_del(struct vswitch *vs, const uint8_t mac[6], uint16_t vid);	/* ENODEV: not there */
/* As if learned `age_s` ago, unless the address is known already: EEXIST; else as vs_fdb_add(). EINVAL
 * also if it is static, or the port no member of the VID; ENOSPC also at the port's mac_limit. */
int vs_fdb_restore(struct vswitch *vs, const struct vs_fdb_entry *entry);
int vs_fdb_flush(struct vswitch *vs, int port);		/* learned ones; -1: of all ports; count */
/* Walks the table: *cursor starts at 0. Returns 1 with an entry, 0 at the end. */
int vs_fdb_next(const struct vswitch *vs, uint64_t *cursor, struct vs_fdb_entry *entry);
struct vs_fdb_stats {
	uint64_t capacity, used, statics, learned, moved, aged, full;
};
void vs_fdb_stats(const struct vswitch *vs, struct vs_fdb_stats *stats);

/* ---- mirrors (SPAN) ---- */

/*
 * Copies of a port's frames for another port, in the order of its traffic, after the frame itself has
 * been delivered or dropped; they are read from the sender's memory once more. They never delay the
 * frame: what the mirror's ring has no room for is missing there (its rx-no-buffer), counted.
 * Mirroring is outside of groups, VLANs and rates, frames come as the mirrored port sends or gets
 * them; a port that is mirrored to has no mirrors of its own, and floods do not reach it. Mirrors go
 * with either port: vs_port_del().
 *
 * A frame that is still to be cut into segments comes whole if the queues that it is mirrored to take
 * such; any other frame comes cut to the MTU there and 18 bytes. Dropped frames that are not mirrored:
 * runts, and those whose descriptors name no memory.
 */
#define VS_MIRRORS_MAX	4	/* of one port */
#define VS_MIRROR_TX	(1 << 0)	/* what it sends */
#define VS_MIRROR_RX	(1 << 1)	/* what it gets */
#define VS_MIRROR_DROPS	(1 << 2)	/* what is dropped at it, by those two ways */
struct vs_mirror {
	int to;			/* port id */
	uint8_t what;		/* VS_MIRROR_* */
	uint16_t snap;		/* at most so many bytes of each frame, 14 at least; 0: all */
	bool annotate;		/* completions have a note in `hash` (with ELISA_RXC_HASH), see VS_NOTE_* */
};
/* EINVAL: `to` is the port itself, or mirrored; EEXIST; ENOSPC; ENODEV. */
int vs_mirror_add(struct vswitch *vs, int port, const struct vs_mirror *mirror);
int vs_mirror_del(struct vswitch *vs, int port, int to);
/* The port's mirrors; returns how many. ENODEV */
int vs_mirrors(const struct vswitch *vs, int port, struct vs_mirror mirrors[VS_MIRRORS_MAX]);
#define VS_NOTE_LEN(note)	((uint32_t)(note) >> 16)	/* of the whole frame; 65535: or longer */
#define VS_NOTE_PORT(note)	((uint32_t)(note) >> 6 & 0x3ff)	/* id of the mirrored port */
#define VS_NOTE_RX(note)	((uint32_t)(note) >> 5 & 1)	/* it got the frame; 0: it sent it */
#define VS_NOTE_DROP(note)	((uint32_t)(note) & 0x1f)	/* 0: not dropped; else enum elisa_drop + 1 */

/* ---- time and quiescence ---- */

/* Fills the ports' buckets, by a monotonic clock in microseconds. To be called each 4 ms or so for as
 * long as it returns true; again after vs_port_add() or vs_port_set() with a rate. */
bool vs_refill(struct vswitch *vs, uint64_t now_us);

/* To be called about once a second with a monotonic clock in seconds: ages addresses, finishes
 * what can be finished. Bounded work: a part of the FDB each time when it is large. */
void vs_tick(struct vswitch *vs, uint64_t now_s);
/* A grace period is over when every call that was under way at vs_grace_begin() has ended. */
uint64_t vs_grace_begin(struct vswitch *vs);
bool vs_grace_done(struct vswitch *vs, uint64_t ticket);
/* Callers that hold `ticket` up: fills ids of their guests, returns how many there are. */
int vs_grace_holders(struct vswitch *vs, uint64_t ticket, int *guests, unsigned int max);

/* ---- the callers' side ---- */

/*
 * The trusted entry (elisa_entry_fn); `cookie` is a struct vs_caller. Operations of abi.h, net.h.
 * Bounded: an ELISA_NET_TX call takes at most ELISA_TX_MAX descriptors and makes at most one copy
 * for each unicast frame and VS_PORTS_MAX copies of flooded ones and of segments, counted whoever
 * cuts frames up. It returns early, at a whole frame, when the next one might exceed that; only a
 * flooded frame of many segments may do so, alone. ELISA_NET_POLL does as much for each of a few NICs.
 * Each frame, and each of its copies, is copied once more for each mirror of the port that it comes
 * from or goes to; these copies are not counted, and not mirrored.
 * Uses up to 16 KiB of stack, the functions of vs_nic_ops aside, and no memory of the library but its
 * text.
 */
int64_t vs_entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		 uint64_t a3);

#ifdef __cplusplus
}
#endif
#endif
