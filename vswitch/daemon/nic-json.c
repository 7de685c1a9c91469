/* SPDX-License-Identifier: BSD-3-Clause */
/* NICs as JSON, from what their threads wrote down last. */
#include "nic.h"

#include <string.h>

static const char *state_name(enum nic_state state)
{
	static const char *const names[] = {"starting", "up", "resetting", "failed", "stopped"};

	return names[state];
}

/* By whom it is really served. */
static const char *served_name(const struct nic_view *v)
{
	if (v->state != NIC_UP)
		return "nobody";
	return v->served == VS_NIC_BY_GUESTS ? "guests" : "daemon";
}

static json_t *count(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *half_json(struct nics *all, const struct vs_nic_half_status *half)
{
	json_t *json = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:b}", "calls_guest", (json_int_t)half->calls_guest,
		"calls_daemon", (json_int_t)half->calls_host, "frames_guest",
		(json_int_t)half->frames_guest, "frames_daemon", (json_int_t)half->frames_host,
		"busy", (json_int_t)half->busy, "dirty", (int)half->dirty);
	char name[VS_NAME_LEN];

	json_object_set_new(json, "owner", json_string(nic_owner(all, half->owner_guest, name)));
	return json;
}

static json_t *queues_json(struct nics *all, const struct vs_nic_status *st)
{
	json_t *list = json_array();

	for (unsigned int q = 0; q < st->queues; q++)
		json_array_append_new(list, json_pack("{s:i, s:o, s:o}", "queue", (int)q, "rx",
						      half_json(all, &st->queue[q].rx), "tx",
						      half_json(all, &st->queue[q].tx)));
	return list;
}

static json_t *ethdev_json(const struct nic_stats *s)
{
	json_t *json = json_object();

	json_object_set_new(json, "rx_frames", count(s->rx_frames));
	json_object_set_new(json, "rx_bytes", count(s->rx_bytes));
	json_object_set_new(json, "rx_missed", count(s->rx_missed));
	json_object_set_new(json, "rx_errors", count(s->rx_errors));
	json_object_set_new(json, "rx_no_mbuf", count(s->rx_no_mbuf));
	json_object_set_new(json, "tx_frames", count(s->tx_frames));
	json_object_set_new(json, "tx_bytes", count(s->tx_bytes));
	json_object_set_new(json, "tx_errors", count(s->tx_errors));
	json_object_set_new(json, "tx_full", count(s->tx_full));
	json_object_set_new(json, "starts", count(s->starts));
	return json;
}

static json_t *link_json(const struct nic_port *n, const struct nic_link *link)
{
	json_t *json = json_pack("{s:b, s:b, s:i, s:i}", "up", (int)link->up, "full_duplex",
				 (int)link->full_duplex, "speed_mbps", (int)link->speed_mbps,
				 "active", link->active);

	if (link->active >= 0 && (unsigned int)link->active < n->set->devices)
		json_object_set_new(json, "device", json_string(n->set->device[link->active]));
	return json;
}

static json_t *device_json(const struct nic_port *n, const struct nic_info *info)
{
	static const char *const features[] = {"csum", "tso4", "tso6"};
	json_t *json = json_pack("{s:s}", "driver", info->driver);
	json_t *devices = json_array();
	char mac[18];

	for (unsigned int i = 0; i < n->set->devices; i++)
		json_array_append_new(devices, json_string(n->set->device[i]));
	json_object_set_new(json, "devices", devices);
	format_mac(n->port->set.vs.mac, mac);
	json_object_set_new(json, "mac", json_string(mac));
	json_object_set_new(json, "mtu", json_integer(n->port->set.vs.mtu));
	json_object_set_new(json, "offloads", strings_json(info->features, features, 3));
	json_object_set_new(json, "rx_csum", json_boolean(info->rx_csum));
	return json;
}

static json_t *nic_json(struct nic_port *n)
{
	struct nic_view v;
	json_t *json;

	pthread_mutex_lock(&n->lock);
	v = n->view;
	pthread_mutex_unlock(&n->lock);
	json = device_json(n, &v.info);
	json_object_set_new(json, "name", json_string(n->set->port.vs.name));
	json_object_set_new(json, "serve",
			    json_string(n->set->serve == VS_NIC_BY_GUESTS ? "guest" : "daemon"));
	json_object_set_new(json, "served_by", json_string(served_name(&v)));
	if (v.fallback[0])
		json_object_set_new(json, "fallback", json_string(v.fallback));
	json_object_set_new(json, "state", json_string(state_name(v.state)));
	json_object_set_new(json, "note", json_string(v.note));
	json_object_set_new(json, "link", link_json(n, &v.link));
	json_object_set_new(json, "resets", count(v.resets));
	json_object_set_new(json, "last_reset_ms", json_real((double)v.last_reset_us / 1000));
	json_object_set_new(json, "lost_buffers", count(v.stats.lost_buffers));
	json_object_set_new(json, "filters", json_integer(v.filters));
	json_object_set_new(json, "promiscuous",
			    json_boolean(n->set->promiscuous || v.filters < (int)v.addresses));
	json_object_set_new(json, "queues", queues_json(n->all, &v.status));
	json_object_set_new(json, "ethdev", ethdev_json(&v.stats));
	return json;
}

json_t *nics_json(struct daemon *d, const char *only)
{
	json_t *json = json_object();

	for (unsigned int i = 0; d->nics && i < d->nics->count; i++) {
		struct nic_port *n = &d->nics->nic[i];

		if (n->port && (!only || !strcmp(n->set->port.vs.name, only)))
			json_object_set_new(json, n->set->port.vs.name, nic_json(n));
	}
	return json;
}

json_t *nic_check_json(struct nic_port *n)
{
	json_t *json = nic_json(n);
	struct nic_verdict v;
	bool checked;

	pthread_mutex_lock(&n->lock);
	checked = n->view.checked;
	v = n->view.verdict;
	pthread_mutex_unlock(&n->lock);
	json_object_set_new(json, "checked", json_boolean(checked));
	if (!checked)
		return json;
	json_object_set_new(json, "findings", json_integer(v.findings));
	json_object_set_new(json, "why", json_string(v.why));
	json_object_set_new(json, "text", json_string(v.text));
	json_object_set_new(json, "longest_call", count(v.longest));
	json_object_set_new(json, "stack", count(v.stack));
	json_object_set_new(json, "sent", count(v.sent));
	json_object_set_new(json, "received", count(v.received));
	return json;
}
