/* SPDX-License-Identifier: BSD-3-Clause */
/* What the administrator wants: the configuration file, and the same rules for the control socket.
 */
#ifndef VSWITCHD_CONFIG_H
#define VSWITCHD_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <vswitch/nic.h>
#include "../nic/nic.h"
#include "metrics.h"

#define CONFIG_DEFAULT_PATH    "/etc/elisa/vswitchd.conf"
#define CONFIG_DEFAULT_RUN_DIR "/run/elisa"
#define CONFIG_DEFAULT_STATE_DIR "/var/lib/elisa"

/* `vm` of a port that any local client may ask for by the port's own name. */
#define CONFIG_VM_LOCAL "local"

#define BELL_VECTORS_MAX 64 /* of one doorbell */
#define CAPTURES_MAX	 4  /* at a time */
#define WATCHDOG_PORTS 2 /* of its guest; see watchdog.c */

struct port_setting {
	struct vs_port_config vs; /* a burst of 0 is the usual one, see port_vs_config() */
	char vm[VS_NAME_LEN]; /* who gets it; "" nobody yet */
	bool local;	      /* for local clients (no isolation), not for VMs */
	char uplink[VS_NAME_LEN]; /* NIC whose link it shows; "" none */
	bool saved;	      /* it, or some of it, is from saved.json */
};

/* A NIC: a port without a VM. */
struct nic_setting {
	struct port_setting port;
	char *device[NIC_MEMBERS_MAX]; /* PCI address or vdev */
	unsigned int devices;
	enum vs_nic_serve serve;
	uint16_t rx_ring, tx_ring; /* 0: the driver's choice */
	bool promiscuous, offloads;
	uint32_t idle_us; /* longest sleep of the thread that serves it, while nothing comes */
};

struct dpdk_setting {
	uint32_t memory_mib; /* 0: enough for the NICs that are configured */
	bool huge, verbose, telemetry;
	char *huge_dir, *drivers; /* NULL: as DPDK does */
	char *library;
};

struct vm_setting {
	char name[VS_NAME_LEN];
	char *pid_file; /* NULL: look for a QEMU that was started with -name NAME */
	bool auto_attach;
	bool force_cpu;
	pid_t pid; /* 0: to be found */
	uint64_t pid_start;
};

struct fdb_setting {
	uint8_t mac[6];
	uint16_t vid; /* 0: of ports that know no VLANs */
	char port[VS_NAME_LEN];
};

struct mirror_setting {
	char port[VS_NAME_LEN], to[VS_NAME_LEN];
	uint8_t what; /* VS_MIRROR_* */
	uint16_t snap;
};

/* For the arena. */
enum huge_use {
	HUGE_NEVER,
	HUGE_AUTO,    /* if there are enough */
	HUGE_REQUIRE, /* or there is no switch */
	HUGE_USES
};
extern const char *const huge_uses[HUGE_USES];

struct settings {
	struct vs_config vs; /* generation is not set here; ports, guests, callers: with the daemon's own */
	uint32_t max_ports, max_vms, max_callers; /* the administrator's */
	enum huge_use hugepages;
	char *state_dir; /* for what is saved; the run directory, if that is another than usual */
	char *control_socket;
	char *control_group; /* NULL: none */
	gid_t control_gid;   /* (gid_t)-1: none */
	bool local_enable;
	char *local_socket;
	bool bell_enable;
	char *bell_socket;
	gid_t bell_gid; /* (gid_t)-1: none */
	uint32_t bell_vectors;
	bool force_cpu;
	struct port_setting *ports;
	size_t port_count;
	struct vm_setting *vms;
	size_t vm_count;
	struct fdb_setting *fdb;
	size_t fdb_count;
	struct mirror_setting *mirrors;
	size_t mirror_count;
	struct nic_setting *nics;
	size_t nic_count;
	struct dpdk_setting dpdk;
	struct metrics_setting metrics;
};

/* Where messages go, each a sentence on what is wrong, with which value, and what to do. */
struct sink {
	void (*line)(void *arg, const char *file, int line, const char *text); /* line 0: none */
	void *arg;
};

/*
 * Reads and checks `path`; says each error that it finds. Returns 0; -EINVAL; or what opening the
 * file came to, as -ENOENT, -EACCES. Free with settings_free() in each case.
 */
int settings_read(struct settings *s, const char *path, const char *run_dir,
		  const struct sink *sink);
/* saved.c: lays what is saved over what was read; settings_read() does that at its end. */
int saved_overlay(struct settings *s, const struct sink *sink);
/* All keys that there are, one a line, as "ports.mtu". */
void settings_keys(FILE *out);
void settings_free(struct settings *s);
const struct nic_setting *nic_setting_find(const struct settings *s, const char *name);

/* ---- rules shared with the control socket; each fills `why` with a sentence when it is not 0 ----
 */

#define WHY_LEN 256

int check_name(const char *what, const char *name, char why[WHY_LEN]);
int parse_mac(const char *text, uint8_t mac[6], char why[WHY_LEN]);
void format_mac(const uint8_t mac[6], char text[18]);
/* Stable and locally administered: the same name has the same address on every host and start. */
void derive_mac(const char *name, uint8_t mac[6]);
void port_setting_default(struct port_setting *port, const char *name);
int port_setting_mtu(struct port_setting *port, long long value, char why[WHY_LEN]);
int port_setting_queues(struct port_setting *port, long long value, char why[WHY_LEN]);
int port_setting_group(uint64_t *groups, long long value, char why[WHY_LEN]);
int port_setting_transport(struct port_setting *port, const char *value, char why[WHY_LEN]);
int port_setting_vm(struct port_setting *port, const char *value, char why[WHY_LEN]);

/* ---- rules-switch.c: values that come in groups, as JSON ---- */

struct wrong {
	const char *group; /* NULL: none */
	char key[40];	   /* its member; "" when it is the group itself */
	char why[WHY_LEN];
};
/* "GROUP.KEY: why" */
const char *wrong_text(const struct wrong *w, char text[WHY_LEN]);

/* Reads "vlan", "rate", "storm", "no_flood" or "mac_limit"; what is not in it stays. NULL: nothing
 * is. */
int port_group_read(struct port_setting *port, const char *name, json_t *value, struct wrong *w);
/* What only all of a port can tell; to be asked once all is read. */
int port_setting_whole(const struct port_setting *port, struct wrong *w);
/* Both of these for each of the groups that `params` has; and they all as members of `json`. */
int port_groups_read(struct port_setting *port, json_t *params, char why[WHY_LEN]);
void port_groups_write(const struct port_setting *port, json_t *json);
/* With bursts filled in. */
struct vs_port_config port_vs_config(const struct port_setting *port);

int mirror_setting_read(struct mirror_setting *m, json_t *group, struct wrong *w);
json_t *mirror_setting_json(const struct mirror_setting *m);
/* Beside those that there are. */
int mirror_fits(const struct mirror_setting *all, size_t count, const struct mirror_setting *m,
		struct wrong *w);

#endif
