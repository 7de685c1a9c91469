/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * "serve: guest": may guests run this NIC? What its driver touches is exported to the trusted
 * context, then the checker says whether that is all. If not the NIC is served by the daemon.
 */
#include "nic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PARTS_MAX 64

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
	case NIC_DATA_W:
		return elisa_export_object_as(ctx, e->addr, ELISA_OBJECT_DATA_W);
	case NIC_RANGE_R:
		return elisa_export(ctx, e->addr, e->len, ELISA_R);
	case NIC_RANGE_W:
		return elisa_export(ctx, e->addr, e->len, ELISA_R | ELISA_W);
	case NIC_DEVICE:
		return elisa_export(ctx, e->addr, e->len, ELISA_R | ELISA_W | ELISA_DEVICE);
	}
	return -EINVAL;
}

/* With heap_lock, so that the context does not end meanwhile. */
static int export_all(struct nics *all, const struct parts *p, char why[NIC_WHY_LEN])
{
	int ret;

	if (all->ctx_note[0]) {
		snprintf(why, NIC_WHY_LEN, "%s", all->ctx_note);
		return -ENOTSUP;
	}
	for (unsigned int i = 0; i < p->count; i++) {
		ret = export_part(all->ctx, &p->part[i]);
		if (ret >= 0 || ret == -EEXIST) /* of another NIC too, or of an earlier start */
			continue;
		snprintf(why, NIC_WHY_LEN, "%s cannot be exported: %s", p->part[i].name,
			 strerror(-ret));
		return ret;
	}
	return 0;
}

/* Returns GRANT_OPEN if there is no context yet. */
static enum nic_grant decide(struct nic_port *n, char why[NIC_WHY_LEN])
{
	enum nic_grant grant = GRANT_OPEN;
	struct parts parts = {.count = 0};
	int ret = n->all->lib->exports(n->dev, collect, &parts);

	if (ret) {
		snprintf(why, NIC_WHY_LEN, "what its driver touches is not known: %s",
			 strerror(-ret));
		return GRANT_REFUSED;
	}
	pthread_mutex_lock(&n->all->heap_lock);
	if (n->all->ctx)
		grant = export_all(n->all, &parts, why) ? GRANT_REFUSED : GRANT_GIVEN;
	pthread_mutex_unlock(&n->all->heap_lock);
	return grant;
}

void nic_decide(struct nic_port *n)
{
	char why[NIC_WHY_LEN] = "";
	enum vs_nic_serve serve = VS_NIC_BY_HOST;
	enum nic_grant grant = GRANT_OPEN;

	if (n->set->serve == VS_NIC_BY_GUESTS)
		grant = decide(n, why);
	if (grant == GRANT_GIVEN)
		serve = VS_NIC_BY_GUESTS;
	if (grant == GRANT_REFUSED && strcmp(why, n->view.fallback))
		log_warning("NIC %s: \"serve: guest\" is refused, the daemon serves it instead: %s",
			    n->set->port.vs.name, why);
	vs_nic_set_serve(n->all->daemon->vs, n->port->id, serve);
	pthread_mutex_lock(&n->lock);
	n->again = false;
	n->view.grant = grant;
	n->view.served = serve;
	snprintf(n->view.fallback, sizeof(n->view.fallback), "%s", why);
	pthread_mutex_unlock(&n->lock);
}
