/* SPDX-License-Identifier: BSD-3-Clause */
#include "nic-check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PARTS_MAX  64
#define STEPS_MAX  200000
#define SAMPLES	   64
#define CALL_MAX   100000 /* of which most are checksums of a whole burst */
#define TIME_MS	   10000
#define LINK_MS	   50
#define LINK_TRIES 100

/* ---- exports ---- */

struct parts {
	unsigned int count;
	struct nic_export part[PARTS_MAX];
};

/* They are collected first: the library may hold locks of DPDK meanwhile. */
static int collect(const struct nic_export *e, void *arg)
{
	struct parts *p = arg;

	if (p->count == PARTS_MAX)
		return -E2BIG;
	p->part[p->count++] = *e;
	return 0;
}

static int export_part(struct elisa_ctx *ctx, const struct nic_export *e)
{
	switch (e->part) {
	case NIC_TEXT:
		return elisa_export_object_as(ctx, e->addr, ELISA_OBJECT_TEXT);
	case NIC_CONST:
		return elisa_export_object_as(ctx, e->addr, ELISA_OBJECT_CONST);
	case NIC_DATA_R:
		return elisa_export_object_as(ctx, e->addr, ELISA_OBJECT_DATA_R);
	case NIC_DEVICE:
		return elisa_export(ctx, e->addr, e->len, ELISA_R | ELISA_W | ELISA_DEVICE);
	}
	return -EINVAL;
}

int nic_export(struct elisa_ctx *ctx, const struct nic_lib *lib, struct nic *dev,
	       char why[NIC_WHY_LEN])
{
	struct parts p = {.count = 0};
	int ret = lib->exports(dev, collect, &p);

	if (ret) {
		snprintf(why, NIC_WHY_LEN, "what its driver touches is not known: %s",
			 strerror(-ret));
		return ret;
	}
	for (unsigned int i = 0; i < p.count; i++) {
		ret = export_part(ctx, &p.part[i]);
		if (ret >= 0 || ret == -EEXIST) /* of another NIC too, or of an earlier start */
			continue;
		snprintf(why, NIC_WHY_LEN, "%s cannot be exported: %s", p.part[i].name,
			 strerror(-ret));
		return ret;
	}
	return 0;
}

/* ---- the check ---- */

/* What cannot be helped comes first, then what only an export is missing for. */
static unsigned int gravity(enum elisa_found kind)
{
	switch (kind) {
	case ELISA_FOUND_SYSCALL:
		return 5;
	case ELISA_FOUND_INSTRUCTION:
		return 4;
	case ELISA_FOUND_STACK:
	case ELISA_FOUND_ENDLESS:
		return 3;
	case ELISA_FOUND_CRASH:
		return 2;
	default:
		return 1;
	}
}

struct listener {
	struct nic_verdict *v;
	unsigned int gravest;
	char gravest_text[400];
	size_t len;
};

static void found(const struct elisa_finding *f, void *arg)
{
	struct listener *l = arg;
	struct nic_verdict *v = l->v;
	size_t room = sizeof(v->text) - l->len;
	int n = snprintf(v->text + l->len, room, "%s: %s\n", elisa_found_name(f->kind), f->text);

	if (n > 0 && (size_t)n < room)
		l->len += (size_t)n;
	else
		v->text[l->len] = '\0';
	v->findings++;
	if (gravity(f->kind) > l->gravest) {
		l->gravest = gravity(f->kind);
		snprintf(l->gravest_text, sizeof(l->gravest_text), "%s", f->text);
	}
}

static void conclude(const struct nic_lib *lib, struct nic *dev, struct listener *l)
{
	struct nic_verdict *v = l->v;
	struct nic_info info = {.driver = ""};
	char more[32] = "";

	if (!v->findings)
		return;
	lib->info(dev, &info);
	if (v->findings > 1)
		snprintf(more, sizeof(more), "; and %u more", v->findings - 1);
	snprintf(v->why, sizeof(v->why), "the driver %s cannot run inside: %s%s", info.driver,
		 l->gravest_text, more);
}

/* A link may take a while to come up, and without one there is nothing to see. */
static int wait_link(const struct nic_lib *lib, struct nic *dev)
{
	const struct timespec pause = {.tv_nsec = LINK_MS * 1000000L};
	struct nic_link link;

	for (unsigned int i = 0; i < LINK_TRIES; i++) {
		if (!lib->link(dev, &link) && link.up)
			return 0;
		nanosleep(&pause, NULL);
	}
	return -ENETDOWN;
}

static int check_queue(struct elisa_ctx *ctx, const struct nic_lib *lib, struct nic *dev,
		       unsigned int queue, struct listener *l)
{
	const void *calls[] = {
		(const void *)lib->ops->rx,
		(const void *)lib->ops->rx_done,
		(const void *)lib->ops->tx,
	};
	struct elisa_check_result result;
	struct elisa_check check = {
		.fn = (void (*)(void))lib->exercise,
		.args = {(uintptr_t)dev, queue},
		.ctx = ctx,
		.calls = calls,
		.call_count = sizeof(calls) / sizeof(calls[0]),
		/* The code is the same for each. */
		.flags = queue ? 0 : ELISA_CHECK_STEP,
		.samples = SAMPLES,
		.max_steps = STEPS_MAX,
		.max_call = CALL_MAX,
		.max_ms = TIME_MS,
		.found = found,
		.arg = l,
	};
	int ret = elisa_check(&check, &result);

	if (!queue) {
		l->v->longest = result.longest;
		l->v->stack = result.stack;
	}
	return ret;
}

int nic_check(struct elisa_ctx *ctx, const struct nic_lib *lib, struct nic *dev,
	      unsigned int queues, struct nic_verdict *v)
{
	struct listener l = {.v = v};
	struct nic_stats before = {.tx_frames = 0}, after = {.tx_frames = 0};
	int ret;

	*v = (struct nic_verdict){.findings = 0};
	ret = wait_link(lib, dev);
	lib->stats(dev, &before);
	for (unsigned int q = 0; q < queues && !ret; q++)
		ret = check_queue(ctx, lib, dev, q, &l);
	lib->stats(dev, &after);
	v->sent = after.tx_frames - before.tx_frames;
	v->received = after.rx_frames - before.rx_frames;
	if (ret >= 0 && !v->findings && !v->sent)
		ret = -ENODATA;
	if (ret < 0)
		snprintf(v->why, sizeof(v->why), "its driver was not checked: %s",
			 ret == -ENETDOWN  ? "the link is down"
			 : ret == -ENODATA ? "the device took no frame"
					   : strerror(-ret));
	else
		conclude(lib, dev, &l);
	return ret < 0 ? ret : (int)v->findings;
}
