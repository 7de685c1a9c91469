/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the real bridge and the switch are both made to do: topologies of ports, changes of them,
 * and frames, all of it made from a seed. Both programs run the same script, step by step.
 */
#ifndef BRIDGE_SCRIPT_H
#define BRIDGE_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>
#include <vswitch/vswitch.h>

#define S_PORTS	  8
#define S_VIDS	  6
#define S_MACS	  14
#define S_STATICS 6
#define S_FRAME	  1600

/* What a topology is about. */
enum s_class {
	S_PLAIN, /* learning, isolation, static addresses, ports down; tags mean nothing */
	S_FLOOD, /* ports that get no broadcasts, multicasts or unknown unicasts */
	S_VLAN,	 /* access, trunk, native VIDs, tagged or not */
	S_MIXED, /* ports that know VLANs, and ports that do not */
	S_QINQ,	 /* customers' ports, and trunks between them */
	S_MIRROR,
	S_RATE,	 /* limits of bytes and of frames, both ways */
	S_STORM, /* limits of broadcasts and multicasts */
	S_CLASSES
};

struct s_port {
	bool up, isolated;
	uint8_t flood_off; /* VS_FLOOD_* */
	uint8_t mode;	   /* VS_VLAN_* */
	bool native_tagged;
	uint16_t pvid;
	uint16_t vid[S_VIDS]; /* trunk: allowed */
	unsigned int vids;
	/* How much may pass at once, by enum vs_bucket; 0: no limit. What is added by S_RATE_PER_S
	 * while a topology lasts makes no difference: see random_len(). */
	uint32_t burst[VS_BUCKETS];
};
#define S_RATE_PER_S 64

enum s_kind {
	S_SET, /* `port` is now as `set` says */
	S_FDB_ADD,
	S_FDB_DEL,
	S_FLUSH,      /* addresses learned at `port` */
	S_MIRROR_ADD, /* copies of the frames of `port` for `to`, by `what` */
	S_MIRROR_DEL,
	S_SEND
};

struct s_op {
	enum s_kind kind;
	unsigned int port;
	struct s_port set;
	uint8_t mac[6];
	uint16_t vid;
	unsigned int to;
	uint8_t what; /* VS_MIRROR_TX, VS_MIRROR_RX */
	/* S_SEND */
	uint32_t number; /* of the frame: its last four bytes, too */
	uint32_t len;
	uint8_t frame[S_FRAME];
};

struct s_static {
	uint8_t mac[6];
	uint16_t vid;
	unsigned int port;
	bool used;
};

struct script {
	uint64_t random;
	unsigned int topology, ports, begun;
	enum s_class class;
	struct s_port port[S_PORTS];
	uint8_t mac[S_MACS][6]; /* the last ones are those of nobody */
	uint16_t vid[S_VIDS];
	struct s_static fixed[S_STATICS];
	uint8_t mirror[S_PORTS][S_PORTS]; /* what of the first is copied to the second */
	uint32_t frames, sent;		  /* in this topology */
	unsigned int repeat;		  /* frames to come like the one before */
	unsigned int from, header;
	uint8_t last[32];
};

extern const char *const s_class_name[S_CLASSES];

/* `classes`: bit mask of those that it chooses from. */
void script_begin(struct script *s, uint64_t seed, unsigned int topology, unsigned int classes);
/* The next step; false: the topology is done. */
bool script_next(struct script *s, struct s_op *op);
/* Frames of others are copied to it: no floods reach it, and it is not mirrored. */
bool script_monitor(const struct script *s, unsigned int port);
void script_print(const struct script *s);
void script_print_port(unsigned int index, const struct s_port *p);

#endif
