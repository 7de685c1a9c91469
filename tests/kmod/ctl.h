/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The module's ioctls as functions, and the smallest useful context. Functions that return int give
 * 0 or a positive errno, those that make a descriptor give it or -1 with errno.
 */
#ifndef TESTS_KMOD_CTL_H
#define TESTS_KMOD_CTL_H

#include <stddef.h>
#include <stdint.h>
#include <elisa/ioctl.h>

#define PAGE	4096ul
#define GIB	(1ul << 30)

extern int dev;		/* /dev/elisa, opened by the test */

/* A context with gate and entry page, its page tables at window + 0. */
struct context {
	int fd;
	uint64_t *root, *table;
	char *gate, *entry;
	uint64_t window, chunk;
};

int err_of(int result);
struct elisa_info get_info(void);
/* Shared anonymous memory. */
void *pages(size_t len);
int create(const void *root, uint64_t list, uint64_t desc);
int map(int ctx, const void *addr, uint64_t gpa, uint64_t len, uint32_t flags);
int unmap(int ctx, uint64_t gpa, uint64_t len);
/* gate.S in a context of its own. */
int context_open(struct context *c);
void context_close(struct context *c);
int attach(int ctx, int kvm_fd, struct elisa_ctx_attach *arg);
int arm(int vm, uint32_t vcpu);
int disarm(int vm, uint32_t vcpu, uint32_t timeout_ms);
struct elisa_vm_status status(int vm);
struct elisa_vcpu_stats stats(int vm, uint32_t vcpu);

#endif
