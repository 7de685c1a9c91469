/* SPDX-License-Identifier: BSD-3-Clause */
/* DPDK's environment: memory, log, threads. Devices come later, by hot-plug. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <rte_eal.h>
#include <rte_eal_memconfig.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_memory.h>
#include "internal.h"

#define HEAP_AT	 "0x330000000000" /* far from what loaders and malloc use */
#define ARGS_MAX 32
#define EVENTS	 "vswitch-nic"
/* DPDK's folder is $RUNTIME_DIRECTORY/dpdk/PREFIX. */
#define NIC_PREFIX "elisa"

int nic_why(char *why, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, NIC_WHY_LEN, format, args);
	va_end(args);
	return error;
}

struct args {
	int count;
	char *arg[ARGS_MAX + 1];
	char text[ARGS_MAX][128];
};

static void __attribute__((format(printf, 2, 3))) add(struct args *a, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(a->text[a->count], sizeof(a->text[0]), format, list);
	va_end(list);
	a->arg[a->count] = a->text[a->count];
	a->arg[++a->count] = NULL;
}

static int first_cpu(const cpu_set_t *set)
{
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, set))
			return i;
	return 0;
}

static void arguments(struct args *a, const struct nic_env *env, const cpu_set_t *cpus)
{
	add(a, "vswitch-nic");
	add(a, env->telemetry ? "--telemetry" : "--no-telemetry");
	add(a, "--base-virtaddr=" HEAP_AT);
	/* A guest may have no AVX-512 where the host's CPU has: drivers ask the CPU. */
	add(a, "--force-max-simd-bitwidth=256");
	add(a, "--log-level=%s", env->verbose ? "info" : "warning");
	add(a, "--lcores=0@%d", first_cpu(cpus));
	if (env->node_mib[0]) {
		add(a, "--socket-mem=%s", env->node_mib);
	} else {
		add(a, "-m");
		add(a, "%u", env->memory_mib);
	}
	/* No such device: nothing is probed but what is plugged later. */
	add(a, "-a");
	add(a, "ffff:ff:1f.7");
	/* Memory goes as it came: whoever follows it keeps it in those pieces. */
	if (env->huge)
		add(a, "--match-allocations");
	if (!env->huge) {
		add(a, "--no-shconf");
		add(a, "--no-huge");
		add(a, "--iova-mode=va");
	} else if (env->huge_dir) {
		add(a, "--no-shconf");
		add(a, "--huge-unlink=always");
		add(a, "--file-prefix=" NIC_PREFIX "-%d", (int)getpid());
		add(a, "--huge-dir=%s", env->huge_dir);
	} else {
		add(a, "--in-memory");
		add(a, "--single-file-segments");
	}
	/* Names of hugepages' files must differ; all else is in our own folder. */
	if (!env->huge_dir)
		add(a, "--file-prefix=" NIC_PREFIX);
	if (env->drivers) {
		add(a, "-d");
		add(a, "%s", env->drivers);
	}
}

int nic_open(const struct nic_env *env, char why[NIC_WHY_LEN])
{
	struct args a = {.count = 0};
	cpu_set_t cpus;
	int error;

	if ((env->huge_dir && strlen(env->huge_dir) > 100) ||
	    (env->drivers && strlen(env->drivers) > 100))
		return nic_why(why, -ENAMETOOLONG,
			       "the path of hugepages or drivers is too long: "
			       "use one of at most 100 characters");
	error = pthread_getaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	if (error)
		return nic_why(why, -error, "cannot get CPU affinity: %s", strerror(error));
	arguments(&a, env, &cpus);
	if (env->run_dir && setenv("RUNTIME_DIRECTORY", env->run_dir, 1))
		return nic_why(why, -ENOMEM, "no memory");
	rte_openlog_stream(stderr);
	/* It pins this thread to its first lcore. */
	error = rte_eal_init(a.count, a.arg) < 0 ? rte_errno : 0;
	pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	if (error)
		return nic_why(why, -error,
			       "DPDK did not start with %u MiB of %s: %s%s; its messages before this "
			       "one say more",
			       env->memory_mib, env->huge ? "hugepages" : "memory", rte_strerror(error),
			       !env->huge ? "" : ": make more of them (sysctl vm.nr_hugepages), or "
						 "lower dpdk.memory");
	if (!env->huge)
		return 0;
	if (rte_eal_iova_mode() == RTE_IOVA_PA && !rte_eal_using_phys_addrs()) {
		rte_eal_cleanup();
		return nic_why(why, -EPERM, "DPDK cannot see physical addresses: run as root");
	}
	return 0;
}

void nic_close(void)
{
	rte_mem_event_callback_unregister(EVENTS, NULL);
	rte_eal_cleanup();
}

/* ---- heap ---- */

static struct {
	void (*cb)(const struct nic_memory *m, bool there, void *arg);
	void *arg;
	struct nic_memory range; /* pages so far that follow each other */
} listener;

static void tell(bool there)
{
	if (listener.range.len)
		listener.cb(&listener.range, there, listener.arg);
	listener.range.len = 0;
}

/* Under DPDK's lock of its memory. */
static void add_page(const struct rte_memseg *page, bool there)
{
	struct nic_memory *r = &listener.range;
	int fd = rte_memseg_get_fd_thread_unsafe(page);
	size_t offset = 0;

	if (fd < 0 || rte_memseg_get_fd_offset_thread_unsafe(page, &offset))
		fd = -1;
	if (r->len && (char *)r->addr + r->len == (char *)page->addr && r->fd == fd &&
	    (fd < 0 || r->offset + r->len == offset)) {
		r->len += page->len;
		return;
	}
	tell(there);
	*r = (struct nic_memory){page->addr, page->len, fd, offset};
}

static int on_page(const struct rte_memseg_list *list, const struct rte_memseg *page, void *arg)
{
	if (!list->external)
		add_page(page, true);
	return 0;
}

static void on_event(enum rte_mem_event type, const void *addr, size_t len, void *arg)
{
	bool there = type == RTE_MEM_EVENT_ALLOC;
	const char *at = addr, *end = at + len;

	while (at < end) {
		const struct rte_memseg *page = rte_mem_virt2memseg(at, NULL);

		if (!page)
			break;
		add_page(page, there);
		at += page->len;
	}
	tell(there);
}

int nic_memory(void (*cb)(const struct nic_memory *m, bool there, void *arg), void *arg)
{
	int error;

	listener.cb = cb;
	listener.arg = arg;
	/* No event comes between the two, or DPDK is asked by another thread: not allowed. */
	rte_mcfg_mem_read_lock();
	error = rte_memseg_walk_thread_unsafe(on_page, NULL);
	tell(true);
	rte_mcfg_mem_read_unlock();
	if (error)
		return -EIO;
	if (rte_mem_event_callback_register(EVENTS, on_event, NULL) && rte_errno != ENOTSUP)
		return -rte_errno;
	return 0;
}

static int on_list(const struct rte_memseg_list *list, void *arg)
{
	struct nic_memory *span = arg;
	char *first = list->base_va, *last = first + list->len;

	if (list->external)
		return 0;
	if (span->len) {
		char *begin = span->addr, *end = begin + span->len;

		first = first < begin ? first : begin;
		last = last > end ? last : end;
	}
	span->addr = first;
	span->len = (size_t)(last - first);
	return 0;
}

int nic_span(struct nic_memory *span)
{
	*span = (struct nic_memory){NULL, 0, -1, 0};
	return rte_memseg_list_walk(on_list, span) || !span->len ? -ENOENT : 0;
}

/* ---- threads ---- */

int nic_thread_begin(void *arg)
{
	/*
	 * An lcore id: none is left beyond RTE_MAX_LCORE threads. That is as good, since pools have
	 * no caches by lcore.
	 */
	if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() && rte_errno != ENOMEM)
		return -rte_errno;
	return 0;
}

void nic_thread_end(void *arg)
{
	if (rte_lcore_id() != LCORE_ID_ANY)
		rte_thread_unregister();
}
