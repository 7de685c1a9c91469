/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "programs.h"
#include "tap.h"

double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- the service ---- */

static void fill_arena(struct host *h)
{
	for (unsigned int i = 0; i < HOST_FILLER; i++)
		h->arena->filler[i] = (uint8_t)(i * 7 + (i >> 8));
	for (unsigned int i = 0; i < 64; i++) {
		h->arena->vm[i].id = 1000 + i;
		h->arena->vm[i].generation = 7;
		for (unsigned int j = 0; j < 3; j++)
			h->arena->vm[i].secret[j] = SVC_SECRET;
	}
}

static int host_realize(struct host *h)
{
	int err = elisa_ctx_create(h->lib, svc_entry, &h->ctx);

	if (err) {
		note("elisa_ctx_create: %s", strerror(-err));
		return err;
	}
	err = elisa_export(h->ctx, h->arena, sizeof(*h->arena), ELISA_R | ELISA_W);
	if (err) {
		note("elisa_export: %s", strerror(-err));
		return err;
	}
	err = elisa_export_object(h->ctx, (const void *)(uintptr_t)svc_entry);
	if (err) {
		note("elisa_export_object: %s", strerror(-err));
		return err;
	}
	err = elisa_ctx_realize(h->ctx);
	if (err)
		note("elisa_ctx_realize: %s", strerror(-err));
	return err;
}

int host_open(struct host *h)
{
	int err;

	memset(h, 0, sizeof(*h));
	h->arena = mmap(NULL, sizeof(*h->arena), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	h->hidden = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (h->arena == MAP_FAILED || h->hidden == MAP_FAILED)
		return -ENOMEM;
	fill_arena(h);
	memset(h->hidden, 0x3c, 4096);
	err = elisa_host_open(&h->lib);
	if (err) {
		note("elisa_host_open: %s", strerror(-err));
		return err;
	}
	h->info = host_info(h);
	err = host_realize(h);
	if (err)
		host_close(h);
	return err;
}

void host_close(struct host *h)
{
	if (h->ctx)
		elisa_ctx_destroy(h->ctx);
	if (h->lib)
		elisa_host_close(h->lib);
	munmap(h->arena, sizeof(*h->arena));
	munmap(h->hidden, 4096);
	memset(h, 0, sizeof(*h));
}

int host_attach(struct host *h, pid_t pid, unsigned int vcpus, unsigned int slot,
		struct elisa_vm **vm)
{
	struct elisa_why why;
	char text[256];
	int err = elisa_vm_attach(h->ctx, pid, ELISA_VM_FORCE_CPU, &why, vm);

	if (err) {
		note("attach %d: %s; %s", (int)pid, strerror(-err),
		     why.refusal ? elisa_why_text(&why, text, sizeof(text)) : "no refusal");
		return err;
	}
	for (unsigned int v = 0; v < vcpus; v++) {
		err = elisa_vm_arm(*vm, v, &h->arena->vm[slot]);
		if (err) {
			note("arm vCPU %u of %d: %s", v, (int)pid, strerror(-err));
			elisa_vm_detach(*vm, 1000);
			*vm = NULL;
			return err;
		}
	}
	return 0;
}

/* FNV-1a, of 8 bytes at a time. */
static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
	const uint64_t *p = data;

	for (size_t i = 0; i < len / 8; i++)
		hash = (hash ^ p[i]) * 0x100000001b3;
	return hash;
}

uint64_t host_fingerprint(const struct host *h)
{
	uint64_t hash = mix(0xcbf29ce484222325, h->arena->filler, HOST_FILLER);

	hash = mix(hash, h->hidden, 4096);
	for (unsigned int i = 0; i < 64; i++) {
		hash = mix(hash, &h->arena->vm[i].id, 8);
		hash = mix(hash, h->arena->vm[i].secret, sizeof(h->arena->vm[i].secret));
	}
	return mix(hash, svc_data, sizeof(svc_data));
}

struct elisa_info host_info(struct host *h)
{
	struct elisa_info info;

	memset(&info, 0xff, sizeof(info));
	elisa_host_info(h->lib, &info);
	return info;
}

/* ---- the guest's side ---- */

void guest_pages(struct tinyvm *vm, enum guest_return kind)
{
	uint8_t *x = tvm_mem(vm, TVM_GPA_X), *back = tvm_mem(vm, TVM_GPA_RETURN);

	memset(tvm_mem(vm, TVM_GPA_GATE), 0xcc, TVM_GATE_PAGES * 4096);
	memcpy(x + (ELISA_CALL_VA - ELISA_GATE_VA), page_entry,
	       (size_t)(page_entry_end - page_entry));
	if (kind == RETURN_RAW)
		memcpy(back, page_raw, (size_t)(page_raw_end - page_raw));
	else
		memcpy(back, page_return, (size_t)(page_return_end - page_return));
}

bool guest_call(struct tinyvm *vm, uint64_t op, uint64_t a1, uint64_t a2, uint64_t a3,
		struct guest_call *c)
{
	struct kvm_regs regs = {
		.rip = TVM_USER(TVM_GPA_CODE), .rsi = op, .rdx = a1, .r8 = a2, .r9 = a3,
		.rbx = ELISA_CALL_VA,
	};

	memset(c, 0, sizeof(*c));
	guest_pages(vm, RETURN_CALL);
	tvm_load(vm, TVM_GPA_CODE, prog_call, (size_t)(prog_call_end - prog_call));
	if (tvm_reset(vm, 0, 3, &regs) || tvm_run(vm, 0, &c->stop) || tvm_regs(vm, 0, &c->regs)) {
		note("guest_call: KVM failed");
		return false;
	}
	c->result = (int64_t)c->regs.rax;
	return c->stop.why == TVM_OUT && c->stop.port == PORT_DONE;
}

#define GPA_HANDLER	(TVM_GPA_CODE + 0x1000)
#define IDT_SYSCALL	0x80

struct tvm_stop guest_call_cr3(struct tinyvm *vm, uint64_t cr3)
{
	struct kvm_regs r = {
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_GATE_VA, .rbp = ELISA_GATE_VA,
		.r12 = ELISA_GUEST_VMFUNC_VA, .r13 = cr3, .rsi = SVC_ECHO,
	};
	struct tvm_stop stop = { .why = TVM_FAIL };
	uint8_t *x = tvm_mem(vm, TVM_GPA_X);

	guest_pages(vm, RETURN_RAW);
	x[0] = 0xc3;		/* RET: brings the page into the instruction TLB */
	tvm_load(vm, TVM_GPA_CODE, prog_cr3, (size_t)(prog_cr3_end - prog_cr3));
	tvm_load(vm, GPA_HANDLER, prog_set_cr3, (size_t)(prog_set_cr3_end - prog_set_cr3));
	tvm_set_handler(vm, IDT_SYSCALL, GPA_HANDLER);
	if (tvm_reset(vm, 0, 3, &r) || tvm_run(vm, 0, &stop))
		stop.why = TVM_FAIL;
	return stop;
}

void guest_make_global(struct tinyvm *vm, bool global)
{
	static const uint64_t bases[] = { 0, TVM_USER_BASE, ELISA_GATE_VA - 4096 };
	static const uint64_t lens[] = { TVM_RAM_MIN, TVM_RAM_MIN, TVM_GATE_PAGES * 4096 };

	for (int i = 0; i < 3; i++) {
		for (uint64_t off = 0; off < lens[i]; off += 4096) {
			uint64_t *pte = tvm_pte(vm, bases[i] + off);

			*pte = global ? *pte | TVM_PTE_G : *pte & ~TVM_PTE_G;
		}
	}
}

/* ---- the kernel's log ---- */

static int kmsg = -1;

int kmsg_mark(void)
{
	if (kmsg < 0)
		kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg < 0)
		return -errno;
	return lseek(kmsg, 0, SEEK_END) < 0 ? -errno : 0;
}

static bool bad_line(const char *record)
{
	static const char *const words[] = { "BUG", "WARNING", "Oops", "Call Trace", "RIP: 0010",
					     "general protection", "use-after-free", "leak" };
	const char *text = strchr(record, ';');
	long level = strtol(record, NULL, 10) & 7;

	if (!text)
		return false;
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strstr(text, words[i]))
			return true;
	/*
	 * The module tells of killed VMs as warnings, and KVM of registers that a monitor set and no
	 * processor takes: those are what the tests are for.
	 */
	return level <= 4 && !strstr(text, "elisa: ") && !strstr(text, "dump_invalid_vmcs") &&
	       !strstr(text, "dump_vmcs: ") && !strstr(text, "Unhandled WRMSR") &&
	       !strstr(text, "KVM: debugfs: duplicate");
}

int kmsg_bad(void)
{
	char record[2048];
	int bad = 0;

	for (;;) {
		ssize_t n = read(kmsg, record, sizeof(record) - 1);

		if (n < 0 && errno == EPIPE)	/* overwritten: the next one is readable */
			continue;
		if (n <= 0)
			return bad;
		record[n] = 0;
		if (!bad_line(record))
			continue;
		if (bad++ < 10)
			note("kernel: %.*s", (int)strcspn(record, "\n"), record);
	}
}

/* ---- physical memory ---- */

/*
 * /proc/kcore is an ELF core whose program headers say which physical range lies where in the
 * file (fs/proc/kcore.c gives p_paddr for the direct map).
 */
int phys_read(uint64_t hpa, void *to, size_t len)
{
	static Elf64_Phdr *phdrs;
	static unsigned int count;
	static int fd = -1;
	Elf64_Ehdr head;

	if (fd < 0) {
		fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
		if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head))
			return -EIO;
		phdrs = calloc(head.e_phnum, sizeof(*phdrs));
		if (!phdrs || pread(fd, phdrs, head.e_phnum * sizeof(*phdrs),
				    (off_t)head.e_phoff) < 0)
			return -EIO;
		count = head.e_phnum;
	}
	for (unsigned int i = 0; i < count; i++) {
		const Elf64_Phdr *p = &phdrs[i];

		if (p->p_type != PT_LOAD || p->p_paddr == (Elf64_Addr)-1 || hpa < p->p_paddr ||
		    hpa - p->p_paddr + len > p->p_memsz)
			continue;
		/* The kernel image has a physical address too: the direct map is far lower. */
		if (p->p_vaddr >= 0xffffffff80000000)
			continue;
		return pread(fd, to, len, (off_t)(p->p_offset + (hpa - p->p_paddr))) ==
		       (ssize_t)len ? 0 : -EIO;
	}
	return -EFAULT;
}

#define FRAME	0x000ffffffffff000ull

uint64_t ept_translate(uint64_t eptp, uint64_t gpa)
{
	uint64_t table = eptp & FRAME, e;

	for (int shift = 39; shift >= 12; shift -= 9) {
		uint64_t mask = (1ull << shift) - 1;

		if (phys_read(table + 8 * ((gpa >> shift) & 511), &e, sizeof(e)) || !(e & 7))
			return ~0ull;
		if (shift == 12 || (shift < 39 && e & 0x80))
			return (e & FRAME & ~mask) | (gpa & mask);
		table = e & FRAME;
	}
	return ~0ull;
}

uint64_t inside_translate(uint64_t eptp, uint64_t va)
{
	uint64_t root = ept_translate(eptp, 0), second, e;

	if (root == ~0ull || phys_read(root + 8 * ((va >> 39) & 511), &e, sizeof(e)) || !(e & 1))
		return ~0ull;
	second = ept_translate(eptp, e & FRAME);
	if (second == ~0ull || phys_read(second + 8 * ((va >> 30) & 511), &e, sizeof(e)) ||
	    !(e & 1))
		return ~0ull;
	return ept_translate(eptp, (e & FRAME & ~0x3fffffffull) | (va & 0x3fffffff));
}

/* ---- the gate's pages ---- */

uint64_t gate_eptp(struct tinyvm *vm)
{
	struct guest_call c;

	if (!guest_call(vm, SVC_READ, ELISA_LIST_VA + 8 * ELISA_SLOT_GATE, 0, 0, &c))
		return 0;
	return (uint64_t)c.result;
}

static uint64_t hash_page(uint64_t hash, uint64_t hpa)
{
	uint64_t page[512];

	if (phys_read(hpa, page, sizeof(page)))
		return 0;
	for (int i = 0; i < 512; i++)
		hash = (hash ^ page[i]) * 0x100000001b3;
	return hash;
}

static uint64_t gate_hash(const struct gate_pages *g)
{
	uint64_t hash = hash_page(1, g->eptp & 0xffffffffff000);

	hash = hash_page(hash, g->root);
	hash = hash_page(hash, g->second);
	return hash_page(hash, g->code);
}

bool gate_pages_find(struct tinyvm *vm, struct gate_pages *g)
{
	uint64_t e;

	g->eptp = gate_eptp(vm);
	g->list = inside_translate(g->eptp, ELISA_LIST_VA);
	g->code = inside_translate(g->eptp, ELISA_GATE_VA);
	g->root = ept_translate(g->eptp, 0);
	if (!g->eptp || g->list == ~0ull || g->code == ~0ull || g->root == ~0ull ||
	    phys_read(g->root + 8 * (ELISA_GATE_VA >> 39 & 511), &e, sizeof(e)))
		return false;
	g->second = ept_translate(g->eptp, e & 0xffffffffff000);
	g->hash = gate_hash(g);
	return g->second != ~0ull && g->hash;
}

bool gate_pages_sound(const struct gate_pages *g)
{
	uint64_t list[512];

	if (phys_read(g->list, list, sizeof(list)))
		return false;
	for (unsigned int i = 0; i < 512; i++) {
		switch (i) {
		case ELISA_SLOT_DEFAULT:
			break;
		case ELISA_SLOT_GATE:
			if (list[i] && list[i] != g->eptp)
				return false;
			break;
		case ELISA_SLOT_TRUSTED:
			if (list[i] & 0xff)
				return false;
			break;
		default:
			if (list[i])
				return false;
		}
	}
	return gate_hash(g) == g->hash;
}

/* ---- processes ---- */

int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	if (!d)
		return -errno;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3;	/* ".", "..", the directory itself */
}

static int find_kvm_fd(pid_t pid)
{
	char path[64], link[64];
	struct dirent *e;
	int found = -ENOENT;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	if (!d)
		return -errno;
	while (found < 0 && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (n < 0)
			continue;
		link[n] = 0;
		if (!strcmp(link, "anon_inode:kvm-vm"))
			found = atoi(e->d_name);
	}
	closedir(d);
	return found;
}

int steal_kvm_fd(pid_t pid)
{
	int fd = find_kvm_fd(pid), pidfd, got;

	if (fd < 0)
		return fd;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -errno;
	got = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (got < 0)
		got = -errno;
	close(pidfd);
	return got;
}
