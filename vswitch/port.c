/* SPDX-License-Identifier: BSD-3-Clause */
/* Ports: configuration, binding and counters. All of this is the control side. */
#include "mem.h"

static const char *const drop_names[] = {
#define DROP_NAME(id, name) name,
	ELISA_DROPS(DROP_NAME)
#undef DROP_NAME
};

const char *vs_drop_name(unsigned int drop)
{
	return drop < ELISA_DROP_COUNT ? drop_names[drop] : NULL;
}

struct vs_port *vs_port_get(const struct vswitch *vs, int port)
{
	if (port < 0 || (uint32_t)port >= vs->config.ports || !vs->ports[port].used)
		return NULL;
	return &vs->ports[port];
}

static bool name_equal(const char *a, const char *b)
{
	for (int i = 0; i < VS_NAME_LEN; i++) {
		if (a[i] != b[i])
			return false;
		if (!a[i])
			return true;
	}
	return true;
}

static bool name_valid(const char *name)
{
	int len = 0;

	for (; len < VS_NAME_LEN && name[len]; len++) {
		char c = name[len];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      c == '_' || c == '.' || c == '-'))
			return false;
	}
	return len && len < VS_NAME_LEN;
}

static bool config_valid(const struct vs_port_config *cfg)
{
	uint64_t key = vs_mac_key(cfg->mac);

	return name_valid(cfg->name) && key && !(key & VS_KEY_MULTICAST) && cfg->mtu >= 68 &&
	       cfg->mtu <= ELISA_MTU_MAX && cfg->queues >= 1 && cfg->queues <= ELISA_QUEUES_MAX &&
	       vs_vlan_valid(&cfg->vlan) && vs_rate_valid(cfg) &&
	       !(cfg->flood_off & ~(VS_FLOOD_BROADCAST | VS_FLOOD_MULTICAST | VS_FLOOD_UNKNOWN));
}

/* Of all ports: one may have become another's monitor, or is none any more. */
void vs_extras_update(struct vswitch *vs)
{
	uint64_t monitors[VS_PORTS_MAX / 64] = {0};

	for (uint32_t p = 0; p < vs->ports_high; p++) {
		for (unsigned int i = 0; i < VS_MIRRORS_MAX; i++) {
			const struct vs_port *to = vs_mirror_target(vs, vs->ports[p].mirror[i]);

			if (to)
				monitors[to->id / 64] |= 1ull << to->id % 64;
		}
	}
	for (uint32_t p = 0; p < vs->ports_high; p++) {
		struct vs_port *port = &vs->ports[p];
		uint8_t extras = vs_rate_extras(port) | vs_mirror_extras(port);

		if (monitors[p / 64] >> p % 64 & 1)
			extras |= VS_MONITOR;
		vs_store_release(&port->extras, extras);
	}
	vs_changed(vs);
}

static void config_apply(struct vswitch *vs, struct vs_port *port, const struct vs_port_config *cfg)
{
	port->config = *cfg;
	vs_store(&port->key, vs_mac_key(cfg->mac));
	vs_store(&port->groups, cfg->groups);
	vs_store(&port->frame_max, cfg->mtu + 14u);
	vs_store(&port->up, cfg->up);
	vs_store(&port->anti_spoof, cfg->anti_spoof);
	vs_store(&port->flood_off, cfg->flood_off);
	vs_store(&port->mac_limit, cfg->mac_limit);
	vs_store(&port->mac_limit_drop, cfg->mac_limit_drop);
	vs_vlan_apply(port, &cfg->vlan);
	vs_rate_apply(port, cfg);
	vs_extras_update(vs);
}

static void queue_clear(struct vs_queue *q)
{
	/* All but the generations, which never start anew: a late caller must not match. */
	struct vs_pair resv = q->rx.resv;
	uint64_t state = q->tx.state;

	*q = (struct vs_queue){.ticket = 0};
	q->rx.resv = resv;
	q->tx.state = state;
}

int vs_port_add(struct vswitch *vs, const struct vs_port_config *cfg)
{
	struct vs_port *port = NULL;
	int error = -VS_ENOSPC;

	if (!config_valid(cfg))
		return -ELISA_EINVAL;
	if (vs_port_by_name(vs, cfg->name) >= 0)
		return -VS_EEXIST;
	for (uint32_t i = 0; i < vs->config.ports && !port; i++) {
		if (vs->ports[i].used)
			continue;
		/* A call under way may still take it for the port that it was. */
		if (vs_epoch_over(vs, vs->ports[i].host_ticket, NULL))
			port = &vs->ports[i];
		else
			error = -ELISA_EAGAIN;
	}
	if (!port)
		return error;
	port->id = (uint16_t)(port - vs->ports);
	vs_store(&port->no_carrier, false);
	port->queues = (uint8_t)cfg->queues;
	for (int i = 0; i < ELISA_QUEUES_MAX; i++) {
		queue_clear(&port->queue[i]);
		port->rx_map[i] = 0;
	}
	vs_tune_reset(port);
	vs_store(&port->macs, 0);
	port->macs_before = UINT64_MAX; /* what was counted so far is of the former port */
	vs_store(&port->bell, 0);
	port->used = true;
	if (vs->ports_high <= port->id)
		vs_store_release(&vs->ports_high, port->id + 1u);
	config_apply(vs, port, cfg);
	return port->id;
}

static bool vlan_equal(const struct vs_vlan *a, const struct vs_vlan *b)
{
	bool equal =
		a->mode == b->mode && a->native_tagged == b->native_tagged && a->pvid == b->pvid;

	for (unsigned int i = 0; i < 64; i++)
		equal &= a->allowed[i] == b->allowed[i];
	return equal;
}

int vs_port_set(struct vswitch *vs, int id, const struct vs_port_config *cfg)
{
	struct vs_port *port = vs_port_get(vs, id);
	bool moved;

	if (!port)
		return -ELISA_ENODEV;
	if (!config_valid(cfg) || !name_equal(cfg->name, port->config.name))
		return -ELISA_EINVAL;
	if (cfg->queues != port->queues)
		return -ELISA_EBUSY;
	moved = !vlan_equal(&cfg->vlan, &port->config.vlan);
	config_apply(vs, port, cfg);
	if (moved)
		vs_fdb_forget_left(vs, port);
	return 0;
}

int vs_port_del(struct vswitch *vs, int id)
{
	struct vs_port *port = vs_port_get(vs, id);

	if (!port)
		return -ELISA_ENODEV;
	if (port->guest || port->nic || !vs_epoch_over(vs, port->host_ticket, NULL))
		return -ELISA_EBUSY;
	vs_mirror_forget(vs, port);
	vs_fdb_forget(vs, id, true);
	for (unsigned int i = 0; i < VS_BUCKETS; i++)
		vs_store(&port->bucket.burst[i], 0);
	port->used = false;
	vs_store(&port->host_ticket, vs_epoch_next(vs));
	return 0;
}

int vs_port_bind(struct vswitch *vs, int id, int guest)
{
	struct vs_port *port = vs_port_get(vs, id);
	struct vs_guest *g;

	if (!port || guest < 0 || (uint32_t)guest >= vs->config.guests || !vs->guests[guest].used)
		return -ELISA_ENODEV;
	if (port->guest)
		return -ELISA_EBUSY;
	g = &vs->guests[guest];
	for (uint16_t i = 0; i < ELISA_PORTS_PER_VM; i++) {
		if (g->ports[i])
			continue;
		port->guest_index = i;
		vs_store_release(&port->guest, g);
		vs_store_release(&g->ports[i], port);
		return 0;
	}
	return -VS_ENOSPC;
}

int vs_port_unbind(struct vswitch *vs, int id)
{
	struct vs_port *port = vs_port_get(vs, id);

	if (!port || !port->guest)
		return -ELISA_ENODEV;
	/* Before the queues: a set-up under way sees one or the other, see vs_op_queue_setup(). */
	__atomic_store_n(&port->guest->ports[port->guest_index], NULL, __ATOMIC_SEQ_CST);
	vs_port_down(vs, port);
	vs_store(&port->bell, 0);
	port->guest->ticket = port->host_ticket;
	vs_store_release(&port->guest, NULL);
	return 0;
}

int vs_port_carrier(struct vswitch *vs, int id, bool carrier)
{
	struct vs_port *port = vs_port_get(vs, id);

	if (!port)
		return -ELISA_ENODEV;
	vs_store(&port->no_carrier, !carrier);
	return 0;
}

int vs_port_by_name(const struct vswitch *vs, const char *name)
{
	if (!name_valid(name))
		return -ELISA_ENODEV;
	for (uint32_t i = 0; i < vs->ports_high; i++)
		if (vs->ports[i].used && name_equal(vs->ports[i].config.name, name))
			return (int)i;
	return -ELISA_ENODEV;
}

int vs_port_info(const struct vswitch *vs, int id, struct vs_port_info *info)
{
	const struct vs_port *port = vs_port_get(vs, id);

	if (!port)
		return -ELISA_ENODEV;
	*info = (struct vs_port_info){
		.config = port->config,
		.id = id,
		.guest = port->guest ? (int)(port->guest - vs->guests) : -1,
		.guest_index = port->guest_index,
		.link = vs_port_link(port),
		.macs = (uint32_t)vs_load(&port->macs),
	};
	return 0;
}

int vs_port_queue(const struct vswitch *vs, int id, unsigned int queue, struct vs_queue_info *info)
{
	const struct vs_port *port = vs_port_get(vs, id);
	const struct elisa_rx *ring;
	const struct vs_queue *q;
	uint64_t word;

	if (!port || queue >= port->queues)
		return -ELISA_ENODEV;
	q = &port->queue[queue];
	word = vs_load_acquire(&q->rx.resv.a);
	*info = (struct vs_queue_info){
		.tx_frames = vs_load(&q->tx.count.frames),
		.tx_bytes = vs_load(&q->tx.count.bytes),
		.rx_frames = vs_load(&q->rx.frames),
		.rx_bytes = vs_load(&q->rx.bytes),
	};
	if (vs_load_acquire(&q->tx.state) & VS_UP) {
		info->set_up = true;
		info->tx_size = vs_load(&q->tx.size);
	}
	/*
	 * Set up anew by its guest meanwhile? Its memory can only go by this thread; that of a NIC
	 * goes when its driver likes, and is not looked at.
	 */
	ring = vs_load(&q->rx.ring);
	if (word & VS_UP && ring) {
		info->rx_size = vs_load(&q->rx.size);
		info->rx_buf_len = vs_load(&q->rx.buf_len);
		info->features = vs_load(&q->rx.features) & ELISA_NET_F_ALL;
		info->rx_reserved = (uint32_t)word;
		info->rx_posted =
			port->nic ? vs_load(&port->nic->queue[queue].tx.taken) + info->rx_size
				  : vs_load(&ring->posted);
	}
	for (int i = 0; i < ELISA_DROP_RX_LINK_DOWN; i++)
		info->drops[i] = vs_load(&q->tx.count.drops[i]);
	for (int i = ELISA_DROP_RX_LINK_DOWN; i < ELISA_DROP_COUNT; i++)
		info->drops[i] = vs_load(&q->rx.drops[i - ELISA_DROP_RX_LINK_DOWN]);
	return 0;
}

int vs_port_counters(const struct vswitch *vs, int id, struct elisa_port_counters *counters)
{
	const struct vs_port *port = vs_port_get(vs, id);

	if (!port)
		return -ELISA_ENODEV;
	vs_port_count(port, counters);
	return 0;
}
