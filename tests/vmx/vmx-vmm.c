/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile monitor: it stops its vCPU inside, changes whatever KVM lets it change, and lets it go
 * on; and it changes memory slots meanwhile. Each try ends in one of two ways: the call goes on as
 * if nothing had been, or the VM dies for the right reason. What the service holds in its registers
 * is seen neither by the monitor nor anywhere in the guest's memory.
 *
 *	vmx-vmm [--tries N] [--bad N] [--only ROW]	of what is random, in each group; bad ones
 *							after which a group ends
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#include "programs.h"
#include "tap.h"
#include "vmm.h"

#define DETACH_MS 2000
#define ALARM_US  1000
#define NOTES_MAX 12 /* for each group */

struct host host;
struct tinyvm *vm;
struct elisa_vm *attached;

static uint64_t fingerprint, rounds;
static unsigned int bad_max = ~0u;

int vcpu_ioctl(unsigned long request, void *arg)
{
	return ioctl(tvm_vcpu_fd(vm, 0), request, arg) < 0 ? -errno : 0;
}

int vm_ioctl(unsigned long request, void *arg)
{
	return ioctl(tvm_fd(vm), request, arg) < 0 ? -errno : 0;
}

/* ---- the VM ---- */

bool fresh_vm(void)
{
	struct tvm_config config = { .vcpus = 1, .ram = TVM_RAM_MIN };

	alarm_in(0);
	if (attached)
		elisa_vm_detach(attached, DETACH_MS);
	attached = NULL;
	tvm_destroy(vm);
	vm = NULL;
	if (tvm_create(&config, &vm))
		return false;
	guest_pages(vm, RETURN_CALL);
	tvm_load(vm, TVM_GPA_CODE, prog_call, (size_t)(prog_call_end - prog_call));
	return !host_attach(&host, getpid(), 1, 0, &attached);
}

static struct elisa_vm_status status_now(void)
{
	struct elisa_vm_status s;

	memset(&s, 0, sizeof(s));
	elisa_vm_status(attached, &s);
	return s;
}

static void on_alarm(int sig)
{
	(void)sig;
	tvm_interrupt_run(vm, 0);
}

void alarm_in(unsigned int us)
{
	struct itimerval t = { .it_value = { .tv_usec = us } };

	setitimer(ITIMER_REAL, &t, NULL);
}

/* So many that a call takes some alarms, on any processor. */
static void measure_rounds(void)
{
	const uint64_t some = 2000000;
	struct guest_call c;
	double start = seconds();

	guest_call(vm, SVC_KEEP, some, 0, 0, &c);
	rounds = (uint64_t)((double)some * 3 * ALARM_US / 1e6 / (seconds() - start));
}

bool stop_inside(void)
{
	struct kvm_regs r = {
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA, .rsi = SVC_KEEP,
		.rdx = rounds,
	};
	struct tvm_stop stop;

	if (tvm_reset(vm, 0, 3, &r))
		return false;
	/* A new VM has to touch its memory first, which takes some. */
	for (int i = 0; i < 100; i++) {
		alarm_in(ALARM_US);
		if (tvm_run(vm, 0, &stop))
			return false;
		if (stop.why == TVM_INTERRUPTED && status_now().inside == 1)
			return true;
		if (stop.why != TVM_INTERRUPTED && tvm_reset(vm, 0, 3, &r))
			return false;
	}
	note("%s instead of a stop inside", tvm_why_name(stop.why));
	return false;
}

/* ---- judging ---- */

static bool has_secret(const void *memory, size_t len)
{
	const uint32_t *p = memory, low = (uint32_t)SVC_SECRET, high = SVC_SECRET >> 32;

	for (size_t i = 0; i + 1 < len / 4; i++)
		if (p[i] == low && p[i + 1] == high)
			return true;
	return false;
}

/* All that KVM tells about the vCPU. */
static bool secret_shown(void)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_fpu fpu;

	if (tvm_regs(vm, 0, &regs) || tvm_sregs(vm, 0, &sregs) ||
	    vcpu_ioctl(KVM_GET_XSAVE, &xsave) || vcpu_ioctl(KVM_GET_FPU, &fpu))
		return true;
	return has_secret(&regs, sizeof(regs)) || has_secret(&sregs, sizeof(sregs)) ||
	       has_secret(&xsave, sizeof(xsave)) || has_secret(&fpu, sizeof(fpu));
}

/* All of its RAM: registers are stored there at multiples of 8. */
static bool secret_stored(void)
{
	const uint64_t *p = tvm_mem(vm, 0);

	for (size_t i = 0; i < TVM_RAM_MIN / 8; i++)
		if (p[i] == SVC_SECRET)
			return true;
	return false;
}

bool memory_sound(void)
{
	return host_fingerprint(&host) == fingerprint;
}

static unsigned int killed_as(const struct elisa_vm_status *s)
{
	switch (s->kill) {
	case ELISA_KILL_TOUCHED:
		return TOUCHED;
	case ELISA_KILL_EVENT:
		return EVENT;
	case ELISA_KILL_STATE:
		return STATE;
	case ELISA_KILL_EXIT:
		return EXIT;
	default:
		return 0;
	}
}

/* A vCPU that was put to sleep or is watched does not come back by itself. */
static void wake(void)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_guest_debug off = { .control = 0 };

	vcpu_ioctl(KVM_SET_MP_STATE, &mp);
	vcpu_ioctl(KVM_SET_GUEST_DEBUG, &off);
}

unsigned int outcome_of(bool refused)
{
	struct tvm_stop stop = { .why = TVM_FAIL };
	struct elisa_vm_status s;
	struct kvm_regs r;

	for (int i = 0; i < 4; i++) {
		alarm_in(20 * ALARM_US);
		if (tvm_run(vm, 0, &stop))
			return 0;
		s = status_now();
		if (s.state & ELISA_VM_KILLED)
			return killed_as(&s);
		if (stop.why == TVM_OUT && stop.port == PORT_DONE)
			return tvm_regs(vm, 0, &r) || r.rax ? 0 : refused ? REFUSED : GOES_ON;
		if (stop.why == TVM_EXCEPTION)
			return s.inside ? 0 : FAULT;
		wake();
	}
	note("no end: %s, KVM's reason %u", tvm_why_name(stop.why), stop.kvm_reason);
	return 0;
}

static const char *outcome_name(unsigned int outcome)
{
	static const char *const names[OUTCOMES] = { "goes on",	       "refused",
						     "killed:touched", "killed:event",
						     "killed:state",   "killed:exit",
						     "fault of its own" };

	return outcome ? names[__builtin_ctz(outcome)] : "neither";
}

void group_end(const struct group *g)
{
	char text[256] = "";
	size_t at = 0;

	for (unsigned int i = 0; i < OUTCOMES; i++)
		if (g->count[i])
			at += (size_t)snprintf(text + at, sizeof(text) - at, ", %u %s", g->count[i],
					       outcome_name(1u << i));
	ok(g->tries && !g->bad, "%s: %u tries%s; %u bad", g->name, g->tries, text, g->bad);
}

static void count(struct group *g, const char *what, unsigned int outcome, const char *wrong)
{
	g->tries++;
	if (outcome)
		g->count[__builtin_ctz(outcome)]++;
	if (!wrong)
		return;
	if (g->bad++ < NOTES_MAX)
		note("%s, %s: %s: %s", g->name, what, outcome_name(outcome), wrong);
}

/* For the next try, when nothing is left of this one but what tvm_reset() sets anew. */
static bool alive_again(unsigned int outcome)
{
	if (outcome == GOES_ON || outcome == REFUSED)
		return true;
	elisa_vm_detach(attached, DETACH_MS);
	attached = NULL;
	return !host_attach(&host, getpid(), 1, 0, &attached);
}

void try_inside(struct group *g, const char *what, int (*change)(const void *arg), const void *arg,
		unsigned int allowed)
{
	const char *wrong = NULL;
	unsigned int outcome;
	bool seen;
	int rc;

	if (g->bad >= bad_max)
		return;
	if (!stop_inside() && (!fresh_vm() || !stop_inside())) {
		count(g, what, 0, "not stopped inside before");
		return;
	}
	seen = secret_shown();
	rc = change(arg);
	outcome = outcome_of(rc);
	seen = seen || secret_shown() || secret_stored();
	if (!(outcome & allowed))
		wrong = "not an outcome that may be";
	if (!memory_sound())
		wrong = "trusted memory CHANGED";
	if (seen)
		wrong = "trusted registers were SEEN";
	count(g, what, outcome, wrong);
	if (!(g->lasting ? fresh_vm() : alive_again(outcome))) {
		count(g, what, outcome, "no new VM after it");
		group_end(g);
		exit(tap_done());
	}
}

static int only_look(const void *arg)
{
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_sregs s;

	(void)arg;
	vcpu_ioctl(KVM_GET_VCPU_EVENTS, &events);
	vcpu_ioctl(KVM_GET_DEBUGREGS, &debug);
	vcpu_ioctl(KVM_GET_XCRS, &xcrs);
	vcpu_ioctl(KVM_GET_LAPIC, &lapic);
	tvm_sregs(vm, 0, &s);
	if (s.fs.base)
		ok(false, "FS base inside is hidden (0x%llx)", s.fs.base);
	return 0;
}

static const char *parse(int argc, char **argv, unsigned int *tries)
{
	static const struct option options[] = {
		{ "tries", required_argument, NULL, 't' },
		{ "bad", required_argument, NULL, 'b' },
		{ "only", required_argument, NULL, 'o' },
		{ 0 },
	};
	const char *only = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 't')
			*tries = (unsigned int)strtoul(optarg, NULL, 0);
		else if (c == 'b')
			bad_max = (unsigned int)strtoul(optarg, NULL, 0);
		else if (c == 'o')
			only = optarg;
		else
			exit(2);
	}
	return only;
}

static void test_look(void)
{
	struct group g = { .name = "vmm-snapshots: the monitor only looks" };

	for (unsigned int i = 0; i < 10; i++)
		try_inside(&g, "looks", only_look, NULL, GOES_ON);
	group_end(&g);
}

/* `only`: a row of the attack table; returns whether there is one of that name. */
static bool all_groups(const char *only, unsigned int tries)
{
	bool found = !only;
	const struct {
		const char *row;
		void (*run)(void);
		void (*run_tries)(unsigned int tries);
		unsigned int tries;
	} groups[] = {
		{ "vmm-snapshots", test_look, NULL, 0 },
		{ "vmm-all-registers", test_registers, NULL, 0 },
		{ "vmm-all-registers", test_system_registers, NULL, 0 },
		{ "vmm-vectors", NULL, test_vectors, tries },
		{ "vmm-all-registers", test_msrs, NULL, 0 },
		{ "vmm-events", test_events, NULL, 0 },
		{ "vmm-events", test_debug, NULL, 0 },
		{ "vmm-events", NULL, test_state, tries },
		{ "vmm-snapshots", test_snapshots, NULL, 0 },
		{ "vmm-slots", test_slots, NULL, 0 },
		{ "vmm-slots", NULL, test_slot_race, 20 * tries },
		{ "vmm-vectors", NULL, test_two_threads, 20 * tries },
	};

	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
		if (only && strcmp(only, groups[i].row))
			continue;
		found = true;
		if (groups[i].run)
			groups[i].run();
		else
			groups[i].run_tries(groups[i].tries);
	}
	return found;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	unsigned int tries = 50;
	struct elisa_info info;
	const char *only = parse(argc, argv, &tries);

	sigaction(SIGALRM, &sa, NULL);
	if (!ok(!kmsg_mark(), "kernel log opened") || !ok(!host_open(&host), "service realized"))
		return tap_done();
	fingerprint = host_fingerprint(&host);
	if (!ok(fresh_vm(), "VM created, attached and armed"))
		return tap_done();
	measure_rounds();
	ok(all_groups(only, tries), "%s", only ? only : "all rows");
	alarm_in(0);
	elisa_vm_detach(attached, DETACH_MS);
	tvm_destroy(vm);
	for (int i = 0; i < 100 && host_info(&host).vms; i++)
		usleep(50000);
	info = host_info(&host);
	ok(!info.vms, "no VM is left attached (%llu)", info.vms);
	ok(memory_sound(), "trusted memory is as it was at the start");
	host_close(&host);
	ok(!kmsg_bad(), "the host's kernel log is clean");
	return tap_done();
}
