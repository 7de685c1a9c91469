/* SPDX-License-Identifier: BSD-3-Clause */
/* Which frames the NIC receives, and where to: address filters and, where it has them, flow rules.
 */
#include <errno.h>
#include <string.h>
#include <rte_flow.h>
#include "internal.h"

struct rule {
	struct rte_flow_item_eth spec, mask;
	struct rte_flow_action_queue queue;
	struct rte_flow_item pattern[2];
	struct rte_flow_action actions[2];
};

static const struct rte_flow_attr ingress = {.ingress = 1};

static void rule_fill(struct rule *r, const uint8_t mac[6], uint16_t queue)
{
	memset(r, 0, sizeof(*r));
	memcpy(r->spec.dst.addr_bytes, mac, 6);
	memset(r->mask.dst.addr_bytes, 0xff, 6);
	r->queue.index = queue;
	r->pattern[0] = (struct rte_flow_item){
		.type = RTE_FLOW_ITEM_TYPE_ETH, .spec = &r->spec, .mask = &r->mask};
	r->pattern[1].type = RTE_FLOW_ITEM_TYPE_END;
	r->actions[0] =
		(struct rte_flow_action){.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &r->queue};
	r->actions[1].type = RTE_FLOW_ACTION_TYPE_END;
}

bool nic_can_steer(const struct nic *nic)
{
	struct rte_flow_error error;
	struct rule r;

	if (nic->config.queues < 2)
		return false;
	rule_fill(&r, nic->address, 1);
	return !rte_flow_validate(nic->port, &ingress, r.pattern, r.actions, &error);
}

static void filter_drop(struct nic *nic, struct nic_filter *f)
{
	struct rte_ether_addr address;
	struct rte_flow_error error;

	if (f->flow)
		rte_flow_destroy(nic->port, f->flow, &error);
	f->flow = NULL;
	memcpy(address.addr_bytes, f->mac, 6);
	if (f->taken && memcmp(f->mac, nic->address, 6))
		rte_eth_dev_mac_addr_remove(nic->port, &address);
	f->taken = false;
}

static void filter_set(struct nic *nic, struct nic_filter *f, bool steer)
{
	struct rte_ether_addr address;
	struct rte_flow_error error;
	struct rule r;

	memcpy(address.addr_bytes, f->mac, 6);
	f->taken = !memcmp(f->mac, nic->address, 6) ||
		   !rte_eth_dev_mac_addr_add(nic->port, &address, 0);
	if (!steer)
		return;
	rule_fill(&r, f->mac, f->queue);
	/* None: the frames come to whichever queue the NIC takes. */
	f->flow = rte_flow_create(nic->port, &ingress, r.pattern, r.actions, &error);
}

static bool same(const struct nic_filter *f, const uint8_t mac[6], uint16_t queue)
{
	return !memcmp(f->mac, mac, 6) && f->queue == queue;
}

/* Those that are to stay remain as they are: no frame of theirs is lost. */
int nic_macs(struct nic *nic, const uint8_t (*mac)[6], const uint16_t *queue, unsigned int count)
{
	bool here[NIC_MACS_MAX] = {false}, steer;
	unsigned int kept = 0, taken = 0, all = count;

	if (!nic->running)
		return -ENODEV;
	if (count > NIC_MACS_MAX)
		count = NIC_MACS_MAX;
	for (unsigned int i = 0; i < nic->filters; i++) {
		struct nic_filter *f = &nic->filter[i];
		unsigned int j = 0;

		while (j < count && (here[j] || !same(f, mac[j], queue ? queue[j] : 0)))
			j++;
		/* Those that did not fit are tried again. */
		if (j == count || !f->taken) {
			filter_drop(nic, f);
			continue;
		}
		here[j] = true;
		nic->filter[kept++] = *f;
	}
	nic->filters = kept;
	steer = queue && nic_can_steer(nic);
	for (unsigned int j = 0; j < count; j++) {
		struct nic_filter *f = &nic->filter[nic->filters];

		if (here[j])
			continue;
		*f = (struct nic_filter){.queue = queue ? queue[j] : 0};
		memcpy(f->mac, mac[j], 6);
		filter_set(nic, f, steer);
		nic->filters++;
	}
	for (unsigned int i = 0; i < nic->filters; i++)
		taken += nic->filter[i].taken;
	if (nic->config.promiscuous || taken < all)
		rte_eth_promiscuous_enable(nic->port);
	else
		rte_eth_promiscuous_disable(nic->port);
	return (int)taken;
}

/* The device stops: it keeps rules in its own way, or not. */
void nic_macs_forget(struct nic *nic)
{
	for (unsigned int i = 0; i < nic->filters; i++)
		filter_drop(nic, &nic->filter[i]);
	nic->filters = 0;
}
