/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * "serve: guest": may guests run this NIC? What its driver touches is exported to the trusted
 * context, then the checker says whether that is all. If not the NIC is served by the daemon. Asked
 * once; what is exported may change with each start of the device.
 */
#include "nic-check.h"
#include "nic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Returns findings, or -errno. */
static int check(struct nic_port *n, struct nic_verdict *v)
{
	struct nics *all = n->all;
	uint64_t since = now_us();
	int ret = nic_check(all->ctx, all->lib, n->dev, n->port->set.vs.queues, v);

	nic_say(n, SD_INFO, "checked",
		"NIC %s: checked in %llu ms: %u findings, longest call %llu instructions, %u bytes "
		"of stack%s%s",
		n->set->port.vs.name, (unsigned long long)(now_us() - since) / 1000, v->findings,
		(unsigned long long)v->longest, v->stack, ret < 0 ? "; " : "",
		ret < 0 ? v->why : "");
	pthread_mutex_lock(&n->lock);
	n->view.verdict = *v;
	n->view.checked = true;
	pthread_mutex_unlock(&n->lock);
	return ret;
}

/* With ctx_lock, so that the context does not end meanwhile. *restart: the device has run. */
static enum nic_grant decide(struct nic_port *n, char why[NIC_WHY_LEN], bool *restart)
{
	struct nics *all = n->all;
	struct nic_verdict v;
	int ret;

	n->wants_link = false;
	if (!all->ctx)
		return GRANT_OPEN;
	if (all->ctx_note[0]) {
		snprintf(why, NIC_WHY_LEN, "%s", all->ctx_note);
		return GRANT_REFUSED;
	}
	if (nic_export(all->ctx, all->lib, n->dev, why))
		return GRANT_REFUSED;
	if (n->view.grant == GRANT_GIVEN)
		return GRANT_GIVEN;
	ret = check(n, &v);
	n->wants_link = ret == -ENETDOWN; /* without one nothing is to be seen */
	*restart = !n->wants_link;
	if (!ret)
		return GRANT_GIVEN;
	snprintf(why, NIC_WHY_LEN, "%s", v.why);
	return n->wants_link ? GRANT_OPEN : GRANT_REFUSED;
}

bool nic_decide(struct nic_port *n)
{
	char why[NIC_WHY_LEN] = "";
	bool restart = false, guests = n->set->serve == VS_NIC_BY_GUESTS;
	enum nic_grant grant = n->view.grant; /* nobody else changes it */

	if (guests && grant != GRANT_REFUSED) {
		pthread_mutex_lock(&n->all->ctx_lock);
		grant = decide(n, why, &restart);
		pthread_mutex_unlock(&n->all->ctx_lock);
		if (grant == GRANT_REFUSED)
			nic_say(n, SD_WARNING, "refused",
				"NIC %s: \"serve: guest\" is refused, the daemon serves it "
				"instead: %s",
				n->set->port.vs.name, why);
	}
	pthread_mutex_lock(&n->lock);
	n->again = false;
	n->view.grant = grant;
	n->view.served = grant == GRANT_GIVEN ? VS_NIC_BY_GUESTS : VS_NIC_BY_HOST;
	if (grant != GRANT_REFUSED || why[0])
		snprintf(n->view.fallback, sizeof(n->view.fallback), "%s", why);
	pthread_mutex_unlock(&n->lock);
	vs_nic_set_serve(n->all->daemon->vs, n->port->id, n->view.served);
	return restart;
}
