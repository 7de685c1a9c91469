/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Births and deaths while calls run: VMs, vCPUs, attachments, exports, the owner of the context,
 * the module. Two VMs with two vCPUs each, in processes of their own, call all the time; "A" is the
 * bystander who must lose nothing, "B" the one to whom things happen.
 *
 *	vmx-lifetime [--module FILE] [--loops N] [TEST...]	FILE: elisa.ko, to unload and load it
 *								again; only these tests
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "programs.h"
#include "tap.h"
#include "vmproc.h"

#define VCPUS		2
#define LONG_SPIN	100000000ul	/* rounds of five instructions: seconds in the lab */
#define WAIT_S		20.0

enum { A, B, VMS };

static struct vmproc vms[VMS];
static struct elisa_vm *attached[VMS];
static struct host host;
static const char *module_file;

/* ---- looking ---- */

static uint64_t word(unsigned int vm, unsigned int which)
{
	uint64_t sum = 0;

	for (unsigned int v = 0; v < VCPUS; v++)
		sum += *vmproc_word(&vms[vm], v, which);
	return sum;
}

static uint64_t unattached(unsigned int vm)
{
	return vms[vm].control->vcpu[0].unattached + vms[vm].control->vcpu[1].unattached;
}

static uint64_t shutdowns(unsigned int vm)
{
	return vms[vm].control->vcpu[0].shutdowns + vms[vm].control->vcpu[1].shutdowns;
}

/* Every vCPU of the VM has made some calls since. */
static bool progress(unsigned int vm)
{
	uint64_t before[VCPUS];
	double end = seconds() + WAIT_S;
	unsigned int moving;

	for (unsigned int v = 0; v < VCPUS; v++)
		before[v] = *vmproc_word(&vms[vm], v, WORD_CALLS);
	do {
		usleep(5000);
		moving = 0;
		for (unsigned int v = 0; v < VCPUS; v++)
			moving += *vmproc_word(&vms[vm], v, WORD_CALLS) > before[v] + 20;
	} while (moving < VCPUS && seconds() < end);
	return moving == VCPUS;
}

static bool wait_above(uint64_t (*value)(unsigned int), unsigned int vm, uint64_t than)
{
	double end = seconds() + WAIT_S;

	while (value(vm) <= than && seconds() < end)
		usleep(2000);
	return value(vm) > than;
}

static uint64_t away(unsigned int vm)
{
	return word(vm, WORD_AWAY);
}

/* A's record: it must not change over what happens to B. */
struct record {
	uint64_t calls, away, errors, unattached, shutdowns;
};

static struct record record_of(unsigned int vm)
{
	return (struct record){ word(vm, WORD_CALLS), word(vm, WORD_AWAY), word(vm, WORD_ERRORS),
				unattached(vm), shutdowns(vm) };
}

static void check_bystander(const struct record *before, const char *what)
{
	struct record now = record_of(A);

	ok(progress(A) && now.away == before->away && now.errors == before->errors &&
	   now.unattached == before->unattached && now.shutdowns == before->shutdowns,
	   "%s: A lost nothing (%lu calls meanwhile; %lu away, %lu errors, %lu unattached, "
	   "%lu deaths)", what, now.calls - before->calls, now.away - before->away,
	   now.errors - before->errors, now.unattached - before->unattached,
	   now.shutdowns - before->shutdowns);
}

/* ---- doing ---- */

static bool start_vm(unsigned int vm)
{
	struct tvm_config config = { .ram = TVM_GPA_FREE, .vcpus = VCPUS };
	int err = vmproc_start(&vms[vm], &config, 1);

	if (err) {
		note("VM %u: %s", vm, strerror(-err));
		return false;
	}
	vmproc_set_op(&vms[vm], SVC_ECHO, 5);
	vms[vm].control->run = 1;
	return true;
}

static int attach_vm(unsigned int vm)
{
	return host_attach(&host, vms[vm].pid, VCPUS, vm, &attached[vm]);
}

static void detach_vm(unsigned int vm)
{
	elisa_vm_detach(attached[vm], 2000);
	attached[vm] = NULL;
}

static struct elisa_vm_status status_of(unsigned int vm)
{
	struct elisa_vm_status s;

	memset(&s, 0, sizeof(s));
	elisa_vm_status(attached[vm], &s);
	return s;
}

static bool wait_state(unsigned int vm, uint32_t state)
{
	double end = seconds() + WAIT_S;

	while (!(status_of(vm).state & state) && seconds() < end)
		usleep(5000);
	return status_of(vm).state & state;
}

/* ---- the tests ---- */

static void test_loops(unsigned int loops)
{
	struct record before = record_of(A);
	struct elisa_info first, last;
	unsigned int broken = 0, silent = 0;

	detach_vm(B);
	first = host_info(&host);
	for (unsigned int i = 0; i < loops && broken < 3; i++) {
		uint64_t calls = word(B, WORD_CALLS);
		double end;

		if (attach_vm(B)) {
			broken++;
			continue;
		}
		/* Some turns with calls under way, some at once. */
		end = seconds() + WAIT_S;
		while (i % 4 && word(B, WORD_CALLS) < calls + 10 && seconds() < end)
			usleep(1000);
		silent += i % 4 && word(B, WORD_CALLS) < calls + 10;
		detach_vm(B);
	}
	last = host_info(&host);
	ok(!broken && !silent, "B detached and attached %u times under calls (%u failed, %u "
	   "without calls)", loops, broken, silent);
	ok(first.pinned_pages == last.pinned_pages, "pinned pages before and after: %llu, %llu",
	   first.pinned_pages, last.pinned_pages);
	ok(!word(B, WORD_ERRORS) && !shutdowns(B), "B: no error, no death");
	ok(!attach_vm(B) && progress(B), "B attached, both vCPUs call");
	check_bystander(&before, "attach and detach of B");
}

static void test_disarm(void)
{
	struct record before = record_of(A);
	unsigned int broken = 0;
	uint64_t zero;

	for (unsigned int i = 0; i < 50; i++) {
		broken += elisa_vm_disarm(attached[B], 1, 2000) != 0;
		zero = *vmproc_word(&vms[B], 0, WORD_CALLS);
		while (i % 10 == 0 && *vmproc_word(&vms[B], 0, WORD_CALLS) < zero + 10)
			usleep(1000);
		broken += elisa_vm_arm(attached[B], 1, &host.arena->vm[B]) != 0;
	}
	ok(!broken && progress(B), "vCPU 1 of B disarmed and armed 50 times under calls");
	ok(elisa_vm_disarm(attached[B], 7, 100) == -ENOENT, "disarming a vCPU that is not: ENOENT");
	ok(elisa_vm_arm(attached[B], 1, NULL) == -EBUSY, "arming one that is: EBUSY");
	check_bystander(&before, "disarm and arm in B");
}

static void test_exports(void)
{
	const size_t len = 64 * 4096;
	struct record before = record_of(A);
	unsigned int broken = 0;
	struct elisa_info first = host_info(&host), last;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!ok(p != MAP_FAILED, "memory to export"))
		return;
	memset(p, 1, len);
	for (unsigned int i = 0; i < 100; i++) {
		broken += elisa_export(host.ctx, p, len, ELISA_R | ELISA_W) != 0;
		broken += elisa_unexport(host.ctx, p, len) != 0;
	}
	last = host_info(&host);
	ok(!broken, "exported and unexported 100 times under calls");
	ok(first.pinned_pages == last.pinned_pages, "pinned pages before and after: %llu, %llu",
	   first.pinned_pages, last.pinned_pages);
	munmap(p, len);
	check_bystander(&before, "exports");
	ok(progress(B), "B goes on");
}

/* B's service reads what is not exported: B dies, is reported, is attached anew. */
static void test_fault(void)
{
	struct record before = record_of(A);
	struct pollfd fd = { .fd = elisa_vm_fd(attached[B]), .events = POLLIN };
	struct elisa_vm_status s;
	uint64_t deaths = shutdowns(B);
	int rc;

	vmproc_set_op(&vms[B], SVC_READ, (uintptr_t)host.hidden);
	rc = poll(&fd, 1, 20000);
	ok(rc == 1 && fd.revents & POLLERR, "B's fault: poll() says so (0x%x)",
	   (unsigned int)fd.revents);
	s = status_of(B);
	ok(s.state & ELISA_VM_KILLED && s.kill == ELISA_KILL_EXIT && s.kill_code == 48,
	   "B is killed for an EPT violation (%s, %llu)", elisa_kill_name(s.kill), s.kill_code);
	vmproc_set_op(&vms[B], SVC_ECHO, 5);
	ok(wait_above(shutdowns, B, deaths), "B's monitor saw a shutdown");
	detach_vm(B);
	ok(!attach_vm(B) && progress(B), "B is attached anew and calls");
	check_bystander(&before, "a fault in B");
}

/* Brings B's vCPUs into a call that takes long. */
static bool b_spins(uint64_t rounds)
{
	uint64_t spins = host.arena->vm[B].spins;
	double end = seconds() + WAIT_S;

	vmproc_set_op(&vms[B], SVC_SPIN, rounds);
	while (host.arena->vm[B].spins < spins + VCPUS && seconds() < end)
		usleep(2000);
	return host.arena->vm[B].spins >= spins + VCPUS;
}

static void test_paused(void)
{
	struct record before = record_of(A);
	struct elisa_why why = { 0 };
	uint64_t deaths = shutdowns(B);
	struct elisa_vm *vm;
	double start, took;
	int rc;

	ok(b_spins(LONG_SPIN), "B is in long calls");
	kill(vms[B].pid, SIGSTOP);
	usleep(50000);
	ok(status_of(B).inside > 0, "B's process is stopped, %u vCPUs inside", status_of(B).inside);
	start = seconds();
	elisa_vm_detach(attached[B], 200);
	took = seconds() - start;
	attached[B] = NULL;
	ok(took < 2.0, "detach gives up on it within its time (%.2f s)", took);
	rc = elisa_vm_attach(host.ctx, vms[B].pid, ELISA_VM_FORCE_CPU, &why, &vm);
	ok(rc == -EPERM && why.refusal == ELISA_REFUSE_LEAVING, "attach meanwhile: %s",
	   elisa_refusal_name(why.refusal));
	if (!rc)
		elisa_vm_detach(vm, 100);
	vmproc_set_op(&vms[B], SVC_ECHO, 5);
	kill(vms[B].pid, SIGCONT);
	ok(wait_above(shutdowns, B, deaths), "continued, its calls are ended by death");
	start = seconds();
	do {
		usleep(20000);
		rc = elisa_vm_attach(host.ctx, vms[B].pid, ELISA_VM_FORCE_CPU, &why, &vm);
	} while (rc == -EPERM && why.refusal == ELISA_REFUSE_LEAVING && seconds() - start < WAIT_S);
	if (!rc)
		elisa_vm_detach(vm, 100);
	ok(!rc && !attach_vm(B) && progress(B), "and it can be attached again, after %.2f s",
	   seconds() - start);
	check_bystander(&before, "a VM paused inside");
}

/* Calls that end within a detach's patience are let end. */
static void test_detach_under_way(void)
{
	struct record before = record_of(A);
	uint64_t deaths = shutdowns(B), returned;

	ok(b_spins(2000000), "B is in calls of a tenth of a second");
	returned = host.arena->vm[B].returned;
	elisa_vm_detach(attached[B], 5000);
	attached[B] = NULL;
	ok(shutdowns(B) == deaths && host.arena->vm[B].returned > returned,
	   "detach let them end (%lu deaths)", shutdowns(B) - deaths);
	vmproc_set_op(&vms[B], SVC_ECHO, 5);
	ok(wait_above(unattached, B, unattached(B)), "then B finds itself not attached");
	ok(!attach_vm(B) && progress(B), "and attached again");
	check_bystander(&before, "detach with calls under way");
}

/* B's monitor copies its memory, as for a migration: nothing that was written inside is missed. */
static void test_logged(void)
{
	const int pages = TVM_GPA_FREE / 4096;
	struct record before = record_of(A);
	struct pollfd fd = { .fd = elisa_vm_fd(attached[B]), .events = POLLIN };
	struct elisa_why why = { 0 };
	struct elisa_vm *vm;
	int rc, dirty;

	status_of(B);
	ok(!(status_of(B).state & (ELISA_VM_MEMORY | ELISA_VM_LOGGED)), "B's memory is not logged");
	ok(vmproc_log(&vms[B], LOG_ON) == 0, "B's monitor logs writes");
	rc = poll(&fd, 1, 20000);
	ok(rc == 1 && fd.revents & POLLIN, "poll() says so (0x%x)", (unsigned int)fd.revents);
	ok(status_of(B).state & ELISA_VM_LOGGED, "and its status");
	vmproc_log(&vms[B], LOG_READ);
	ok(progress(B), "B goes on");
	dirty = vmproc_log(&vms[B], LOG_READ);
	ok(dirty > 0 && dirty < pages / 2, "KVM saw writes to %d of %d pages", dirty, pages);
	detach_vm(B);
	dirty = vmproc_log(&vms[B], LOG_READ);
	ok(dirty == pages, "after detach all pages are to be copied again (%d)", dirty);
	rc = elisa_vm_attach(host.ctx, vms[B].pid, ELISA_VM_FORCE_CPU, &why, &vm);
	ok(rc == -EPERM && why.refusal == ELISA_REFUSE_LOGGED, "attach meanwhile: %s",
	   elisa_refusal_name(why.refusal));
	if (!rc)
		elisa_vm_detach(vm, 100);
	ok(vmproc_log(&vms[B], LOG_OFF) == 0 && !attach_vm(B) && progress(B),
	   "the copy ended, B is attached again");
	check_bystander(&before, "logging in B");
}

static void test_killed_vm(void)
{
	struct record before = record_of(A);
	struct pollfd fd = { .events = POLLIN };
	struct elisa_info first = host_info(&host), last;
	int rc;

	ok(b_spins(LONG_SPIN), "B is in long calls");
	fd.fd = elisa_vm_fd(attached[B]);
	vmproc_kill(&vms[B]);
	rc = poll(&fd, 1, 20000);
	ok(rc == 1 && fd.revents & POLLHUP, "B killed -9 inside: poll() says gone (0x%x)",
	   (unsigned int)fd.revents);
	ok(wait_state(B, ELISA_VM_GONE), "and so does its status");
	detach_vm(B);
	check_bystander(&before, "B killed -9 inside");
	vmproc_free(&vms[B]);
	ok(start_vm(B) && !attach_vm(B) && progress(B), "a new B is attached and calls");
	last = host_info(&host);
	ok(first.pinned_pages == last.pinned_pages && last.vms == VMS,
	   "pinned pages %llu, %llu; VMs %llu", first.pinned_pages, last.pinned_pages, last.vms);
}

/* ---- the owner's death ---- */

static struct elisa_info module_info(void)
{
	struct elisa_host *lib;
	struct elisa_info info;

	memset(&info, 0xff, sizeof(info));
	if (elisa_host_open(&lib))
		return info;
	elisa_host_info(lib, &info);
	elisa_host_close(lib);
	return info;
}

static void kill_owner(pid_t owner)
{
	kill(owner, SIGKILL);
	waitpid(owner, NULL, 0);
}

static void test_owner(void)
{
	pid_t owner = owner_start(vms, VMS, VCPUS);
	uint64_t was_away[VMS], deaths[VMS], none[VMS];

	if (!ok(owner > 0 && progress(A) && progress(B), "another process owns a context; A and B "
		"call"))
		return;
	for (unsigned int i = 0; i < VMS; i++) {
		was_away[i] = away(i);
		deaths[i] = shutdowns(i);
	}
	kill_owner(owner);
	ok(wait_above(away, A, was_away[A]) && wait_above(away, B, was_away[B]),
	   "owner killed -9: both are told ESHUTDOWN");
	ok(shutdowns(A) == deaths[A] && shutdowns(B) == deaths[B], "and live");
	none[A] = unattached(A);
	usleep(50000);
	ok(unattached(A) == none[A], "away is not the same as not attached");
	owner = owner_start(vms, VMS, VCPUS);
	ok(owner > 0 && progress(A) && progress(B), "a new owner: both call again");
	/* In the middle of long calls. */
	vmproc_set_op(&vms[A], SVC_SPIN, 500000);
	vmproc_set_op(&vms[B], SVC_SPIN, 500000);
	usleep(30000);
	was_away[A] = away(A);
	kill_owner(owner);
	ok(wait_above(away, A, was_away[A]), "killed -9 within long calls: ESHUTDOWN");
	ok(shutdowns(A) == deaths[A] && shutdowns(B) == deaths[B], "calls under way ended first");
	vmproc_set_op(&vms[A], SVC_ECHO, 5);
	vmproc_set_op(&vms[B], SVC_ECHO, 5);
	for (int i = 0; i < 10; i++) {
		owner = owner_start(vms, VMS, VCPUS);
		if (owner > 0)
			kill_owner(owner);
		else
			break;
	}
	ok(owner > 0, "ten owners more, each killed -9");
	owner = owner_start(vms, VMS, VCPUS);
	ok(owner > 0 && progress(A) && progress(B), "and one that stays");
	kill(owner, SIGTERM);
	waitpid(owner, NULL, 0);
	none[A] = unattached(A);
	ok(wait_above(unattached, A, none[A]), "it detaches in order: not attached");
	ok(!module_info().contexts && !module_info().pinned_pages, "no context, no pinned page");
}

/* ---- the module ---- */

static int unload(void)
{
	return syscall(SYS_delete_module, "elisa", O_NONBLOCK) ? -errno : 0;
}

static int load(void)
{
	int fd = open(module_file, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = (int)syscall(SYS_finit_module, fd, "", 0);
	if (rc)
		rc = -errno;
	close(fd);
	return rc;
}

static void test_rmmod(void)
{
	pid_t owner = owner_start(vms, VMS, VCPUS);
	uint64_t seen;
	int rc = -EAGAIN, cycles = 0;

	ok(owner > 0 && progress(A), "a context is in use");
	rc = unload();
	ok(rc == -EAGAIN || rc == -EBUSY || rc == -EWOULDBLOCK, "unloading then: %s",
	   strerror(-rc));
	kill_owner(owner);
	/* VMs away: either it stays, or it goes and leaves them "not attached". */
	for (int i = 0; i < 100 && unload(); i++)
		usleep(50000);
	seen = unattached(A);
	ok(wait_above(unattached, A, seen), "unloaded with VMs away: they are not attached");
	ok(access("/dev/elisa", F_OK) && errno == ENOENT, "the device is gone");
	ok(!shutdowns(A), "A lives (%lu deaths)", shutdowns(A));
	for (int i = 0; i < 10; i++) {
		rc = load();
		owner = rc ? -1 : owner_start(vms, VMS, VCPUS);
		if (owner <= 0 || !progress(B))
			break;
		kill_owner(owner);
		for (int j = 0; j < 100 && (rc = unload()); j++)
			usleep(20000);
		if (rc)
			break;
		cycles++;
	}
	ok(cycles == 10, "loaded, used, owner killed -9, unloaded: %d times of 10 (%s)", cycles,
	   strerror(-rc));
	ok(!load(), "loaded again");
}

/* ---- all ---- */

static bool set_up(void)
{
	if (!ok(!host_open(&host), "service realized"))
		return false;
	for (unsigned int i = 0; i < VMS; i++)
		if (!ok(start_vm(i) && wait_above(unattached, i, 0), "VM %u runs, not attached", i))
			return false;
	for (unsigned int i = 0; i < VMS; i++)
		if (!ok(!attach_vm(i) && progress(i), "VM %u attached, both vCPUs call", i))
			return false;
	return true;
}

static const struct {
	const char *name;
	void (*run)(void);
} own[] = {
	{ "fault", test_fault },   { "disarm", test_disarm },
	{ "exports", test_exports }, { "detach", test_detach_under_way },
	{ "paused", test_paused }, { "logged", test_logged },
	{ "killed", test_killed_vm },
};

static char **named;	/* NULL-terminated; the first NULL: all */

static bool wanted(const char *test)
{
	for (char **n = named; *n; n++)
		if (!strcmp(*n, test))
			return true;
	return !*named;
}

static void with_own_context(unsigned int loops)
{
	if (!set_up())
		return;
	for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
		if (wanted(own[i].name))
			own[i].run();
	if (wanted("loops"))
		test_loops(loops);
	for (unsigned int i = 0; i < VMS; i++)
		if (attached[i])
			detach_vm(i);
	host_close(&host);
}

static void parse(int argc, char **argv, unsigned int *loops)
{
	static const struct option options[] = {
		{ "module", required_argument, NULL, 'm' },
		{ "loops", required_argument, NULL, 'l' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'm')
			module_file = optarg;
		else if (c == 'l')
			*loops = (unsigned int)strtoul(optarg, NULL, 0);
		else
			exit(2);
	}
	named = argv + optind;
}

int main(int argc, char **argv)
{
	unsigned int loops = 200;
	struct elisa_info info;
	int fds;

	vmproc_main(argc, argv);
	parse(argc, argv, &loops);
	if (!ok(!kmsg_mark(), "kernel log opened"))
		return tap_done();
	fds = count_fds();
	with_own_context(loops);
	info = module_info();
	ok(!info.contexts && !info.pinned_pages, "after the context: %llu contexts, %llu pinned "
	   "pages", info.contexts, info.pinned_pages);
	if (vms[A].pid > 0 && vms[B].pid > 0) {
		if (wanted("owner"))
			test_owner();
		if (module_file && wanted("rmmod"))
			test_rmmod();
	}
	for (unsigned int i = 0; i < VMS; i++)
		if (vms[i].pid > 0)
			vmproc_free(&vms[i]);
	for (int i = 0; i < 100 && module_info().vms; i++)
		usleep(50000);
	info = module_info();
	ok(!info.vms && !info.contexts && !info.pinned_pages,
	   "at the end: %llu VMs, %llu contexts, %llu pinned pages", info.vms, info.contexts,
	   info.pinned_pages);
	ok(count_fds() == fds, "descriptors: %d, as at the start %d", count_fds(), fds);
	ok(!kmsg_bad(), "the host's kernel log is clean");
	return tap_done();
}
