/* SPDX-License-Identifier: BSD-3-Clause */
/* The calls that test_kill.c stops, and what the other guests do meanwhile. */
#ifndef VS_TEST_SCENARIOS_H
#define VS_TEST_SCENARIOS_H

#include "fakenic.h"

#define KILL_GUESTS 5 /* 0 is stopped, and perhaps 2 */
#define KILL_RING   16
#define KILL_BELL   0x10000u /* doorbell of guest g: + 16 g */

/* All of it is shared with the stopped ones. */
struct world {
	struct t_switch t; /* its first guests; those of NICs follow */
	struct t_nic nic[1];
	unsigned int nics;
	uint64_t clock_us, tso;
};
extern struct world *w;

struct call {
	uint64_t op, a1, a2;
};

struct scenario {
	const char *name;
	void (*set_up)(void);	    /* of the switch, before anything is sent; or NULL */
	struct call (*call)(void);  /* by guest 0 */
	struct call (*ideal)(void); /* the same where nothing is dropped, if that differs */
	/* Frames that it brings: at queue q of guest g by g * 2 + q, then at the wire of the NIC.
	 */
	unsigned int come[KILL_GUESTS * 2 + 2];
	unsigned int nics;
	unsigned int tagged; /* a bit for each guest that sends with a tag */
	uint32_t buf_len;    /* of guest 1; 0: usual */
	uint32_t features;   /* of guests 1 and 2 */
	uint32_t posted;     /* by guest 1; 0: all */
	uint32_t used;	     /* slots of guest 1 that were used before */
	unsigned int queues; /* of guest 1; 0: one */
	bool may_overflow;   /* others' frames may find no room, or be above a rate */
	bool own_rings;	     /* the call is about guest 0's own queues */
};
extern const struct scenario scenarios[]; /* the last has no name */

/* Everything that `s` needs, as memory of k_part(). */
void scenario_world(const struct scenario *s);
void scenario_world_end(void);
/* The others' traffic; `but`: without guest 2. Its calls are made by k_call(). */
void scenario_exchange(const struct scenario *s, unsigned int round, unsigned int but);
/* One frame. Returns how many were taken. */
int64_t scenario_send(const struct scenario *s, unsigned int from, unsigned int to, uint32_t seed);
/* Guest 2's call. */
struct call scenario_second(const struct scenario *s);
int64_t k_call(struct t_guest *g, uint64_t op, uint64_t a1, uint64_t a2);

#endif
