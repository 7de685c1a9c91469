/* SPDX-License-Identifier: BSD-3-Clause */
/* What VMs and local clients have in common. */
#include "daemon.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct guest *guest_new(struct daemon *d, const char *name, bool local)
{
	struct guest *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->daemon = d;
	g->local = local;
	g->id = -1;
	snprintf(g->name, sizeof(g->name), "%s", name);
	TAILQ_INIT(&g->detach_requests);
	TAILQ_INSERT_TAIL(&d->guests, g, link);
	return g;
}

void guest_free(struct guest *g)
{
	TAILQ_REMOVE(&g->daemon->guests, g, link);
	ports_changed(g->daemon);
	for (size_t i = 0; i < g->lend_count; i++)
		free(g->lend[i]);
	free(g->lend);
	free(g->callers);
	free(g);
}

struct guest *guest_find(struct daemon *d, const char *name)
{
	struct guest *g;

	TAILQ_FOREACH(g, &d->guests, link)
	if (!g->local && !strcmp(g->name, name))
		return g;
	TAILQ_FOREACH(g, &d->guests, link)
	if (g->local && !strcmp(g->name, name))
		return g;
	return NULL;
}

struct guest *guest_by_id(struct daemon *d, int id)
{
	struct guest *g;

	TAILQ_FOREACH(g, &d->guests, link)
	if (id >= 0 && g->id == id)
		return g;
	return NULL;
}

const char *guest_state_name(const struct guest *g)
{
	switch (g->state) {
	case GUEST_WAITING:
		return "waiting";
	case GUEST_MAPPING:
	case GUEST_ATTACHING:
		return "attaching";
	case GUEST_ATTACHED:
		return "attached";
	case GUEST_DETACHED:
		return g->killed.kill ? "killed" : "detached";
	default:
		return "draining";
	}
}

const char *guest_transport(const struct guest *g)
{
	return g->local ? "local (no isolation)" : "vmfunc";
}

bool guest_active(const struct guest *g)
{
	return g->id >= 0;
}

void guest_note(struct guest *g, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(g->note, sizeof(g->note), fmt, ap);
	va_end(ap);
}

/* ---- callers ---- */

/* Grows to `count` callers. */
int guest_callers_add(struct guest *g, unsigned int count)
{
	struct caller *callers;
	int ret;

	if (count > g->caller_count) {
		callers = reallocarray(g->callers, count, sizeof(*callers));
		if (!callers)
			return -ENOMEM;
		memset(callers + g->caller_count, 0, (count - g->caller_count) * sizeof(*callers));
		g->callers = callers;
		g->caller_count = count;
	}
	for (unsigned int i = 0; i < count; i++) {
		if (g->callers[i].vs)
			continue;
		ret = vs_caller_add(g->daemon->vs, g->id, &g->callers[i].vs);
		if (ret) {
			g->callers[i].vs = NULL;
			return ret;
		}
	}
	nics_callers_come(g);
	return 0;
}

/* None of them is inside or will enter again. */
void guest_callers_del(struct guest *g)
{
	for (unsigned int i = 0; i < g->caller_count; i++)
		if (g->callers[i].vs)
			vs_caller_del(g->daemon->vs, g->callers[i].vs);
	free(g->callers);
	g->callers = NULL;
	g->caller_count = 0;
	nics_callers_gone(g);
}

/* ---- ports ---- */

int guest_port_bind(struct guest *g, struct port *port, char why[WHY_LEN])
{
	int ret;

	if (port->guest || port->deleting) {
		snprintf(why, WHY_LEN, "port \"%s\" is %s%s", port->set.vs.name,
			 port->deleting ? "being deleted" : "used by ",
			 port->deleting ? "" : port->guest->name);
		return -EBUSY;
	}
	if (port->nic) {
		snprintf(why, WHY_LEN, "port \"%s\" is a NIC", port->set.vs.name);
		return -EINVAL;
	}
	if (port->set.local != g->local) {
		snprintf(why, WHY_LEN, "port \"%s\" is for %s", port->set.vs.name,
			 port->set.local ? "local clients (no isolation), not for VMs"
					 : "VMs, not for local clients");
		return -EINVAL;
	}
	ret = vs_port_bind(g->daemon->vs, port->id, g->id);
	if (ret) {
		snprintf(why, WHY_LEN, "port \"%s\" was not bound: %s", port->set.vs.name,
			 ret == -ENOSPC ? "the VM has the most ports possible" : strerror(-ret));
		return ret;
	}
	port->guest = g;
	return 0;
}

unsigned int guest_ports_bind(struct guest *g)
{
	unsigned int count = 0;
	char why[WHY_LEN];
	struct port *port;

	TAILQ_FOREACH(port, &g->daemon->ports, link)
	{
		if (port->guest == g) {
			count++;
			continue;
		}
		if (port->set.local || strcmp(port->set.vm, g->name))
			continue;
		if (guest_port_bind(g, port, why))
			log_warning("VM %s: %s", g->name, why);
		else
			count++;
	}
	ports_changed(g->daemon);
	return count;
}

void guest_ports_unbind(struct guest *g)
{
	struct port *port;
	int ret;

	TAILQ_FOREACH(port, &g->daemon->ports, link)
	{
		if (port->guest != g)
			continue;
		ret = vs_port_unbind(g->daemon->vs, port->id);
		if (ret)
			log_error("port %s: not unbound: %s", port->set.vs.name, strerror(-ret));
		port->guest = NULL;
	}
	ports_changed(g->daemon);
}

void guest_holders(struct guest *g, char *text, size_t len)
{
	int ids[8];
	int n = vs_grace_holders(g->daemon->vs, g->ticket, ids, 8);
	size_t used = 0;

	text[0] = '\0';
	for (int i = 0; i < n && i < 8 && used < len; i++) {
		struct guest *h = guest_by_id(g->daemon, ids[i]);

		used += (size_t)snprintf(text + used, len - used, "%s%s", i ? ", " : "",
					 h ? h->name : "?");
	}
}
