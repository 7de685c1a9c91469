/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "programs.h"
#include "state.h"
#include "tap.h"

#define DETACH_MS	2000

struct host host;
struct tinyvm *vm;
struct elisa_vm *attached;
const char *state_only;
static uint64_t fingerprint;
static unsigned int vcpus;
static struct gate_pages gate;		/* of this attachment */
static uint64_t unfinished;		/* calls that were not let go: their VM was killed */
static unsigned int rows;		/* that were asked for, and are there */

bool state_wanted(const char *row)
{
	bool wanted = !state_only || !strcmp(row, state_only);

	rows += wanted;
	return wanted;
}

struct elisa_vm_status state_status(void)
{
	struct elisa_vm_status s;

	memset(&s, 0, sizeof(s));
	if (attached)
		elisa_vm_status(attached, &s);
	return s;
}

void state_set_memory(void)
{
	fingerprint = host_fingerprint(&host);
}

static bool call_works(void)
{
	struct guest_call c;

	return guest_call(vm, SVC_ECHO, 11, 22, 33, &c) &&
	       c.result == (int64_t)svc_echo(11, 22, 33);
}

/* A vCPU that was left inside holds the next attachment up until it has gone. */
bool state_alive(void)
{
	for (int i = 0; i < 3; i++) {
		if (attached && !(state_status().state & ELISA_VM_KILLED) && call_works())
			return true;
		if (attached)
			elisa_vm_detach(attached, DETACH_MS);
		attached = NULL;
		if (host_attach(&host, getpid(), vcpus, 0, &attached))
			usleep(600000);
		else if (!gate_pages_find(vm, &gate))
			return false;
	}
	return false;
}

bool state_open(const struct tvm_config *config)
{
	vcpus = config->vcpus;
	if (!ok(!kmsg_mark(), "kernel log opened") || !ok(!host_open(&host), "service realized"))
		return false;
	state_set_memory();
	if (!ok(!tvm_create(config, &vm), "VM created"))
		return false;
	ok(state_alive(), "attached, and calls work");
	return attached;
}

int state_close(unsigned int passed, unsigned int failed)
{
	struct elisa_info info;

	if (state_only)
		ok(rows, "%s is a row", state_only);
	if (attached)
		elisa_vm_detach(attached, DETACH_MS);
	tvm_destroy(vm);
	if (host.lib) {
		info = host_info(&host);
		ok(!info.vms, "no VM is left attached (%llu)", info.vms);
		ok(host_fingerprint(&host) == fingerprint, "trusted memory is as it was");
		host_close(&host);
	}
	ok(!kmsg_bad(), "the host's kernel log is clean");
	tap_passed += passed;
	tap_failed += failed;
	return tap_done();
}

/* Breakpoints or system management mode of an attack must not be there for the next call. */
static void clear_debug(void)
{
	struct kvm_debugregs d = { .dr6 = 0xffff0ff0, .dr7 = 0x400 };
	struct kvm_vcpu_events e;

	for (unsigned int v = 0; v < vcpus; v++) {
		ioctl(tvm_vcpu_fd(vm, v), KVM_SET_DEBUGREGS, &d);
		if (ioctl(tvm_vcpu_fd(vm, v), KVM_GET_VCPU_EVENTS, &e) || !e.smi.smm)
			continue;
		memset(&e, 0, sizeof(e));
		e.flags = KVM_VCPUEVENT_VALID_SMM;
		ioctl(tvm_vcpu_fd(vm, v), KVM_SET_VCPU_EVENTS, &e);
	}
}

static uint64_t now_unfinished(void)
{
	return host.arena->vm[0].calls - host.arena->vm[0].returned;
}

static uint32_t killed_by(const struct elisa_vm_status *s, uint64_t entered)
{
	if (s->kill == ELISA_KILL_TOUCHED)
		return MAY_BE_TOUCHED;
	if (s->kill != ELISA_KILL_EXIT)
		return 0;
	if (s->kill_context == 1)
		return entered ? 0 : MAY_DIE_GATE;
	return s->kill_context == 2 ? MAY_DIE_INSIDE : 0;
}

static uint32_t outcome(const struct tvm_stop *stop, const struct elisa_vm_status *s,
			uint64_t entered)
{
	if (s->state & ELISA_VM_KILLED)
		return killed_by(s, entered);
	/* What its own CR3 makes of it after the return is the guest's affair. */
	if (entered)
		return entered == 1 && now_unfinished() == unfinished ? MAY_CALL : 0;
	if (stop->why == TVM_EXCEPTION)
		return stop->vector == 6 ? MAY_UD : MAY_FAULT;
	if (stop->why == TVM_OUT && stop->port == PORT_UD)
		return MAY_UD;
	if (stop->why == TVM_OUT && stop->port == PORT_FAULT)
		return MAY_FAULT;
	return MAY_MISS;
}

static void count(struct tally *t, uint32_t got)
{
	t->tries++;
	t->call += got == MAY_CALL;
	t->ud += got == MAY_UD;
	t->fault += got == MAY_FAULT;
	t->gate += got == MAY_DIE_GATE;
	t->inside += got == MAY_DIE_INSIDE;
	t->touched += got == MAY_BE_TOUCHED;
	t->miss += got == MAY_MISS;
}

void state_judge(struct tally *t, const struct tvm_stop *stop, uint64_t calls, const char *what)
{
	struct elisa_vm_status s = state_status();
	uint64_t entered = host.arena->vm[0].calls - calls;
	bool memory = host_fingerprint(&host) == fingerprint;
	bool sound = gate_pages_sound(&gate), alive;
	uint32_t got = outcome(stop, &s, entered);
	struct kvm_regs r = { 0 };
	struct kvm_sregs sr = { 0 };

	tvm_regs(vm, 0, &r);
	tvm_sregs(vm, 0, &sr);
	count(t, got);
	t->resets += !!(s.state & ELISA_VM_RESET);
	clear_debug();
	alive = state_alive();
	unfinished = now_unfinished();
	if (got & t->may && memory && sound && alive)
		return;
	if (t->bad++ < 5)
		note("%s: %s: %s vector %u port 0x%x at 0x%lx (RIP 0x%llx RSP 0x%llx CS 0x%x "
		     "CR0 0x%llx CR4 0x%llx), entered %lu times, %s %llu in %u, memory %s, "
		     "list %s, afterwards %s", t->row, what, tvm_why_name(stop->why), stop->vector, stop->port,
		     stop->rip, r.rip, r.rsp, sr.cs.selector, sr.cr0, sr.cr4, entered,
		     s.state & ELISA_VM_KILLED ? elisa_kill_name(s.kill) : "alive", s.kill_code,
		     s.kill_context, memory ? "sound" : "CHANGED", sound ? "sound" : "CHANGED",
		     alive ? "calls work" : "NO CALL WORKS");
	if (!memory)
		state_set_memory();
}

void state_try(struct tally *t, const struct attack *a, const char *what)
{
	struct kvm_regs r = a->regs;
	struct tvm_stop stop = { .why = TVM_FAIL };
	uint64_t calls = host.arena->vm[0].calls;

	guest_pages(vm, RETURN_RAW);
	if (a->prepare)
		a->prepare();
	if (a->program)
		tvm_load(vm, TVM_GPA_CODE, a->program, (size_t)(a->program_end - a->program));
	r.rip = a->rip ? a->rip : a->ring ? TVM_USER(TVM_GPA_CODE) : TVM_GPA_CODE;
	r.rbx = r.rbx ? r.rbx : ELISA_CALL_VA;
	r.rbp = r.rbp ? r.rbp : 0x3202;
	r.r9 = r.r9 ? r.r9 : STATE_SS3;
	r.r10 = r.r10 ? r.r10 : TVM_USER(TVM_GPA_CODE) - 64;
	r.r11 = r.r11 ? r.r11 : STATE_CS3;
	if (tvm_reset(vm, 0, a->ring, &r) || tvm_run(vm, 0, &stop))
		stop.why = TVM_FAIL;
	if (a->restore)
		a->restore();
	state_judge(t, &stop, calls, what);
}

void state_done(const struct tally *t)
{
	if (!state_wanted(t->row))
		return;
	ok(t->tries && !t->bad, "%s: %u tries: %u regular calls, %u #UD, %u own faults, %u killed "
	   "in the gate, %u inside, %u for registers touched, %u missed; %u bad", t->row, t->tries,
	   t->call, t->ud, t->fault, t->gate, t->inside, t->touched, t->miss, t->bad);
}

void state_row(const char *row, uint32_t may, const struct attack *a)
{
	struct tally t = { .row = row, .may = may };

	if (!state_wanted(row))
		return;
	state_try(&t, a, "");
	state_done(&t);
}
