/* SPDX-License-Identifier: GPL-2.0-only */
/* What ept.c needs from its surroundings. tests/kmod has its own file of this name. */
#ifndef ELISA_EPT_PORT_H
#define ELISA_EPT_PORT_H

#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <elisa/layout.h>

static inline u64 *ept_page_alloc(void)
{
	return (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
}

static inline void ept_page_free(u64 *page)
{
	free_page((unsigned long)page);
}

static inline u64 ept_page_pa(const u64 *page)
{
	return virt_to_phys((void *)page);
}

static inline u64 *ept_page_va(u64 pa)
{
	return phys_to_virt(pa);
}

#endif
