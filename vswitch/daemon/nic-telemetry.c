/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What DPDK's telemetry says of the switch. It asks from threads of DPDK's own, of which nobody knows
 * when they end: whoever asks waits until the event loop has written down `elisa stats`, and reads
 * only that.
 */
#include "nic.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S	 2
#define NAME_LEN 96

/* As DPDK itself: once a process, and to its end. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t made;
	struct nics *all;	/* NULL: nobody answers (any more) */
	uint64_t asked, served; /* numbers of requests */
	json_t *stats;		/* for all requests up to `served` */
} tel = {.lock = PTHREAD_MUTEX_INITIALIZER, .made = PTHREAD_COND_INITIALIZER};

/* Objects within are name_name; lists are left out. */
static void put_object(const json_t *object, const char *prefix, nic_put *put, void *to)
{
	char name[NAME_LEN];
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)object, key, value)
	{
		snprintf(name, sizeof(name), "%s%s", prefix, key);
		if (json_is_string(value))
			put(to, name, json_string_value(value), 0);
		else if (json_is_integer(value))
			put(to, name, NULL, (uint64_t)json_integer_value(value));
		else if (json_is_boolean(value))
			put(to, name, NULL, json_is_true(value));
		else if (json_is_object(value) && !*prefix) {
			strncat(name, "_", sizeof(name) - strlen(name) - 1);
			put_object(value, name, put, to);
		}
	}
}

static int put_what(enum nic_figures what, const char *port, nic_put *put, void *to)
{
	static const char *const parts[] = {"epoch", "fdb"};
	const json_t *ports = json_object_get(tel.stats, "ports");
	const json_t *one = port ? json_object_get(ports, port) : NULL;
	const char *name;
	json_t *value, *whole;

	switch (what) {
	case NIC_PORTS:
		json_object_foreach((json_t *)ports, name, value) put(to, name, NULL, 0);
		return 0;
	case NIC_PORT:
		if (one)
			put_object(one, "", put, to);
		return one ? 0 : -ENOENT;
	case NIC_SWITCH:
		break;
	}
	whole = json_pack("{s:I, s:I}", "ports", (json_int_t)json_object_size(ports), "vms",
			  (json_int_t)json_object_size(json_object_get(tel.stats, "vms")));
	json_object_foreach(tel.stats, name, value)
		if (!json_is_object(value))
			json_object_set(whole, name, value);
	for (unsigned int i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		json_object_set(whole, parts[i], json_object_get(tel.stats, parts[i]));
	put_object(whole, "", put, to);
	json_decref(whole);
	return 0;
}

static int figures(enum nic_figures what, const char *port, nic_put *put, void *to)
{
	struct timespec end;
	uint64_t number;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += WAIT_S;
	pthread_mutex_lock(&tel.lock);
	number = ++tel.asked;
	if (tel.all)
		nic_poke(tel.all->news);
	while (tel.all && tel.served < number && !ret)
		ret = pthread_cond_timedwait(&tel.made, &tel.lock, &end);
	if (!tel.all)
		ret = ESHUTDOWN;
	ret = ret ? -ret : put_what(what, port, put, to);
	pthread_mutex_unlock(&tel.lock);
	return ret;
}

void telemetry_serve(struct nics *all)
{
	json_t *stats = NULL, *former;
	uint64_t asked;

	pthread_mutex_lock(&tel.lock);
	asked = tel.all && tel.asked != tel.served ? tel.asked : 0;
	pthread_mutex_unlock(&tel.lock);
	if (!asked)
		return;
	stats = stats_json(all->daemon, NULL);
	pthread_mutex_lock(&tel.lock);
	former = tel.stats;
	tel.stats = stats;
	tel.served = asked;
	pthread_cond_broadcast(&tel.made);
	pthread_mutex_unlock(&tel.lock);
	json_decref(former);
}

/* For the group of the control socket. DPDK makes folders for the owner only, and listens already. */
static int share(const char *path, gid_t gid)
{
	char dpdk[108], prefix[108];

	if (gid == (gid_t)-1)
		return 0;
	snprintf(prefix, sizeof(prefix), "%s", path);
	dirname(prefix);
	snprintf(dpdk, sizeof(dpdk), "%s", prefix);
	dirname(dpdk);
	if (chmod(path, 0660) || chown(path, (uid_t)-1, gid) || chown(prefix, (uid_t)-1, gid) ||
	    chmod(prefix, 0750) || chown(dpdk, (uid_t)-1, gid) || chmod(dpdk, 0750))
		return -errno;
	return 0;
}

void telemetry_open(struct nics *all)
{
	const struct settings *set = &all->daemon->set;
	char why[NIC_WHY_LEN] = "";
	const char *path;
	int ret;

	if (!set->dpdk.telemetry)
		return;
	path = all->lib->telemetry(figures, why);
	if (!path) {
		log_error("DPDK's telemetry: %s", why);
		return;
	}
	pthread_mutex_lock(&tel.lock);
	tel.all = all;
	pthread_mutex_unlock(&tel.lock);
	ret = share(path, set->control_gid);
	if (ret)
		log_error("DPDK's telemetry: %s is not for control.group: %s", path,
			  strerror(-ret));
	log_info("DPDK's telemetry at %s", path);
}

void telemetry_close(void)
{
	pthread_mutex_lock(&tel.lock);
	tel.all = NULL;
	json_decref(tel.stats);
	tel.stats = NULL;
	pthread_cond_broadcast(&tel.made);
	pthread_mutex_unlock(&tel.lock);
}
