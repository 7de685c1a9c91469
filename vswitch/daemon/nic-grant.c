/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * "serve: guest": may guests run this NIC? What its driver touches is exported to the trusted
 * context, then the checker says whether that is all. If not the NIC is served by the daemon.
 */
#include "nic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct export {
	struct elisa_ctx *ctx;
	char *why;
};

static int export_one(const struct nic_export *e, void *arg)
{
	struct export *x = arg;
	int ret = 0;

	switch (e->part) {
	case NIC_TEXT:
		ret = elisa_export_object_as(x->ctx, e->addr, ELISA_OBJECT_TEXT);
		break;
	case NIC_CONST:
		ret = elisa_export_object_as(x->ctx, e->addr, ELISA_OBJECT_CONST);
		break;
	case NIC_DATA_R:
		ret = elisa_export_object_as(x->ctx, e->addr, ELISA_OBJECT_DATA_R);
		break;
	case NIC_DATA_W:
		ret = elisa_export_object_as(x->ctx, e->addr, ELISA_OBJECT_DATA_W);
		break;
	case NIC_RANGE_R:
		ret = elisa_export(x->ctx, e->addr, e->len, ELISA_R);
		break;
	case NIC_RANGE_W:
		ret = elisa_export(x->ctx, e->addr, e->len, ELISA_R | ELISA_W);
		break;
	case NIC_DEVICE:
		ret = elisa_export(x->ctx, e->addr, e->len, ELISA_R | ELISA_W | ELISA_DEVICE);
		break;
	}
	if (ret >= 0 || ret == -EEXIST) /* shared with another NIC, or of an earlier start */
		return 0;
	snprintf(x->why, NIC_WHY_LEN, "%s cannot be exported: %s", e->name, strerror(-ret));
	return ret;
}

/* With heap_lock, so that the context does not end meanwhile. */
static int export_all(struct nic_port *n, char why[NIC_WHY_LEN])
{
	struct export x = {n->all->ctx, why};
	int ret;

	if (n->all->ctx_note[0]) {
		snprintf(why, NIC_WHY_LEN, "%s", n->all->ctx_note);
		return -ENOTSUP;
	}
	ret = n->all->lib->exports(n->dev, export_one, &x);
	if (ret && !why[0])
		snprintf(why, NIC_WHY_LEN, "what its driver needs is not known: %s",
			 strerror(-ret));
	return ret;
}

/* Returns GRANT_OPEN if there is no context yet. */
static enum nic_grant decide(struct nic_port *n, char why[NIC_WHY_LEN])
{
	enum nic_grant grant = GRANT_OPEN;

	pthread_mutex_lock(&n->all->heap_lock);
	if (n->all->ctx)
		grant = export_all(n, why) ? GRANT_REFUSED : GRANT_GIVEN;
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
