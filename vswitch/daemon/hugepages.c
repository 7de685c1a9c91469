/* SPDX-License-Identifier: BSD-3-Clause */
#include "daemon.h"

#include <mntent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pool {
	int node;
	uint64_t page, total, free; /* pages; `free` without those that are promised (reserved) */
};

struct pools {
	struct pool pool[2 * HUGE_NODES]; /* of 2 MiB, all nodes; then of 1 GiB */
	unsigned int count;
};

#define TEXT_LEN 400
struct need {
	char what[64];
	int node;      /* -1: any */
	uint64_t page; /* 0: any size */
	uint64_t bytes;
	uint64_t missing; /* pages of 2 MiB, or of `page` */
	char text[TEXT_LEN], fix[TEXT_LEN];
};
#define NEEDS_MAX (HUGE_NODES + 2)

static const char *size_name(uint64_t page)
{
	return page == HUGE_1G ? "1 GiB" : page == HUGE_2M ? "2 MiB" : "usual size";
}

/* ---- pools ---- */

static bool read_number(const char *dir, const char *name, uint64_t *n)
{
	char path[256], line[32], *end;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	proc_read_line(path, line, sizeof(line));
	*n = strtoull(line, &end, 10);
	return end != line;
}

static void pools_read(struct pools *p)
{
	static const uint64_t pages[] = {HUGE_2M, HUGE_1G};
	char dir[192];

	p->count = 0;
	for (unsigned int i = 0; i < 2; i++) {
		for (int node = 0; node < HUGE_NODES; node++) {
			struct pool pool = {.node = node, .page = pages[i]};

			snprintf(dir, sizeof(dir),
				 "%s/sys/devices/system/node/node%d/hugepages/hugepages-%llukB",
				 host_root(), node, (unsigned long long)pages[i] >> 10);
			if (read_number(dir, "nr_hugepages", &pool.total) &&
			    read_number(dir, "free_hugepages", &pool.free))
				p->pool[p->count++] = pool;
		}
	}
}

/*
 * Pages that somebody has been promised but not touched yet count as free. The kernel keeps their
 * number for all nodes together: they are taken off wherever there are some.
 */
static void pools_reserved(struct pools *p)
{
	char dir[192];
	uint64_t left = 0, page = 0;

	for (unsigned int i = 0; i < p->count; i++) {
		struct pool *pool = &p->pool[i];

		if (pool->page != page) {
			page = pool->page;
			snprintf(dir, sizeof(dir), "%s/sys/kernel/mm/hugepages/hugepages-%llukB",
				 host_root(), (unsigned long long)page >> 10);
			if (!read_number(dir, "resv_hugepages", &left))
				left = 0;
		}
		if (left > pool->free) {
			left -= pool->free;
			pool->free = 0;
		} else {
			pool->free -= left;
			left = 0;
		}
	}
}

/* Pages of that size, or of any for 0, on that node; returns the bytes that were not there. */
static uint64_t pools_take(struct pools *p, int node, uint64_t page, uint64_t bytes)
{
	for (unsigned int i = 0; i < p->count && bytes; i++) {
		struct pool *pool = &p->pool[i];
		uint64_t pages = (bytes + pool->page - 1) / pool->page;

		if ((node >= 0 && pool->node != node) || (page && pool->page != page))
			continue;
		pages = pages < pool->free ? pages : pool->free;
		pool->free -= pages;
		bytes -= pages * pool->page < bytes ? pages * pool->page : bytes;
	}
	return bytes;
}

static struct pool *pool_find(struct pools *p, int node, uint64_t page)
{
	for (unsigned int i = 0; i < p->count; i++)
		if ((node < 0 || p->pool[i].node == node) && p->pool[i].page == page)
			return &p->pool[i];
	return NULL;
}

/* ---- needs ---- */

__attribute__((format(printf, 4, 5))) static void need_fix(struct need *n, struct pools *p,
							   uint64_t page, const char *fmt, ...)
{
	struct pool *pool = pool_find(p, n->node, page);
	char key[8];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(n->text, sizeof(n->text), fmt, ap);
	va_end(ap);
	if (!n->missing)
		return;
	if (!pool) {
		snprintf(n->fix, sizeof(n->fix),
			 "boot with hugepagesz=%s: this kernel has no pages of %s here",
			 page == HUGE_1G ? "1G" : "2M", size_name(page));
		return;
	}
	/* What comes next counts on these. */
	pool->total += n->missing;
	snprintf(key, sizeof(key), "%s", page == HUGE_1G ? "1G" : "2M");
	snprintf(n->fix, sizeof(n->fix),
		 "echo %llu > "
		 "/sys/devices/system/node/node%d/hugepages/hugepages-%llukB/nr_hugepages "
		 "and restart the daemon; for each boot: HUGEPAGES_%s=\"%d:%llu\" in "
		 "/etc/default/elisa, and what VMs need besides",
		 (unsigned long long)pool->total, pool->node, (unsigned long long)page >> 10, key,
		 pool->node, (unsigned long long)pool->total);
}

static void need_look(struct need *n, struct pools *p)
{
	uint64_t page = n->page ? n->page : HUGE_2M, left, pages, there = 0;
	char where[32] = "any node";

	for (unsigned int i = 0; i < p->count; i++)
		if (p->pool[i].page == page && (n->node < 0 || p->pool[i].node == n->node))
			there += p->pool[i].free;
	left = pools_take(p, n->node, n->page, n->bytes);
	pages = (n->bytes + page - 1) / page;
	n->missing = (left + page - 1) / page;
	if (n->node >= 0)
		snprintf(where, sizeof(where), "node %d", n->node);
	need_fix(n, p, page, "%s: %llu hugepages of %s on %s needed, %llu free, %llu missing%s",
		 n->what, (unsigned long long)pages, size_name(page), where,
		 (unsigned long long)there, (unsigned long long)n->missing,
		 !n->missing && there < pages ? " (pages of 1 GiB do as well)" : "");
}

/* What is not there yet. NICs first: they do not run without. */
static unsigned int needs_list(struct daemon *d, struct need *needs)
{
	struct dpdk_need dpdk = {{0}};
	unsigned int count = 0;

	if (d->set.dpdk.huge && d->set.nic_count && !nics_opened(d))
		nics_need(&d->set, &dpdk);
	for (int node = 0; node <= HUGE_NODES; node++) {
		struct need *n = &needs[count];

		if (!dpdk.mib[node])
			continue;
		*n = (struct need){.node = node < HUGE_NODES ? node : -1,
				   .bytes = (uint64_t)dpdk.mib[node] << 20};
		snprintf(n->what, sizeof(n->what), "DPDK's heap (%u MiB)", dpdk.mib[node]);
		count++;
	}
	return count;
}

static bool arena_falls_back(const struct daemon *d)
{
	return d->set.hugepages != HUGE_NEVER && d->arena && d->arena_page < HUGE_2M;
}

static unsigned int needs_all(struct daemon *d, struct need *needs, struct pools *p)
{
	unsigned int count = needs_list(d, needs);

	if (arena_falls_back(d) || (d->set.hugepages != HUGE_NEVER && !d->arena)) {
		needs[count] = (struct need){.node = -1, .page = HUGE_2M, .bytes = d->arena_len};
		snprintf(needs[count].what, sizeof(needs[count].what),
			 "the switch (switch.hugepages = \"%s\")", huge_uses[d->set.hugepages]);
		count++;
	}
	pools_read(p);
	pools_reserved(p);
	for (unsigned int i = 0; i < count; i++)
		need_look(&needs[i], p);
	return count;
}

/* Pages of 1 GiB are for those who fill them: at most an eighth is left over. */
static bool fills(size_t len, uint64_t page)
{
	uint64_t rounded = (len + page - 1) / page * page;

	return page == HUGE_2M || rounded - len <= rounded / 8;
}

uint64_t huge_arena_page(struct daemon *d, size_t len, uint64_t skip)
{
	static const uint64_t pages[] = {HUGE_1G, HUGE_2M};
	struct need needs[NEEDS_MAX];
	unsigned int count;
	struct pools p;

	if (d->set.hugepages == HUGE_NEVER)
		return 0;
	for (unsigned int i = 0; i < 2; i++) {
		if ((skip && pages[i] >= skip) || !fills(len, pages[i]))
			continue;
		pools_read(&p);
		pools_reserved(&p);
		count = needs_list(d, needs);
		for (unsigned int n = 0; n < count; n++)
			pools_take(&p, needs[n].node, 0, needs[n].bytes);
		if (!pools_take(&p, -1, pages[i], len))
			return pages[i];
	}
	return 0;
}

void huge_log(struct daemon *d)
{
	struct need needs[NEEDS_MAX];
	struct pools p;
	unsigned int count = needs_all(d, needs, &p);

	if (d->arena)
		log_info("the switch has %zu MiB in pages of %s%s", d->arena_len >> 20,
			 size_name(d->arena_page),
			 arena_falls_back(d) ? " (fallback: hugepages are missing)" : "");
	for (unsigned int i = 0; i < count; i++)
		if (needs[i].missing)
			log_warning("%s: %s", needs[i].text, needs[i].fix);
}

/* ---- as JSON ---- */

static json_t *mounts_json(void)
{
	json_t *list = json_array();
	struct mntent *m;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/mounts", host_root());
	f = setmntent(path, "re");
	while (f && (m = getmntent(f)))
		if (!strcmp(m->mnt_type, "hugetlbfs"))
			json_array_append_new(list, json_pack("{s:s, s:s}", "path", m->mnt_dir,
							      "options", m->mnt_opts));
	if (f)
		endmntent(f);
	return list;
}

static json_t *pools_json(void)
{
	json_t *list = json_array();
	struct pools p;

	pools_read(&p);
	for (unsigned int i = 0; i < p.count; i++)
		json_array_append_new(list,
				      json_pack("{s:i, s:I, s:I, s:I}", "node", p.pool[i].node,
						"page", (json_int_t)p.pool[i].page, "total",
						(json_int_t)p.pool[i].total, "free",
						(json_int_t)p.pool[i].free));
	return list;
}

json_t *huge_json(struct daemon *d)
{
	struct need needs[NEEDS_MAX];
	json_t *list = json_array(), *arena;
	struct pools p;
	unsigned int count = needs_all(d, needs, &p);

	for (unsigned int i = 0; i < count; i++)
		json_array_append_new(list,
				      json_pack("{s:s, s:I, s:s}", "text", needs[i].text, "missing",
						(json_int_t)needs[i].missing, "fix", needs[i].fix));
	arena = json_pack("{s:I, s:I, s:s, s:b}", "bytes", (json_int_t)d->arena_len, "page",
			  (json_int_t)d->arena_page, "hugepages", huge_uses[d->set.hugepages],
			  "fallback", (int)arena_falls_back(d));
	return json_pack("{s:o, s:o, s:o, s:o}", "arena", arena, "pools", pools_json(), "needs",
			 list, "mounts", mounts_json());
}
