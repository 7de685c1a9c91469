/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NIC ports in the daemon:
 *
 *	nic.c		the library, the ports, what the event loop does for them
 *	nic-heap.c	DPDK's heap: seen by guests inside, and by local clients
 *	nic-thread.c	a thread for each NIC: starts it, serves it, resets it
 *	nic-grant.c	may guests run it? By nic-check.c, which knows nothing of the daemon
 *	nic-watch.c	do guests do their part?
 *	nic-json.c	what it looks like
 *	nic-say.c	events from those threads
 *	nic-telemetry.c	what DPDK's telemetry says of the switch
 *
 * A NIC's thread owns its device. What both threads use lies behind its lock, which nobody holds
 *for longer than a copy.
 */
#ifndef VSWITCHD_NIC_H
#define VSWITCHD_NIC_H

#include <pthread.h>
#include "daemon.h"
#include "nic-check.h"
#include "nic-watch.h"

#define HEAP_RANGES 256
#define NIC_BELLS   64
#define NIC_SAID_MAX 16

/* A piece of DPDK's heap. */
struct heap_range {
	struct nic_memory m; /* m.fd: a duplicate, or -1 */
	bool exported;
	bool gone;   /* it is no memory any more */
	bool shared; /* local clients have it, or need not */
	struct elisa_local_region *region;
};

enum nic_state {
	NIC_STARTING,
	NIC_UP,
	NIC_RESETTING,
	NIC_FAILED, /* `note` says why; is tried again if there is a device */
	NIC_STOPPED,
};

enum nic_grant {
	GRANT_OPEN, /* not decided: no trusted context yet, or no link */
	GRANT_GIVEN,
	GRANT_REFUSED, /* `fallback` says why */
};

struct nic_macs {
	unsigned int count;
	uint8_t mac[NIC_MACS_MAX][6];
	uint16_t queue[NIC_MACS_MAX];
};

/* What `elisactl nic` shows and the thread keeps up to date. */
struct nic_view {
	enum nic_state state;
	char note[NIC_WHY_LEN];
	enum nic_grant grant;
	enum vs_nic_serve served;
	char fallback[NIC_WHY_LEN];
	bool checked;
	struct nic_verdict verdict; /* if so */
	struct nic_info info;
	struct nic_link link;
	struct nic_stats stats;
	struct vs_nic_status status;
	uint64_t resets, last_reset_us;
	int filters; /* that the device has for so many addresses; -1: not told yet */
	unsigned int addresses;
};

struct nic_port {
	struct nics *all;
	const struct nic_setting *set;
	struct nic *dev; /* the library's; NULL: there is none, see view.note */
	struct port *port;
	int guest; /* of libvswitch; -1 */
	struct vs_caller *caller;
	pthread_t thread;
	bool running; /* there is a thread */
	uint64_t beat; /* ... which will show itself before this time (now_us()) */
	int wake;     /* eventfd: something of the following changed */
	bool link_up; /* as the event loop has told everybody */
	int link_active;

	/* the thread's own */
	struct elisa_queue_setup *setup; /* what its calls pass, of VS_REGION_MIN bytes */
	int64_t handle[ELISA_QUEUES_MAX];
	bool set_up;
	bool wants_link; /* to be checked once it is there */
	struct nic_watch watch;

	pthread_mutex_t lock; /* of what follows */
	struct nic_view view;
	bool stop, again; /* `again`: the grant may be decided now, or anew */
	bool alone;	  /* there is no trusted context any more, nor will there be one */
	bool macs_new;
	struct nic_macs macs;
	uint32_t bells[NIC_BELLS];
	unsigned int bell_count;
};

/* For the event loop to tell. */
struct nic_said {
	struct log_where where;
	const struct nic_port *nic; /* NULL: of no NIC alone */
	const char *priority, *reason;
	char text[LOG_TEXT_LEN];
};

struct nics {
	struct daemon *daemon;
	void *handle; /* of dlopen */
	const struct nic_lib *lib;
	bool opened;		/* lib->open() was */
	char note[NIC_WHY_LEN]; /* why not */
	struct nic_memory span; /* of DPDK's heap, now and later */
	int news;		/* eventfd: a NIC has something for the event loop */
	sd_event_source *source;
	unsigned int count;
	struct nic_port nic[VS_NICS_MAX];

	/* Held while a NIC's thread uses `ctx` for long, and by who sets it; taken first. */
	pthread_mutex_t ctx_lock;
	pthread_mutex_t heap_lock;  /* of what follows; taken before a NIC's lock */
	struct elisa_ctx *ctx;	    /* NULL: none, or about to end */
	char ctx_note[NIC_WHY_LEN]; /* why guests may run none, or "" */
	struct heap_range heap[HEAP_RANGES];
	unsigned int ranges;
	char heap_note[WHY_LEN]; /* what is wrong with it, or "" */
	/* Who has, or had last, that id of libvswitch. */
	char names[VS_GUESTS_MAX][VS_NAME_LEN];
	char last_gone[VS_NAME_LEN]; /* whose callers ended last */

	pthread_mutex_t said_lock; /* of what follows; taken after any other */
	struct nic_said said[NIC_SAID_MAX];
	unsigned int said_count, said_told;
};

static inline void nic_poke(int fd)
{
	uint64_t one = 1;

	/* Full: it is awake already. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

/* The name of a half's owner as libvswitch gives it (id + 1); "": nobody. */
const char *nic_owner(struct nics *all, uint32_t owner, char name[VS_NAME_LEN]);

/* ---- nic-heap.c ---- */

int heap_follow(struct nics *all);
int heap_export(struct nics *all, struct elisa_ctx *ctx);
/* Whether all that may use it has it, so that a NIC may begin. -errno with `why`. */
int heap_ready(struct nics *all, char why[NIC_WHY_LEN]);
void heap_share(struct nics *all); /* event loop */
void heap_close(struct nics *all);

/* ---- nic-say.c ---- */

/* An event of a NIC, or of all (NULL). Any thread, with any lock. `reason`, a short word, is a literal. */
__attribute__((format(printf, 6, 7))) void nic_say_at(const struct log_where *where,
						      struct nics *all, const struct nic_port *n,
						      const char *priority, const char *reason,
						      const char *fmt, ...);
#define nic_say(n, priority, reason, ...) \
	nic_say_at(LOG_HERE, (n)->all, n, priority, reason, __VA_ARGS__)
void nics_tell(struct nics *all); /* event loop: what was said since */

/* ---- nic-telemetry.c: event loop; telemetry_serve() when somebody pokes `news` ---- */

void telemetry_open(struct nics *all);
void telemetry_serve(struct nics *all);
void telemetry_close(void);

/* ---- nic-thread.c ---- */

int nic_thread_start(struct nic_port *n);
__attribute__((format(printf, 3, 4))) void nic_state(struct nic_port *n, enum nic_state state,
						     const char *fmt, ...);

/* ---- nic-grant.c: the NIC's thread, device started, port held ---- */

/* Decides by whom the NIC is served. True: its device has to be started anew. */
bool nic_decide(struct nic_port *n);

#endif
