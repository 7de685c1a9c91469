/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory and handles. The switch reaches an mbuf by its GPA:
 *
 *	vmfunc	its physical address in the VM, so EAL has to use those as IOVA; and
 *		hugepages, since the kernel moves others
 *	local	its virtual address; EAL's memory has to be one block with one descriptor,
 *		which the switch and its other clients map
 *
 * Either way, an IOVA is a GPA.
 *
 * If this process dies, senders may still write to its posted buffers. With vmfunc the guard
 * (elisa/guard.h) then holds that memory until the switch is done with it; with local the
 * switch does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_eal_memconfig.h>
#include <rte_memory.h>

#include <elisa/guard.h>

#include "elisa_pmd.h"

static TAILQ_HEAD(, elisa_handle) handles = TAILQ_HEAD_INITIALIZER(handles);
static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;

struct block {
	struct elisa_guest_ram ram;
	unsigned int count;
};

static int find_block(const struct rte_memseg_list *msl, const struct rte_memseg *ms, size_t len,
		      void *arg)
{
	struct block *b = arg;
	size_t offset = 0;

	if (msl->external || b->count++)
		return 0;
	b->ram.addr = ms->addr;
	b->ram.len = len;
	b->ram.page = msl->page_sz >= RTE_PGSIZE_2M ? RTE_PGSIZE_2M : RTE_PGSIZE_4K;
	b->ram.fd = rte_memseg_get_fd_thread_unsafe(ms);
	rte_memseg_get_fd_offset_thread_unsafe(ms, &offset);
	b->ram.offset = offset;
	return 0;
}

/* All of EAL's memory, for the local transport. */
static int local_ram(struct elisa_guest_ram *ram)
{
	struct block b = {.ram = {.fd = -1}};

	rte_memseg_contig_walk(find_block, &b);
	if (b.count != 1 || b.ram.fd < 0) {
		ELISA_LOG(ERR,
			  "transport=local needs all of EAL's memory in one block of one file, but "
			  "there are %u blocks%s: start with --no-huge -m MB, or with "
			  "--single-file-segments -m MB",
			  b.count, b.ram.fd < 0 ? " and no file" : "");
		return -ENOTSUP;
	}
	*ram = b.ram;
	return 0;
}

static int check_eal(bool local)
{
	const enum rte_iova_mode wanted = local ? RTE_IOVA_VA : RTE_IOVA_PA;

	if (!local && !rte_eal_has_hugepages()) {
		ELISA_LOG(ERR, "transport=vmfunc needs hugepages, since the switch writes to "
			       "physical addresses: start without --no-huge");
		return -ENOTSUP;
	}
	if (rte_eal_iova_mode() != wanted) {
		ELISA_LOG(ERR, "transport=%s needs %s addresses as IOVA: start with --iova-mode=%s",
			  local ? "local" : "vmfunc", local ? "virtual" : "physical",
			  local ? "va" : "pa");
		return -ENOTSUP;
	}
	return 0;
}

static int guard_start(struct elisa_handle *h)
{
	int rc = elisa_guard_start(h->spec, ELISA_SERVICE_SWITCH, &h->guard);

	if (rc)
		ELISA_LOG(ERR,
			  "elisa-guard, which keeps this process's memory from late frames if it "
			  "dies, "
			  "does not start: %s; ELISA_GUARD=PATH says where it is",
			  strerror(-rc));
	return rc;
}

static int handle_open(const char *spec, bool local, struct elisa_handle **handle)
{
	struct elisa_guest_ram ram = {.fd = -1};
	struct elisa_handle *h;
	int rc = check_eal(local);

	if (!rc && local)
		rc = local_ram(&ram);
	if (rc)
		return rc;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->local = local;
	h->spec = strdup(spec);
	rc = -ENOMEM;
	if (!h->spec)
		goto free_handle;
	if (local)
		rc = elisa_guest_open_ram(spec, ELISA_SERVICE_SWITCH, &ram, &h->guest);
	else
		rc = elisa_guest_open(spec, ELISA_SERVICE_SWITCH, &h->guest);
	if (rc) {
		ELISA_LOG(ERR, "%s", elisa_guest_error());
		goto free_handle;
	}
	rc = local ? 0 : guard_start(h);
	if (rc)
		goto close_guest;
	ELISA_LOG(INFO, "transport %s", elisa_guest_transport(h->guest));
	*handle = h;
	return 0;
close_guest:
	elisa_guest_close(h->guest);
free_handle:
	free(h->spec);
	free(h);
	return rc;
}

int elisa_handle_get(const char *spec, bool local, struct elisa_handle **handle)
{
	struct elisa_handle *h;
	int rc = 0;

	pthread_mutex_lock(&handles_lock);
	TAILQ_FOREACH(h, &handles, next)
	if (!strcmp(h->spec, spec))
		break;
	if (!h) {
		rc = handle_open(spec, local, &h);
		if (!rc)
			TAILQ_INSERT_TAIL(&handles, h, next);
	}
	if (!rc) {
		h->users++;
		*handle = h;
	}
	pthread_mutex_unlock(&handles_lock);
	return rc;
}

int elisa_handle_claim(struct elisa_handle *h, uint16_t index)
{
	int rc = -EBUSY;

	pthread_mutex_lock(&handles_lock);
	if (!(h->ports & 1u << index)) {
		h->ports |= 1u << index;
		rc = 0;
	}
	pthread_mutex_unlock(&handles_lock);
	if (rc)
		ELISA_LOG(ERR, "port %u has a device already in this process", index);
	return rc;
}

void elisa_handle_put(struct elisa_handle *h, uint16_t index)
{
	pthread_mutex_lock(&handles_lock);
	if (index != ELISA_NO_PORT)
		h->ports &= ~(1u << index);
	if (!--h->users) {
		TAILQ_REMOVE(&handles, h, next);
		elisa_guard_stop(h->guard);
		elisa_guest_close(h->guest);
		free(h->spec);
		free(h);
	}
	pthread_mutex_unlock(&handles_lock);
}

/* ---- the guard's part ---- */

int elisa_mem_hold(struct elisa_handle *h, void *addr, size_t len)
{
	const struct rte_memseg *ms;
	int rc = 0;

	if (!h->guard)
		return 0;
	pthread_mutex_lock(&handles_lock);
	for (char *at = addr; !rc && at < (char *)addr + len; at = (char *)ms->addr + ms->len) {
		ms = rte_mem_virt2memseg(at, NULL);
		if (!ms) {
			rc = -ENOTSUP;
			break;
		}
		rc = elisa_guard_hold(h->guard,
				      rte_memseg_get_fd((struct rte_memseg *)(uintptr_t)ms));
	}
	pthread_mutex_unlock(&handles_lock);
	if (rc)
		ELISA_LOG(ERR,
			  "memory at %p cannot be kept from late frames if this process dies, "
			  "since it "
			  "has no file (%s): use EAL's own hugepages",
			  addr, strerror(-rc));
	return rc;
}

int elisa_handle_undo(struct elisa_handle *h, uint16_t port, uint16_t queue)
{
	int rc;

	if (!h->guard)
		return 0;
	pthread_mutex_lock(&handles_lock);
	rc = elisa_guard_undo(h->guard, ELISA_NET_QUEUE_RESET, (uint64_t)port << 16 | queue);
	pthread_mutex_unlock(&handles_lock);
	if (rc)
		ELISA_LOG(ERR, "port %u, queue %u: elisa-guard: %s", port, queue,
			  rc == -EBUSY ? "a process that died is not done with it yet"
				       : strerror(-rc));
	return rc;
}

/* ---- pools ---- */

struct pool_check {
	struct elisa_handle *handle;
	int rc;
};

static void check_chunk(struct rte_mempool *pool, void *opaque, struct rte_mempool_memhdr *chunk,
			unsigned int index)
{
	struct pool_check *c = opaque;
	struct elisa_guest_ram ram;

	if (!c->rc && chunk->iova == RTE_BAD_IOVA)
		c->rc = -ENOTSUP;
	if (c->rc)
		return;
	if (!c->handle->local) {
		c->rc = elisa_mem_hold(c->handle, chunk->addr, chunk->len);
		return;
	}
	c->rc = local_ram(&ram);
	if (!c->rc && ((char *)chunk->addr < (char *)ram.addr ||
		       (char *)chunk->addr + chunk->len > (char *)ram.addr + ram.len)) {
		ELISA_LOG(
			ERR,
			"mempool %s lies outside of the memory that EAL had at the start, which is "
			"all that the switch can reach: raise -m",
			pool->name);
		c->rc = -ENOTSUP;
	}
}

int elisa_mem_use_pool(struct elisa_handle *handle, struct rte_mempool *pool)
{
	struct pool_check c = {.handle = handle};

	rte_mempool_mem_iter(pool, check_chunk, &c);
	return c.rc;
}
