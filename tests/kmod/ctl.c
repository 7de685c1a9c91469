/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctl.h"

extern const char smoke_gate[], smoke_entry[];

int dev;

/* What cannot fail did: no test makes sense any more. */
static void die(const char *what)
{
	printf("not ok - %s: %s\n", what, strerror(errno));
	exit(1);
}

struct elisa_info get_info(void)
{
	struct elisa_info now;

	if (ioctl(dev, ELISA_INFO, &now))
		die("ELISA_INFO");
	return now;
}

int err_of(int result)
{
	return result < 0 ? errno : 0;
}

void *pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static uint64_t gpa_of(const struct context *c, uint64_t va)
{
	return c->chunk + va % GIB;
}

int map(int ctx, const void *addr, uint64_t gpa, uint64_t len, uint32_t flags)
{
	struct elisa_ctx_map arg = {
		.addr = (uint64_t)(uintptr_t)addr, .gpa = gpa, .len = len, .flags = flags,
	};

	return err_of(ioctl(ctx, ELISA_CTX_MAP, &arg));
}

int unmap(int ctx, uint64_t gpa, uint64_t len)
{
	struct elisa_ctx_unmap arg = { .gpa = gpa, .len = len };

	return err_of(ioctl(ctx, ELISA_CTX_UNMAP, &arg));
}

int create(const void *root, uint64_t list, uint64_t desc)
{
	struct elisa_context_create arg = {
		.root = (uint64_t)(uintptr_t)root, .list_gpa = list, .desc_gpa = desc,
	};

	return ioctl(dev, ELISA_CONTEXT_CREATE, &arg);
}

int context_open(struct context *c)
{
	int err;

	c->root = pages(PAGE);
	c->table = pages(PAGE);
	c->gate = pages(PAGE);
	c->entry = pages(PAGE);
	c->window = get_info().window_gpa;
	c->chunk = c->window + GIB;
	memcpy(c->gate, smoke_gate, PAGE);
	memcpy(c->entry, smoke_entry, PAGE);
	c->root[ELISA_GATE_VA >> 39 & 511] = c->window | 0x27;
	c->table[ELISA_GATE_VA >> 30 & 511] = c->chunk | 0xe7;
	c->fd = create(c->root, gpa_of(c, ELISA_LIST_VA), gpa_of(c, ELISA_DESC_VA));
	if (c->fd < 0)
		return errno;
	err = map(c->fd, c->table, c->window, PAGE,
		  ELISA_MAP_R | ELISA_MAP_TRUSTED | ELISA_MAP_GATE);
	if (!err)
		err = map(c->fd, c->gate, gpa_of(c, ELISA_GATE_VA), PAGE, ELISA_MAP_X | ELISA_MAP_GATE);
	if (!err)
		err = map(c->fd, c->entry, gpa_of(c, ELISA_GATE_VA), PAGE,
			  ELISA_MAP_X | ELISA_MAP_TRUSTED);
	return err;
}

void context_close(struct context *c)
{
	close(c->fd);
	munmap(c->root, PAGE);
	munmap(c->table, PAGE);
	munmap(c->gate, PAGE);
	munmap(c->entry, PAGE);
}

int attach(int ctx, int kvm_fd, struct elisa_ctx_attach *arg)
{
	memset(arg, 0, sizeof(*arg));
	arg->kvm_fd = kvm_fd;
	arg->flags = ELISA_ATTACH_FORCE_CPU;
	return ioctl(ctx, ELISA_CTX_ATTACH, arg);
}

int arm(int vm, uint32_t vcpu)
{
	struct elisa_vm_arm arg = { .vcpu_id = vcpu };

	return err_of(ioctl(vm, ELISA_VM_ARM, &arg));
}

int disarm(int vm, uint32_t vcpu, uint32_t timeout_ms)
{
	struct elisa_vm_disarm arg = { .vcpu_id = vcpu, .timeout_ms = timeout_ms };

	return err_of(ioctl(vm, ELISA_VM_DISARM, &arg));
}

struct elisa_vm_status status(int vm)
{
	struct elisa_vm_status arg;

	if (ioctl(vm, ELISA_VM_STATUS, &arg))
		die("ELISA_VM_STATUS");
	return arg;
}

struct elisa_vcpu_stats stats(int vm, uint32_t vcpu)
{
	struct elisa_vcpu_stats arg = { .vcpu_id = vcpu };

	if (ioctl(vm, ELISA_VM_STATS, &arg))
		die("ELISA_VM_STATS");
	return arg;
}
