/* SPDX-License-Identifier: BSD-3-Clause */
/* User-space surroundings for elisa-host/kmod/ept.c: physical addresses are plain pointers. */
#ifndef ELISA_EPT_PORT_H
#define ELISA_EPT_PORT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <elisa/layout.h>

typedef uint64_t u64;

#define READ_ONCE(x)		(*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value)	(*(volatile __typeof__(x) *)&(x) = (value))
#define cond_resched()		((void)0)

struct list_head {
	struct list_head *next, *prev;
};

static inline void INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list;
	list->prev = list;
}

static inline void list_add_tail(struct list_head *item, struct list_head *list)
{
	item->prev = list->prev;
	item->next = list;
	list->prev->next = item;
	list->prev = item;
}

static inline void list_del_init(struct list_head *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	INIT_LIST_HEAD(item);
}

#define list_for_each_entry(pos, list, member)						  \
	for (pos = (void *)((char *)(list)->next - offsetof(__typeof__(*pos), member));	  \
	     &pos->member != (list);							  \
	     pos = (void *)((char *)pos->member.next - offsetof(__typeof__(*pos), member)))

/* Pages in use, and how many more may be had before memory "runs out" (test_ept.c). */
extern long port_pages, port_budget;

static inline u64 *ept_page_alloc(void)
{
	void *page;

	if (!port_budget)
		return NULL;
	port_budget--;
	page = aligned_alloc(4096, 4096);
	if (!page)
		abort();
	memset(page, 0, 4096);
	port_pages++;
	return page;
}

static inline void ept_page_free(u64 *page)
{
	port_pages--;
	free(page);
}

static inline u64 ept_page_pa(const u64 *page)
{
	return (u64)(uintptr_t)page;
}

static inline u64 *ept_page_va(u64 pa)
{
	return (u64 *)(uintptr_t)pa;
}

#endif
