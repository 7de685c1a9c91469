/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory and handles. The switch reaches an mbuf by its GPA:
 *
 *	vmfunc	its physical address in the VM, so EAL has to use those as IOVA; and hugepages,
 *since the kernel moves others local	its virtual address; EAL's memory has to be one block with
 *one descriptor, which the switch and its other clients map
 *
 * Either way, an IOVA is a GPA.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_eal_memconfig.h>
#include <rte_memory.h>

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
	ELISA_LOG(INFO, "transport %s", elisa_guest_transport(h->guest));
	*handle = h;
	return 0;
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
		elisa_guest_close(h->guest);
		free(h->spec);
		free(h);
	}
	pthread_mutex_unlock(&handles_lock);
}

static void check_chunk(struct rte_mempool *pool, void *opaque, struct rte_mempool_memhdr *chunk,
			unsigned int index)
{
	struct elisa_guest_ram ram;
	int *rc = opaque;

	if (chunk->iova == RTE_BAD_IOVA)
		*rc = -ENOTSUP;
	if (*rc || local_ram(&ram))
		*rc = *rc ? *rc : -ENOTSUP;
	else if ((char *)chunk->addr < (char *)ram.addr ||
		 (char *)chunk->addr + chunk->len > (char *)ram.addr + ram.len)
		*rc = -ENOTSUP;
}

int elisa_mem_check_pool(const struct elisa_handle *handle, struct rte_mempool *pool)
{
	int rc = 0;

	if (handle->local)
		rte_mempool_mem_iter(pool, check_chunk, &rc);
	if (rc)
		ELISA_LOG(
			ERR,
			"mempool %s lies outside of the memory that EAL had at the start, which is "
			"all that the switch can reach: raise -m",
			pool->name);
	return rc;
}
