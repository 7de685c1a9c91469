/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every way in which attaching a VM is refused, made to happen: through the library with the VMM's
 * pid, and straight through the module. Each says why in a sentence of its own.
 *
 *	vmx-refusals [--no-module]	with --no-module: what is said when elisa.ko is not loaded
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "tap.h"
#include "vmproc.h"

/* CPUID leaf 7, subleaf 0, and the others that matter: SDM vol. 2, CPUID. */
#define EBX7(c, s)	{ 7, 0, TVM_EBX, (c), (s) }
#define ECX7(c, s)	{ 7, 0, TVM_ECX, (c), (s) }
#define EDX7(c, s)	{ 7, 0, TVM_EDX, (c), (s) }
#define ECX1(c, s)	{ 1, 0, TVM_ECX, (c), (s) }
#define BIT(n)		(1u << (n))

struct cpuid_case {
	const char *name;
	uint32_t refusal;
	struct tvm_cpuid edit;
};

static const struct cpuid_case cpuid_cases[] = {
	{ "PCID visible", ELISA_REFUSE_GUEST_PCID, ECX1(0, BIT(17)) },
	{ "VMX visible (nested)", ELISA_REFUSE_GUEST_VMX, ECX1(0, BIT(5)) },
	{ "PKU visible", ELISA_REFUSE_GUEST_PKU, ECX7(0, BIT(3)) },
	{ "PKS visible", ELISA_REFUSE_GUEST_PKU, ECX7(0, BIT(31)) },
	{ "RTM visible", ELISA_REFUSE_GUEST_TSX, EBX7(0, BIT(11)) },
	{ "HLE visible", ELISA_REFUSE_GUEST_TSX, EBX7(0, BIT(4)) },
	{ "CET shadow stack visible", ELISA_REFUSE_GUEST_CET, ECX7(0, BIT(7)) },
	{ "CET branch tracking visible", ELISA_REFUSE_GUEST_CET, EDX7(0, BIT(20)) },
	{ "user interrupts visible", ELISA_REFUSE_GUEST_UINTR, EDX7(0, BIT(5)) },
	{ "5-level paging visible", ELISA_REFUSE_GUEST_LA57, ECX7(0, BIT(16)) },
	{ "Intel PT visible", ELISA_REFUSE_GUEST_PT, EBX7(0, BIT(25)) },
	{ "vPMU on", ELISA_REFUSE_GUEST_VPMU, { 0xa, 0, TVM_EAX, 0, 2 } },
	{ "debug store visible", ELISA_REFUSE_GUEST_VPMU, { 1, 0, TVM_EDX, 0, BIT(21) } },
	{ "no NX", ELISA_REFUSE_GUEST_NO_LM, { 0x80000001, 0, TVM_EDX, BIT(20), 0 } },
	{ "no SMEP", ELISA_REFUSE_GUEST_NO_SMEP, EBX7(BIT(7), 0) },
	{ "no SMAP", ELISA_REFUSE_GUEST_NO_SMAP, EBX7(BIT(20), 0) },
	{ "no FSGSBASE", ELISA_REFUSE_GUEST_NO_FSGSBASE, EBX7(BIT(0), 0) },
	{ "no AVX", ELISA_REFUSE_GUEST_NO_AVX, ECX1(BIT(28), 0) },
	{ "no AVX2", ELISA_REFUSE_GUEST_NO_AVX, EBX7(BIT(5), 0) },
	{ "no PCLMULQDQ", ELISA_REFUSE_GUEST_NO_AVX, ECX1(BIT(1), 0) },
};

#define MAX_SENTENCES	32
static struct sentence {
	uint32_t refusal;
	char text[256];
} sentences[MAX_SENTENCES];
static unsigned int sentence_count;

static struct host host;
static int raw_context = -1;

static void remember(uint32_t refusal, const char *text)
{
	for (unsigned int i = 0; i < sentence_count; i++)
		if (sentences[i].refusal == refusal)
			return;
	if (sentence_count == MAX_SENTENCES)
		return;
	sentences[sentence_count].refusal = refusal;
	snprintf(sentences[sentence_count++].text, sizeof(sentences->text), "%s", text);
}

/* A refusal came (or did not): the row of the table, and its check. */
static void expect(const char *what, int rc, const struct elisa_why *why, uint32_t refusal)
{
	char text[256];
	bool good = rc == -EPERM && why->refusal == refusal;

	elisa_why_text(why, text, sizeof(text));
	ok(good && strlen(text) > 20, "%-28s | %-16s | %s", what, elisa_refusal_name(why->refusal),
	   text);
	if (!good)
		note("expected %s; the call returned %s", elisa_refusal_name(refusal),
		     rc < 0 ? strerror(-rc) : "success");
	remember(why->refusal, text);
}

/* ---- straight through the module ---- */

static int open_raw_context(void)
{
	struct elisa_context_create create = {
		.list_gpa = host.info.window_gpa + (1ull << 30),
		.desc_gpa = host.info.window_gpa + (1ull << 30) + 4096,
	};
	void *root = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int device = open("/dev/elisa", O_RDWR | O_CLOEXEC), fd;

	if (root == MAP_FAILED || device < 0)
		return -errno;
	memset(root, 0, 4096);
	create.root = (uintptr_t)root;
	fd = ioctl(device, ELISA_CONTEXT_CREATE, &create);
	if (fd < 0)
		fd = -errno;
	close(device);
	return fd;
}

static int raw_attach(int kvm_fd, uint32_t flags, struct elisa_why *why)
{
	struct elisa_ctx_attach attach = { .kvm_fd = kvm_fd, .flags = flags };
	int fd = ioctl(raw_context, ELISA_CTX_ATTACH, &attach);

	if (fd < 0)
		fd = -errno;
	*why = (struct elisa_why){ attach.refusal, attach.detail };
	return fd;
}

static void expect_raw(const char *what, int kvm_fd, uint32_t flags, uint32_t refusal)
{
	struct elisa_why why;
	int fd = raw_attach(kvm_fd, flags, &why);

	if (!ok(fd == -EPERM && why.refusal == refusal, "%s, by ioctl: %s", what,
		elisa_refusal_name(why.refusal)))
		note("returned %s", fd < 0 ? strerror(-fd) : "a descriptor");
	if (fd >= 0)
		close(fd);
}

/* ---- VMs ---- */

static struct tvm_config plain(void)
{
	return (struct tvm_config){ .ram = TVM_GPA_FREE, .vcpus = 1 };
}

/* Starts a VM, tries to attach it in both ways, ends it. `raw`: the module itself refuses. */
static void try_vm(const char *what, const struct tvm_config *config, unsigned int vms,
		   uint32_t flags, uint32_t refusal, bool raw)
{
	struct elisa_why why = { 0 };
	struct elisa_vm *vm = NULL;
	struct vmproc p;
	int rc = vmproc_start(&p, config, vms);

	if (rc) {
		ok(false, "%s: the VM did not start: %s", what, strerror(-rc));
		return;
	}
	rc = elisa_vm_attach(host.ctx, p.pid, flags, &why, &vm);
	expect(what, rc, &why, refusal);
	if (!rc)
		elisa_vm_detach(vm, 1000);
	if (raw) {
		int fd = steal_kvm_fd(p.pid);

		if (ok(fd >= 0, "%s: KVM descriptor", what))
			expect_raw(what, fd, flags, refusal);
		close(fd);
	}
	vmproc_free(&p);
}

static void test_cpuid(void)
{
	for (size_t i = 0; i < sizeof(cpuid_cases) / sizeof(*cpuid_cases); i++) {
		struct tvm_config config = plain();

		config.cpuids = 1;
		config.cpuid[0] = cpuid_cases[i].edit;
		try_vm(cpuid_cases[i].name, &config, 1, ELISA_VM_FORCE_CPU, cpuid_cases[i].refusal,
		       true);
	}
}

static void test_vm(void)
{
	const uint32_t force = ELISA_VM_FORCE_CPU;
	struct tvm_config config = plain();

	config.vcpus = 0;
	try_vm("no vCPU", &config, 1, force, ELISA_REFUSE_NO_VCPU, true);
	config = plain();
	config.flags = TVM_NO_IRQCHIP;
	try_vm("no in-kernel APIC", &config, 1, force, ELISA_REFUSE_NO_IRQCHIP, true);
	config = plain();
	config.flags = TVM_DIRTY_RING;
	try_vm("a dirty ring", &config, 1, force, ELISA_REFUSE_LOGGED, true);
	config = plain();
	config.extra_gpa = host.info.window_gpa;
	config.extra = 2ul << 20;
	try_vm("RAM in the window", &config, 1, force, ELISA_REFUSE_RAM_IN_WINDOW, true);
	config.extra_gpa = host.info.window_gpa - (1ul << 20);
	try_vm("RAM that reaches into it", &config, 1, force, ELISA_REFUSE_RAM_IN_WINDOW, true);
	config = plain();
	config.flags = TVM_PRIVATE_RAM;
	config.extra_gpa = 1ul << 30;
	config.extra = 128ul << 20;
	try_vm("memory not shared", &config, 1, force, ELISA_REFUSE_NOT_SHARED, false);
	config = plain();
	try_vm("several VMs in one process", &config, 2, force, ELISA_REFUSE_MANY_VMS, false);
	try_vm("no KVM descriptor", &config, 0, force, ELISA_REFUSE_NO_KVM, false);
	if (host.info.cpu_bugs)
		try_vm("CPU bugs, not forced", &config, 1, 0, ELISA_REFUSE_HOST_CPU_BUGS, true);
	else
		note("this CPU has none of L1TF, MDS, TAA: that refusal cannot be shown here");
}

static void test_attached_already(void)
{
	struct tvm_config config = plain();
	struct elisa_vm *vm = NULL, *second = NULL;
	struct elisa_why why = { 0 };
	struct vmproc p;
	int rc = vmproc_start(&p, &config, 1), fd;

	if (!ok(!rc && !host_attach(&host, p.pid, 1, 0, &vm), "a VM without fault is attached"))
		return;
	rc = elisa_vm_attach(host.ctx, p.pid, ELISA_VM_FORCE_CPU, &why, &second);
	expect("attached already", rc, &why, ELISA_REFUSE_ALREADY_ATTACHED);
	fd = steal_kvm_fd(p.pid);
	expect_raw("attached already", fd, ELISA_ATTACH_FORCE_CPU, ELISA_REFUSE_ALREADY_ATTACHED);
	elisa_vm_detach(vm, 1000);
	ok(!host_attach(&host, p.pid, 1, 0, &vm), "detached, it can be attached again");
	elisa_vm_detach(vm, 1000);
	/* Its last descriptor but ours is gone with the process. */
	vmproc_free(&p);
	rc = raw_attach(fd, ELISA_ATTACH_FORCE_CPU, &why);
	ok(rc == -EPERM && (why.refusal == ELISA_REFUSE_VM_DEAD ||
			    why.refusal == ELISA_REFUSE_NO_VCPU),
	   "a VM whose process is gone: %s", elisa_refusal_name(why.refusal));
	if (rc >= 0)
		close(rc);
	close(fd);
}

static void test_processes(void)
{
	struct elisa_why why = { 0 };
	struct elisa_vm *vm;
	pid_t gone = fork();
	int rc;

	if (!gone)
		_exit(0);
	usleep(100000);
	waitpid(gone, NULL, 0);
	rc = elisa_vm_attach(host.ctx, gone, ELISA_VM_FORCE_CPU, &why, &vm);
	expect("no such process", rc, &why, ELISA_REFUSE_NO_PROCESS);
	rc = elisa_vm_attach(host.ctx, getpid(), ELISA_VM_FORCE_CPU, &why, &vm);
	expect("a process without KVM", rc, &why, ELISA_REFUSE_NO_KVM);
}

/* Descriptors that are no VM's. */
static void test_descriptors(void)
{
	struct elisa_why why = { .refusal = ELISA_REFUSE_NOT_KVM };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int fds[2], rc;

	if (!ok(null >= 0 && kvm >= 0 && !pipe2(fds, O_CLOEXEC), "descriptors to try"))
		return;
	rc = raw_attach(null, ELISA_ATTACH_FORCE_CPU, &why);
	expect("/dev/null as the VM", rc, &why, ELISA_REFUSE_NOT_KVM);
	expect_raw("/dev/kvm itself as the VM", kvm, ELISA_ATTACH_FORCE_CPU, ELISA_REFUSE_NOT_KVM);
	expect_raw("a pipe as the VM", fds[0], ELISA_ATTACH_FORCE_CPU, ELISA_REFUSE_NOT_KVM);
	expect_raw("the context as the VM", raw_context, ELISA_ATTACH_FORCE_CPU,
		   ELISA_REFUSE_NOT_KVM);
	rc = raw_attach(-1, ELISA_ATTACH_FORCE_CPU, &why);
	ok(rc == -EBADF || (rc == -EPERM && why.refusal == ELISA_REFUSE_NOT_KVM),
	   "no descriptor at all: %s", rc == -EPERM ? "not-kvm" : strerror(-rc));
	close(null);
	close(kvm);
	close(fds[0]);
	close(fds[1]);
}

static void check_sentences(void)
{
	unsigned int same = 0;

	for (unsigned int i = 0; i < sentence_count; i++) {
		for (unsigned int j = 0; j < i; j++) {
			if (strcmp(sentences[i].text, sentences[j].text))
				continue;
			same++;
			note("refusals %u and %u say the same", sentences[i].refusal,
			     sentences[j].refusal);
		}
	}
	ok(!same && sentence_count >= 20, "%u reasons, %u sentences alike", sentence_count, same);
}

static int without_module(void)
{
	struct elisa_why why = { .refusal = ELISA_REFUSE_NO_MODULE };
	struct elisa_host *lib;
	int rc = elisa_host_open(&lib);
	char text[256];

	ok(rc == -ENOENT, "elisa_host_open() without the module: %s", strerror(-rc));
	elisa_why_text(&why, text, sizeof(text));
	ok(strstr(text, "/dev/elisa") != NULL, "%-28s | %-16s | %s", "module missing",
	   elisa_refusal_name(why.refusal), text);
	if (!rc)
		elisa_host_close(lib);
	return tap_done();
}

int main(int argc, char **argv)
{
	struct elisa_info info;

	vmproc_main(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "--no-module"))
		return without_module();
	if (!ok(!kmsg_mark(), "kernel log opened") || !ok(!host_open(&host), "service realized"))
		return tap_done();
	raw_context = open_raw_context();
	if (!ok(raw_context >= 0, "a bare context: %s",
		raw_context < 0 ? strerror(-raw_context) : "made"))
		return tap_done();
	test_processes();
	test_descriptors();
	test_cpuid();
	test_vm();
	test_attached_already();
	remember(ELISA_REFUSE_NO_MODULE,
		 elisa_why_text(&(struct elisa_why){ ELISA_REFUSE_NO_MODULE, 0 }, (char[256]){ 0 },
				256));
	check_sentences();
	close(raw_context);
	info = host_info(&host);
	ok(!info.vms && info.contexts == 1, "no VM is left (%llu), one context (%llu)", info.vms,
	   info.contexts);
	host_close(&host);
	ok(!kmsg_bad(), "the host's kernel log is clean");
	return tap_done();
}
