/* SPDX-License-Identifier: BSD-3-Clause */
#include <dlfcn.h>
#include <stdio.h>
#include "common.h"

const struct nic_lib *lib;
struct fake_dev *fake;
char why[NIC_WHY_LEN];

int common_open(void **state)
{
	const char *driver = getenv("NIC_FAKE"), *name = getenv("NIC_LIB");
	struct nic_env env = {.memory_mib = 128};
	void *object = dlopen(driver, RTLD_NOW);

	/* By hand: DPDK itself refuses drivers below folders like /tmp. */
	fake = object ? dlsym(object, "fake_dev") : NULL;
	if (!fake) {
		fprintf(stderr, "NIC_FAKE: %s\n", dlerror());
		return -1;
	}
	object = dlopen(name ? name : "libvswitch-nic.so.0", RTLD_NOW);
	if (!object) {
		fprintf(stderr, "%s\n", dlerror());
		return -1;
	}
	lib = dlsym(object, "vs_nic_lib");
	if (lib->revision != NIC_LIB_REVISION || lib->open(&env, why)) {
		fprintf(stderr, "%s\n", why);
		return -1;
	}
	return 0;
}

int common_close(void **state)
{
	lib->close();
	return 0;
}

void fake_reset(void)
{
	for (int i = 0; i < FAKE_DEVS; i++) {
		for (int q = 0; q < FAKE_QUEUES; q++)
			for (int n = 0; n < FAKE_FRAMES; n++) {
				free(fake[i].sent[q].frame[n].data);
				free(fake[i].received[q].frame[n].data);
			}
		memset(&fake[i], 0, sizeof(fake[i]));
		fake[i].link = true;
		fake[i].accepts = UINT16_MAX;
	}
}

void fake_put(struct fake_wire *w, const uint8_t *data, uint32_t len, uint32_t seg_len,
	      uint64_t ol_flags)
{
	struct fake_frame *f = &w->frame[w->put % FAKE_FRAMES];

	assert_true(w->put - w->got < FAKE_FRAMES);
	free(f->data);
	*f = (struct fake_frame){.len = len, .seg_len = seg_len, .ol_flags = ol_flags};
	f->data = malloc(len);
	memcpy(f->data, data, len);
	w->put++;
}

const struct fake_frame *fake_get(struct fake_wire *w)
{
	return w->got == w->put ? NULL : &w->frame[w->got++ % FAKE_FRAMES];
}

struct nic_config nic_config(const char *device)
{
	return (struct nic_config){
		.name = "up0",
		.device = {device},
		.devices = 1,
		.queues = 1,
		.mtu = 1500,
		.offloads = true,
	};
}

struct nic *nic_up(const struct nic_config *cfg)
{
	struct nic *nic;

	if (lib->add(cfg, &nic, why) || lib->start(nic, why))
		fail_msg("%s", why);
	return nic;
}

uint64_t nic_lost(struct nic *nic)
{
	struct nic_stats s;

	assert_int_equal(lib->stats(nic, &s), 0);
	return s.lost_buffers;
}

void hand_take(struct hand *h, struct nic *nic, unsigned int queue)
{
	memset(h, 0, sizeof(*h));
	assert_int_equal(lib->queue(nic, queue, &h->setup, &h->rxq, &h->txq), 0);
}

static struct elisa_rx *ring(struct hand *h)
{
	return (struct elisa_rx *)(uintptr_t)h->setup.rx_ring;
}

uint8_t *hand_buffer(struct hand *h)
{
	return (uint8_t *)(uintptr_t)ring(h)->addr[h->next % h->setup.rx_size];
}

void hand_commit(struct hand *h, uint32_t len, uint16_t flags, uint16_t csum_start,
		 uint16_t gso_size)
{
	struct elisa_rxc *comp = (struct elisa_rxc *)(uintptr_t)h->setup.rx_comp;

	comp += h->next % h->setup.rx_size;
	assert_true((int32_t)(ring(h)->posted - h->next) > 0);
	comp->len = (uint16_t)len;
	comp->flags = flags;
	comp->csum_start = csum_start;
	comp->gso_size = gso_size;
	comp->hash = 0;
	__atomic_store_n(&comp->seq, ++h->next, __ATOMIC_RELEASE);
}

bool hand_send(struct hand *h, const uint8_t *data, uint32_t len, uint16_t flags,
	       uint16_t csum_start, uint16_t gso_size)
{
	uint32_t buf_len = h->setup.rx_buf_len, slots = (len + buf_len - 1) / buf_len;

	if (ring(h)->posted - h->next < slots)
		return false;
	for (uint32_t at = 0; at < len; at += buf_len) {
		uint32_t part = len - at < buf_len ? len - at : buf_len;

		memcpy(hand_buffer(h), data + at, part);
		hand_commit(h, part, (at ? 0 : flags) | (at + part < len ? ELISA_NET_MORE : 0),
			    at ? 0 : csum_start, at ? 0 : gso_size);
	}
	return true;
}

uint32_t hand_tx(struct hand *h)
{
	uint32_t taken = lib->ops->tx(h->txq), count = taken - h->taken;

	assert_true(count <= h->next - h->taken);
	h->taken = taken;
	return count;
}

uint32_t hand_rx(struct hand *h)
{
	h->described = lib->ops->rx(h->rxq, VS_NIC_BURST);
	return h->described;
}

const struct elisa_txd *hand_desc(struct hand *h, uint32_t i)
{
	const struct elisa_txd *d = (const struct elisa_txd *)(uintptr_t)h->setup.tx_ring;

	assert_true(i < h->described);
	return &d[(h->desc + i) % h->setup.tx_size];
}

void hand_done(struct hand *h, uint32_t descs)
{
	lib->ops->rx_done(h->rxq, descs);
	h->desc += descs;
	h->described -= descs;
}
