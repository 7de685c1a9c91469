/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which of DPDK's software drivers work inside the trusted context? Each is started and checked as
 * the daemon does it, with the tests' model in the place of the module.
 *
 *	test-nic-drivers LIBVSWITCH-NIC.so		a test
 *	test-nic-drivers LIBVSWITCH-NIC.so DEVICE...	says all that was found for these; with a
 *							PCI address among them in hugepages;
 *							DEVICE+DEVICE is a bond of two, and after
 *							"leave-out" exports are left out in turn
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../vswitch/daemon/nic-check.h"
#include "model.h"

#define SKIP 77

static const struct nic_lib *lib;
static struct elisa_host *host;
static struct elisa_ctx *ctx;
static unsigned int failures, ran;

static void fail(const char *who, const char *what)
{
	printf("not ok: %s: %s\n", who, what);
	failures++;
}

static int64_t entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		     uint64_t a3)
{
	return 0;
}

static void on_memory(const struct nic_memory *m, bool there, void *arg)
{
	int rc = there ? elisa_export(ctx, m->addr, m->len, ELISA_R | ELISA_W)
		       : elisa_unexport(ctx, m->addr, m->len);

	if (rc)
		fail("DPDK's heap", strerror(-rc));
}

/* As the daemon does it. */
static int set_up(const char *path, bool huge)
{
	const struct nic_env env = {.memory_mib = huge ? 32 : 128, .huge = huge};
	char why[NIC_WHY_LEN];
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	int rc;

	lib = handle ? dlsym(handle, "vs_nic_lib") : NULL;
	if (!lib) {
		fprintf(stderr, "%s\n", dlerror());
		return -ENOENT;
	}
	rc = lib->open(&env, why);
	if (rc) {
		fprintf(stderr, "%s\n", why);
		return rc;
	}
	model_reset();
	rc = elisa_host_open_with(&model_ops, &host);
	if (!rc)
		rc = elisa_ctx_create(host, entry, &ctx);
	if (!rc)
		rc = elisa_export_tls(ctx);
	if (!rc)
		rc = elisa_ctx_thread(ctx, lib->thread_begin, lib->thread_end, NULL);
	if (!rc)
		rc = lib->memory(on_memory, NULL);
	if (rc)
		fprintf(stderr, "no trusted context: %s\n", strerror(-rc));
	return rc;
}

static struct nic *start(const char *device, char why[NIC_WHY_LEN])
{
	struct nic_config config = {
		.devices = 1,
		.queues = 1,
		.mtu = 1500,
		.promiscuous = true,
		.offloads = true,
	};
	char first[256], *second;
	struct nic *nic;

	snprintf(first, sizeof(first), "%s", device);
	second = strchr(first, '+');
	if (second) {
		*second++ = '\0';
		config.device[1] = second;
		config.devices = 2;
	}
	config.device[0] = first;
	snprintf(config.name, sizeof(config.name), "%.*s", (int)strcspn(device, ",+"), device);
	if (lib->add(&config, &nic, why))
		return NULL;
	if (lib->start(nic, why)) {
		lib->remove(nic);
		return NULL;
	}
	return nic;
}

static int check(struct nic *nic, struct nic_verdict *v)
{
	int rc = nic_export(ctx, lib, nic, v->why);

	if (!rc)
		rc = nic_check(ctx, lib, nic, 1, v);
	/* What the copy did to its rings is real. */
	lib->stop(nic);
	return rc;
}

/* ---- negative control: each export that is left out is found ---- */

struct ranges {
	struct elisa_exported all[64];
	unsigned int count;
};

static int list(const struct elisa_exported *e, void *arg)
{
	struct ranges *r = arg;

	if (r->count == ARRAY_SIZE(r->all))
		return -E2BIG;
	r->all[r->count++] = *e;
	return 0;
}

static void note(const struct elisa_finding *f, void *arg)
{
	char *first = arg;

	if (!first[0])
		snprintf(first, NIC_WHY_LEN, "%s", f->text);
}

static void leave_out(struct nic *nic, const struct elisa_exported *e)
{
	char what[256], why[NIC_WHY_LEN] = "";
	struct elisa_check_result result;
	struct elisa_check c = {
		.fn = (void (*)(void))lib->exercise,
		.args = {(uintptr_t)nic},
		.ctx = ctx,
		.found = note,
		.arg = why,
	};
	int rc;

	if (!address_name(e->addr, what, sizeof(what)))
		snprintf(what, sizeof(what), "%zu bytes at %#zx", (size_t)e->len, (size_t)e->addr);
	if (lib->start(nic, why)) {
		fail(what, why);
		return;
	}
	elisa_unexport(ctx, (void *)e->addr, e->len);
	rc = elisa_check(&c, &result);
	printf("  without %s (%s): %s\n", what,
	       e->prot & ELISA_X   ? "code"
	       : e->prot & ELISA_W ? "data"
				   : "read-only",
	       rc > 0 ? why : "nothing is missing");
	/* Not all constants are used. */
	if (rc < 0 || (!rc && e->prot & (ELISA_X | ELISA_W)))
		fail(what, rc < 0 ? strerror(-rc) : "left out, and not missed");
	rc = elisa_export(ctx, (void *)e->addr, e->len, e->prot);
	if (rc)
		fail(what, "cannot be exported again");
}

static void leave_out_each(struct nic *nic)
{
	struct ranges r = {.count = 0};

	elisa_ctx_exports(ctx, list, &r);
	for (unsigned int i = 0; i < r.count; i++)
		/* Of the loader there are copies, whose original nobody reads. */
		if (r.all[i].memory == r.all[i].addr)
			leave_out(nic, &r.all[i]);
}

/* ---- the drivers ---- */

static const struct driver {
	const char *device;
	bool inside;
	bool leave_out;	     /* uses all that is exported */
	const char *because; /* part of the reason */
} drivers[] = {
	{"net_null0", true, true, NULL},
	{"net_ring0", true, false, NULL},
	{"net_null1+net_null2", true, false, NULL},
	{"net_tap0,iface=elisachk0", false, false, "the driver net_tap cannot run inside"},
	{"net_af_packet0,iface=lo", false, false, "makes system call 44 (sendto)"},
	{"net_pcap0,iface=lo", false, false, "makes system call"},
};

static void test_driver(const struct driver *d)
{
	char why[NIC_WHY_LEN] = "";
	struct nic *nic = start(d->device, why);
	struct nic_verdict v = {.why = ""};
	int rc;

	if (!nic) {
		printf("# skipped %s: %s\n", d->device, why);
		return;
	}
	ran++;
	rc = check(nic, &v);
	printf("%s: %s (%u findings, %llu sent, %llu received, longest call %llu instructions, "
	       "stack %u)\n",
	       d->device, rc ? v.why : "inside", v.findings, (unsigned long long)v.sent,
	       (unsigned long long)v.received, (unsigned long long)v.longest, v.stack);
	if (rc < 0 || (rc == 0) != d->inside)
		fail(d->device, v.text);
	else if (d->because && !strstr(v.why, d->because))
		fail(d->device, v.why);
	if (d->leave_out && !rc)
		leave_out_each(nic);
	lib->remove(nic);
}

static void show(const char *device, bool without)
{
	char why[NIC_WHY_LEN] = "";
	struct nic *nic = start(device, why);
	struct nic_verdict v = {.why = ""};
	struct timespec a, b;
	int rc;

	if (!nic) {
		printf("%s: %s\n", device, why);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &a);
	rc = check(nic, &v);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%s: %s %s\n%s%llu sent, %llu received, longest call %llu instructions, stack %u "
	       "bytes, %.1f s\n",
	       device, rc ? "not inside:" : "inside", v.why, v.text, (unsigned long long)v.sent,
	       (unsigned long long)v.received, (unsigned long long)v.longest, v.stack,
	       (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
	if (without)
		leave_out_each(nic);
	lib->remove(nic);
}

int main(int argc, char **argv)
{
	bool huge = false;

	if (argc < 2) {
		fprintf(stderr, "usage: test-nic-drivers LIBVSWITCH-NIC.so [DEVICE...]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (geteuid()) {
		printf("skipped: devices are made by root\n");
		return SKIP;
	}
	for (int i = 2; i < argc; i++)
		huge |= strchr(argv[i], ':') && strncmp(argv[i], "net_", 4);
	if (set_up(argv[1], huge))
		return 1;
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "leave-out"))
			show(argv[i], !strcmp(argv[i - 1], "leave-out"));
	for (size_t i = 0; argc == 2 && i < ARRAY_SIZE(drivers); i++)
		test_driver(&drivers[i]);
	elisa_ctx_destroy(ctx);
	elisa_host_close(host);
	lib->close();
	if (argc == 2 && !ran)
		return SKIP;
	return failures ? 1 : 0;
}
