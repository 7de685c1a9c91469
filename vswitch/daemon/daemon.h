/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The daemon's rooms, on one thread (sd-event loop) but for NICs' and the one that writes what was
 * learned; nothing here blocks for longer than the bounds named.
 *
 *	switch.c	arena, ports, grace periods
 *	hugepages.c	hugepages: who needs how many, and where
 *	statics.c	static addresses, mirrors
 *	reload.c	the configuration, read again
 *	saved.c		changes that outlast the daemon, laid over it
 *	port-json.c	what a port may have, as JSON
 *	guest.c		what VMs and local clients have in common: callers, ports, names
 *	vm.c		VMs through libelisa-host: attach, arm, drain, detach
 *	domain.c	VMs that libvirt's hook tells of, with their ports
 *	local.c		local clients (no isolation)
 *	doorbell.c	how a VM that sleeps is woken
 *	nic*.c		NIC ports, with threads of their own
 *	state.c		what outlives the daemon; fdb-file.c: addresses that were learned
 *	watchdog.c	whether frames pass
 *	control.c	control socket, JSON-RPC framing
 *	methods.c	its methods; stats.c, doctor.c: the longer ones
 *	metrics.c	stats for Prometheus; metrics-http.c: their socket
 *	capture.c	who looks at ports' frames
 *	event.c		what an operator wants to know at once
 */
#ifndef VSWITCHD_DAEMON_H
#define VSWITCHD_DAEMON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include <elisa/host.h>
#include <elisa/local.h>
#include <vswitch/vswitch.h>
#include "config.h"
#include "event.h"
#include "hugepages.h"
#include "log.h"

/* A list walk whose body may remove the element. */
#define FOREACH_SAFE(var, head, link, next)                                           \
	for ((var) = TAILQ_FIRST(head); (var) && ((next) = TAILQ_NEXT(var, link), 1); \
	     (var) = (next))

#define MSEC 1000ull /* in microseconds, sd-event's unit */
#define SEC  1000000ull

/*
 * Fixed addresses, in the range that local.h recommends, equal in the daemon, in trusted contexts
 * and in local clients. The arena starts a 1 GiB chunk of its own.
 */
#define ARENA_VA      0x300000000000ull
#define LOCAL_RAM_VA  0x310000000000ull /* clients' RAM from here... */
#define LOCAL_RAM_END 0x320000000000ull /* ...to here */
#define HUGE_PAGE     0x200000ull

#define ATTACH_WAIT (20 * SEC) /* a request waits so long for an attach that makes no progress */

struct request;
struct client;
struct capture;
struct control;
struct local;
struct doorbells;
struct guest;
struct nics;
struct nic_port;
struct watchdog;
struct domain;
struct fdb_file;
struct daemon;

/* From when on counters count. Another generation: they have begun at 0 again, whatever the clock says. */
struct epoch {
	uint64_t since_us; /* CLOCK_REALTIME, as it was set then */
	uint64_t at_us;	   /* CLOCK_MONOTONIC */
	uint32_t generation;
};

/* Something to be done once everybody who is inside now has left. */
struct wait {
	TAILQ_ENTRY(wait) link;
	uint64_t ticket;
	void (*done)(struct daemon *d, void *arg);
	void *arg;
	bool allocated; /* by itself, not as a part of something */
};

struct port {
	TAILQ_ENTRY(port) link;
	struct port_setting set;
	struct epoch epoch;
	int id;	      /* of libvswitch */
	bool runtime; /* added through the control socket; kept in the state file */
	bool lent;    /* `set.vm` is only for this attachment */
	bool deleting;
	bool fresh;   /* added by the reload that is under way */
	struct guest *guest; /* bound to */
	uint32_t bell;	     /* as told to libvswitch; 0: none */
	bool bell_short;     /* ... for want of vectors */
	struct nic_port *nic; /* it is a NIC: then nobody's */
	struct domain *domain; /* which brought it along: `runtime`, but not in the state file */
	bool no_carrier;      /* as told to libvswitch */
	bool link_told;	      /* by an event */
	bool pinned;	      /* `pinned_mac` is a static address of it */
	uint8_t pinned_mac[6];
	uint16_t pinned_vid;
	struct wait gone; /* here, so that deleting it needs no memory */
};
TAILQ_HEAD(port_list, port);

enum guest_state {
	GUEST_WAITING,	 /* to be attached as soon as possible; `note` says why not yet */
	GUEST_MAPPING,	 /* its RAM is being mapped here */
	GUEST_ATTACHING, /* local clients map its RAM */
	GUEST_ATTACHED,
	GUEST_DRAIN_OUT,     /* its vCPUs are leaving */
	GUEST_DRAIN_GRACE,   /* others are leaving its RAM */
	GUEST_DRAIN_REGIONS, /* local clients unmap its RAM */
	GUEST_DRAIN_RAM,     /* its RAM is being unmapped here */
	GUEST_DETACHED,	     /* by the administrator, or killed */
};

struct caller {
	struct vs_caller *vs; /* NULL: free */
	bool armed;	      /* of a VM */
	int failed;	      /* why it was not armed, or 0 */
};

/* A VM or a local client. */
struct guest {
	TAILQ_ENTRY(guest) link;
	struct daemon *daemon;
	char name[VS_NAME_LEN];
	bool local;
	enum guest_state state;
	char note[WHY_LEN];	/* one sentence on the state, or "" */
	pid_t pid;		/* 0: not known */
	uint64_t pid_start;	/* ticks since boot, see proc_start() */
	int id;			/* of libvswitch; -1 */
	struct caller *callers; /* index: vCPU id or the client's thread */
	unsigned int caller_count;
	uint64_t ticket;      /* of the grace period, in GUEST_DRAIN_GRACE */
	uint64_t drain_since; /* CLOCK_MONOTONIC, microseconds */

	/* VMs */
	struct domain *domain;		  /* NULL: it is none of libvirt's */
	const struct vm_setting *setting; /* from the configuration, or its domain's, or NULL */
	bool wanted;			  /* attach (again) whenever possible */
	bool held;			  /* configured, but detached by the administrator */
	bool force_cpu, force_drain;
	uint32_t refusal; /* of the last try; 0: none */
	uint64_t refusal_detail;
	char **lend; /* names of ports given at attach */
	size_t lend_count;
	struct elisa_vm *vm;
	sd_event_source *source;
	struct elisa_local_region *regions[ELISA_MAX_REGIONS];
	unsigned int region_count, regions_ready, regions_left;
	uint64_t turn; /* when it had a step of mapping last, in daemon.turns */
	bool entering; /* not yet attached since the last try */
	bool logged;   /* its memory was seen to be copied: it is to go */
	bool no_local; /* local clients can't map its RAM */
	unsigned int tries, again;
	uint64_t next_try, again_since;
	struct elisa_vm_status killed; /* of the last kill; .kill 0: never */
	struct request *attach_request;
	TAILQ_HEAD(, request) detach_requests;

	/* local clients */
	struct elisa_local_peer *peer;
	void *ram;
	size_t ram_len;
	bool exported;
};
TAILQ_HEAD(guest_list, guest);

struct daemon {
	struct settings set;
	char *run_dir;
	const char *config_path;
	bool reloading; /* addresses of ports are compared by whoever reloads */
	sd_event *event;
	sd_event_source *tick, *work;

	int arena_fd;
	void *arena;
	size_t arena_len;
	uint64_t arena_page; /* bytes of each of its pages */
	uint32_t generation;
	struct epoch epoch;
	uint32_t epochs; /* of ports, so far */
	struct vswitch *vs;
	struct port_list ports;
	TAILQ_HEAD(, wait) waits;
	sd_event_source *refill;      /* NULL: nothing has had a rate yet */
	struct fdb_setting *fdb;      /* static addresses added at run time */
	size_t fdb_count;
	struct mirror_setting *mirrors; /* likewise */
	size_t mirror_count;
	TAILQ_HEAD(, domain) domains;

	struct elisa_host *host;
	struct elisa_ctx *ctx;
	char ctx_note[WHY_LEN]; /* why there is no context */
	struct guest_list guests;
	uint64_t kills, turns;
	uint64_t fdb_moved; /* as told by an event */
	struct fdb_file *fdb_file;

	struct local *local;
	char local_note[WHY_LEN];
	struct doorbells *doorbells; /* NULL: disabled */
	struct nics *nics;	     /* NULL: none is configured */
	bool no_local_nic;	     /* local clients can't map a NIC's buffers */
	struct control *control;
	struct web *web; /* metrics */
	TAILQ_HEAD(, capture) captures;
	struct watchdog *watchdog;
	uint64_t started; /* CLOCK_MONOTONIC, microseconds */
	bool state_dirty;
	bool stopping;
};

/* Of sysexits.h, for what start came to. */
int exit_status(int err);
uint64_t now_us(void);
/* Makes the work timer fire within `us`. Its work: draining, waits, attach tries, deadlines. */
void work_soon(struct daemon *d, uint64_t us);

/* ---- switch.c ---- */

int switch_open(struct daemon *d);
void switch_close(struct daemon *d);
int switch_configure(struct daemon *d);
struct port *port_find(struct daemon *d, const char *name);
/* How many ports more there may be. */
size_t ports_room(struct daemon *d);
/* `why`: a sentence, when negative. */
int port_create(struct daemon *d, const struct port_setting *set, bool runtime, struct port **port,
		char why[WHY_LEN]);
int port_change(struct daemon *d, struct port *port, const struct port_setting *set,
		char why[WHY_LEN]);
/* An attached VM gets a port that is meant for it at once. */
void port_bind_now(struct daemon *d, struct port *port);
/* Unbinds and deletes it; it is gone after a grace period. 0: begun. */
int port_remove(struct daemon *d, struct port *port);
/* To be called when VMs, their ports or the ports' groups have changed. */
void ports_changed(struct daemon *d);
const char *port_transport(const struct port *port);
/* Calls done() from the event loop when everybody who is inside now has left. */
int wait_grace(struct daemon *d, void (*done)(struct daemon *d, void *arg), void *arg);
/* Returns true while something is left to wait for. */
bool waits_poll(struct daemon *d);

/* ---- statics.c; 0 or -errno ---- */

/* After NICs have their ports. */
int statics_configure(struct daemon *d);
/* For and of the run-time lists. */
int static_add(struct daemon *d, const struct fdb_setting *fdb);
int static_del(struct daemon *d, const uint8_t mac[6], uint16_t vid);
bool static_at_runtime(const struct daemon *d, const struct fdb_setting *fdb);
/* Has the configuration it, or the control socket? */
bool static_is_set(const struct daemon *d, const uint8_t mac[6], uint16_t vid);
int mirror_add(struct daemon *d, const struct mirror_setting *m, struct wrong *w);
int mirror_del(struct daemon *d, const char *port, const char *to);
bool mirror_at_runtime(const struct daemon *d, const struct mirror_setting *m);
/* The first mirror of another configuration that does not fit beside those of run time; NULL: all do. */
const struct mirror_setting *mirrors_clash(struct daemon *d, const struct settings *to,
					   struct wrong *w);
/* Of the run-time lists only. */
void static_forget(struct daemon *d, const uint8_t mac[6], uint16_t vid);
void mirror_forget(struct daemon *d, const char *port, const char *to);
void statics_port_gone(struct daemon *d, const char *port);
/* The switch only. */
int static_put(struct daemon *d, const struct fdb_setting *fdb);
int mirror_put(struct daemon *d, const struct mirror_setting *m);
int mirror_take(struct daemon *d, const char *port, const char *to);
json_t *mirrors_json(struct daemon *d);
json_t *fdb_setting_json(const struct fdb_setting *fdb);
int fdb_setting_read(struct fdb_setting *fdb, json_t *json, char why[WHY_LEN]);
/* For the state file, and from it. */
void statics_save(struct daemon *d, json_t *state);
void statics_load(struct daemon *d, json_t *state);
void statics_free(struct daemon *d);

/* ---- reload.c ---- */

/*
 * Reads the configuration again and applies what is other than before, or only says so with `check`.
 * 0; or as settings_read(), and nothing has changed. *report: {outcome, errors, changed,
 * restart_needed}, a word and lists of sentences; the caller's. Errors with 0: that was not done, all
 * else is.
 */
int reload(struct daemon *d, bool check, json_t **report);

/* ---- saved.c: 0, or -errno with a sentence ---- */

/* What the port is now: all of it, or of `params` if the configuration has it. */
int saved_port(struct daemon *d, struct port *port, json_t *params, char why[WHY_LEN]);
int saved_port_deleted(struct daemon *d, const char *name, bool in_file, char why[WHY_LEN]);
int saved_fdb(struct daemon *d, const struct fdb_setting *fdb, bool deleted, char why[WHY_LEN]);
int saved_mirror(struct daemon *d, const struct mirror_setting *m, bool deleted, char why[WHY_LEN]);
/* The file's content. */
json_t *saved_json(struct daemon *d, char why[WHY_LEN]);
/* What is saved of that port or address; NULL: all. Returns how many; it takes effect with reload(). */
int saved_forget(struct daemon *d, const char *name, char why[WHY_LEN]);

/* ---- port-json.c ---- */

#define PORT_JSON_KEYS \
	"mac mtu queues anti_spoof groups up vm transport uplink vlan rate storm no_flood mac_limit "
/*
 * Reads what `params` has into `set`, what it has not stays; other keys are the caller's. -EINVAL
 * with a sentence: `set` is not to be used then.
 */
int port_json_read(const struct settings *s, json_t *params, struct port_setting *set,
		   char why[WHY_LEN]);
/* All that port_json_read() takes, and the name. */
json_t *port_json_write(const struct port_setting *set);

/* ---- guest.c ---- */

struct guest *guest_new(struct daemon *d, const char *name, bool local);
void guest_free(struct guest *g);
struct guest *guest_find(struct daemon *d, const char *name);
struct guest *guest_by_id(struct daemon *d, int id);
const char *guest_state_name(const struct guest *g);
const char *guest_transport(const struct guest *g);
bool guest_active(const struct guest *g); /* known to libvswitch */
int guest_callers_add(struct guest *g, unsigned int count);
void guest_callers_del(struct guest *g);
int guest_port_bind(struct guest *g, struct port *port, char why[WHY_LEN]);
unsigned int guest_ports_bind(struct guest *g); /* all that are meant for it */
void guest_ports_unbind(struct guest *g);
__attribute__((format(printf, 2, 3))) void guest_note(struct guest *g, const char *fmt, ...);
/* Names of those whose calls hold the grace period of `g` up, as "a, b". */
void guest_holders(struct guest *g, char *text, size_t len);

/* ---- vm.c ---- */

/* Opens the module and makes the context, if not done yet. -errno with d->ctx_note. */
int ctx_open(struct daemon *d);
void ctx_close(struct daemon *d);
/* Begins; the outcome is in g->state and g->note, or comes later (GUEST_MAPPING). */
int vm_attach(struct guest *g);
void vm_detach(struct guest *g);
/* elisa_vm_status(), which forgets news once told: so they are acted upon here, whoever asks. */
int vm_status(struct guest *g, struct elisa_vm_status *st);
/* Each second: new vCPUs, configured VMs that came up, processes that are gone. */
void vm_tick(struct daemon *d);
/* Work on what drains or waits; returns microseconds until it wants to be called again, 0: never.
 */
uint64_t vm_work(struct daemon *d);
void vm_region_ready(struct guest *g);
void vm_region_gone(struct guest *g);
void vms_configure(struct daemon *d);
/* The configuration's VMs are others now; those that are attached stay so. */
void vms_reconfigure(struct daemon *d);
/* Ends the requests that wait for `g`. */
void vm_answer_attach(struct guest *g);
void vm_answer_detach(struct guest *g);

/* ---- domain.c ---- */

int domains_load(struct daemon *d);
void domains_close(struct daemon *d);
/* Those whose ports had to wait for the end of former ones. */
void domains_work(struct daemon *d);
const char *domain_uuid(const struct domain *dom);
const struct vm_setting *domain_vm(const struct domain *dom);
void do_vm_define(struct request *req, json_t *params);
void do_vm_undefine(struct request *req, json_t *params);

/* ---- local.c ---- */

int local_open(struct daemon *d);
void local_close(struct daemon *d);
unsigned int local_clients(struct daemon *d);
/* Lets clients map the RAM of `g`. 0: asked for, vm_region_ready() follows for each region. */
int local_share(struct guest *g);
void local_unshare(struct guest *g);
/* To be done when a context has been made: VMs must reach the clients that are there already. */
int local_export_all(struct daemon *d);
/* Lets clients map more of this process; nics_region_ready() follows. */
int local_region_add(struct daemon *d, int fd, uint64_t offset, void *addr, size_t len, void *user,
		     struct elisa_local_region **region);
bool local_work(struct daemon *d);

/* ---- doorbell.c ---- */

int doorbells_open(struct daemon *d);
void doorbells_close(struct daemon *d);
/* See ports_changed(). */
void doorbells_update(struct daemon *d);
/* Rings what libvswitch names so (ELISA_NET_BELL). */
void doorbell_ring(struct daemon *d, uint32_t bell);
json_t *doorbells_status_json(struct daemon *d);
json_t *guest_doorbells_json(struct guest *g);
json_t *port_doorbell_json(struct port *port);
/* For the state file, and from it. */
json_t *doorbells_save(struct daemon *d);
void doorbells_load(struct daemon *d, json_t *list);
void doorbells_tick(struct daemon *d);

/* ---- nic.c, nic-heap.c, nic-json.c; see nic.h ---- */

/*
 * open: library, devices, ports; before the trusted context, so that the kernel closes devices first
 * when the daemon dies. run: their threads. stop: those begin to end; then the context goes, then
 * join; close is last.
 */
int nics_open(struct daemon *d);
bool nics_opened(struct daemon *d);
/* Of DPDK's heap, by the node that each NIC is at. */
void nics_need(const struct settings *s, struct dpdk_need *need);
void nics_run(struct daemon *d);
void nics_stop(struct daemon *d);
void nics_join(struct daemon *d);
void nics_close(struct daemon *d);
/* The context: being made, before it is realized; made; about to end. */
int nics_ctx_made(struct daemon *d, struct elisa_ctx *ctx);
void nics_ctx_ready(struct daemon *d);
void nics_ctx_gone(struct daemon *d);
/* See ports_changed(). */
void nics_update(struct daemon *d);
void nics_callers_come(struct guest *g);
void nics_callers_gone(struct guest *g);
/* One of them is being brought back from the hands of a VM that died with it, or soon will be. */
bool nics_resetting(struct daemon *d);
void nics_region_ready(struct daemon *d, struct elisa_local_region *region);
void nics_local_gone(struct daemon *d);
/* All of them, or the one of that name. */
json_t *nics_json(struct daemon *d, const char *only);
json_t *nic_check_json(struct nic_port *n);

/* Whether a NIC's thread does not show itself any more; `why` has which. */
bool nics_late(struct daemon *d, char why[WHY_LEN]);

/* ---- watchdog.c ---- */

/* After all that is configured; before the switch closes. */
int watchdog_open(struct daemon *d);
void watchdog_close(struct daemon *d);
json_t *watchdog_json(struct daemon *d);
/* vs_fdb_stats() without its addresses. */
void fdb_stats(struct daemon *d, struct vs_fdb_stats *stats);

/* ---- state.c ---- */

void state_load(struct daemon *d);
void state_save(struct daemon *d);
/* Saves soon, and before the next answer to a request. */
void state_changed(struct daemon *d);
/* Replaces the file `path` by `json`, whole or not at all; `durable`: on the disk before it returns. */
int json_replace(const char *path, json_t *json, bool durable);

/* ---- fdb-file.c ---- */

/* Restores what it can; after all ports that are known at start, before there are callers. */
int fdb_file_open(struct daemon *d);
/* Writes, unless there is something left to restore. */
void fdb_file_close(struct daemon *d);
/* More to restore. True: there is still more to do at once. */
bool fdb_file_work(struct daemon *d);
/* Each second, with what fdb_stats() says. */
void fdb_file_tick(struct daemon *d, const struct vs_fdb_stats *stats);
/* A port's id may soon be another one's. */
void fdb_file_port_gone(struct daemon *d);

/* ---- proc.c ---- */

/* What the host's /sys and /proc are below: "". The tests' daemon has another. */
const char *host_root(void);
/* As fopen(path, "re"), below that. */
FILE *host_file(const char *path);

/* Start time of `pid` in clock ticks since boot (proc(5), stat field 22); 0: no such process. */
uint64_t proc_start(pid_t pid);
pid_t proc_pid_file(const char *path);
/* Command line, arguments separated by '\n'. Free it. NULL: none. */
char *proc_cmdline(pid_t pid);
/* Value of `-name`, without "guest=" and what follows a comma. -ENOENT. */
int proc_qemu_name(pid_t pid, char *name, size_t len);
/* Processes that hold a KVM VM descriptor (anon_inode:kvm-vm); *vms: how many each. */
struct kvm_process {
	pid_t pid;
	unsigned int vms;
};
int proc_kvm_list(struct kvm_process *list, unsigned int max);
/* Running QEMU of that name; -ENOENT, -ENOTUNIQ. */
pid_t proc_find_qemu(const char *name);
/* The kernel's number of the eventfd `fd`, by `fdinfo` of its process; -1: it is none. */
long long proc_eventfd_id(const char *fdinfo, int fd);
/* A copy of the eventfd of that number which `pid` has; -ENOENT. */
int proc_eventfd(pid_t pid, long long id);
/* First line of a small file, without its end; "" when unreadable. */
const char *proc_read_line(const char *path, char *buf, size_t len);

/* ---- control.c ---- */

/* Listens at `path`, whatever is there; mode 0660 for group `gid`, 0600 for -1. Or -errno. */
int socket_listen(const char *path, gid_t gid);
int control_open(struct daemon *d);
void control_close(struct daemon *d);
/* Deadlines of waiting requests; true while there are any. */
bool control_work(struct daemon *d);
/* events.subscribe: from now on the client is told what control_publish() gets. */
void control_subscribe(struct request *req);
/* Who is at its other end. */
void client_peer(struct client *client, pid_t *pid, uid_t *uid);
bool control_subscribers(struct daemon *d);
/* Takes `event`. One who does not read misses it, and is told how many it missed. */
void control_publish(struct daemon *d, json_t *event);

enum rpc_error { /* JSON-RPC 2.0, section 5.1, and the daemon's own */
		 RPC_PARSE = -32700,
		 RPC_INVALID = -32600,
		 RPC_METHOD = -32601,
		 RPC_PARAMS = -32602,
		 RPC_REFUSED = -32000,
};

struct request {
	TAILQ_ENTRY(request) link; /* of whoever makes it wait */
	TAILQ_ENTRY(request) client_link;
	struct daemon *daemon;
	struct client *client; /* NULL: gone meanwhile */
	json_t *id;	       /* NULL: a notification, not answered */
	uint64_t deadline;     /* 0: none */
	uint64_t patience;     /* progress of what it waits for puts the deadline off by this */
	struct guest *guest;   /* waits for it */
};
/* Both end the request. `result` and `data` are taken. */
void request_reply(struct request *req, json_t *result);
/* With a descriptor (SCM_RIGHTS, with the line's first byte), which stays the caller's; -1: none. */
void request_reply_fd(struct request *req, json_t *result, int fd);
__attribute__((format(printf, 4, 5))) void request_error(struct request *req, int code,
							 json_t *data, const char *fmt, ...);

/* methods.c: runs a method; it answers now or later. */
void method_call(struct request *req, const char *name, json_t *params);
/* Called when a waiting request's deadline passes. */
void method_timeout(struct request *req);
json_t *status_json(struct daemon *d);
json_t *vm_json(struct guest *g);
json_t *vm_error_data(int err, const struct guest *g);
json_t *module_json(struct daemon *d);
/* object[name] = value; a name that is taken (a client that is leaving) gets "#2" and so on. */
void object_add(json_t *object, const char *name, json_t *value);
json_t *strings_json(uint64_t bits, const char *const names[], unsigned int count);

/* ---- capture.c ---- */

void capture_method(struct request *req, json_t *params);
void capture_stats_method(struct request *req, json_t *params);
void capture_client_gone(struct daemon *d, struct client *client);
/* `who` is the user of a region of local clients. */
bool capture_owns(struct daemon *d, const void *who);
void capture_region_ready(void *who);
void capture_region_gone(void *who);
void capture_local_gone(struct daemon *d);
/* See local_export_all(). */
int capture_export_all(struct daemon *d);
void capture_ctx_gone(struct daemon *d);
void captures_close(struct daemon *d);

/* stats.c, doctor.c */
json_t *stats_json(struct daemon *d, const char *port);
void epoch_begin(struct epoch *epoch, uint32_t generation);
json_t *epoch_json(const struct epoch *epoch);
json_t *doctor_json(struct daemon *d);

#endif
