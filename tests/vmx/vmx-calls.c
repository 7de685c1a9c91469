/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a call costs and that it makes no VM exit: many NOP calls while a timer interrupts the
 * guest, the module's counts, KVM's own counts, and KVM's cheapest hypercall for comparison. In
 * the lab a tick of the TSC is an instruction, so the figures are exact counts.
 *
 *	vmx-calls [--calls N] [--json FILE]
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "programs.h"
#include "tap.h"

#define TIMER_NS	1000000
#define HYPERCALLS	10000
#define MAX_PER_CALL	64	/* instructions; the project's promise */

static struct host host;
static struct tinyvm *vm;
static struct elisa_vm *attached;

/* A counter of KVM in debugfs, all VMs together: there is only one here. -1: no such thing. */
static long long kvm_counter(const char *name)
{
	char path[128];
	long long v = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%s", name);
	f = fopen(path, "re");
	if (!f)
		return -1;
	if (fscanf(f, "%lld", &v) != 1)
		v = -1;
	fclose(f);
	return v;
}

/* Runs prog_loop; false if it did not end. Ticks per round in *each. */
static bool loop(uint64_t target, uint64_t op, uint64_t a1, uint64_t times, double *each,
		 struct kvm_regs *regs)
{
	struct tvm_stop stop;

	*regs = (struct kvm_regs){
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = target, .r12 = times, .r13 = op, .r14 = a1,
	};
	tvm_load(vm, TVM_GPA_CODE, prog_loop, (size_t)(prog_loop_end - prog_loop));
	tvm_load(vm, TVM_GPA_CODE + 0x1000, prog_ret, (size_t)(prog_ret_end - prog_ret));
	if (tvm_reset(vm, 0, 3, regs) || tvm_run(vm, 0, &stop) || tvm_regs(vm, 0, regs))
		return false;
	*each = (double)regs->r15 / (double)times;
	if (stop.why != TVM_OUT || stop.port != PORT_DONE) {
		note("the loop ended by %s, vector %u, %llu rounds left", tvm_why_name(stop.why),
		     stop.vector, regs->r12);
		return false;
	}
	return true;
}

/* The cheapest of some short runs: one that no interrupt of the host fell into. */
static bool quiet_loop(uint64_t target, double *each)
{
	struct kvm_regs regs;
	double once;

	*each = 1e9;
	for (int i = 0; i < 30; i++) {
		if (!loop(target, ELISA_OP_NOP, 0, 200, &once, &regs))
			return false;
		if (once < *each)
			*each = once;
	}
	return true;
}

static bool hypercalls(uint64_t times, double *each)
{
	struct kvm_regs regs = { .rip = TVM_GPA_CODE, .r12 = times };
	struct tvm_stop stop;

	tvm_load(vm, TVM_GPA_CODE, prog_hypercall,
		 (size_t)(prog_hypercall_end - prog_hypercall));
	if (tvm_reset(vm, 0, 0, &regs) || tvm_run(vm, 0, &stop) || tvm_regs(vm, 0, &regs))
		return false;
	*each = (double)regs.r15 / (double)times;
	return stop.why == TVM_OUT;
}

struct figures {
	uint64_t calls, interrupts, exits, exits_inside, parked, delivered;
	uint64_t inside_by_reason[ELISA_EXIT_REASONS];
	long long kvm_exits, kvm_irqs;
	double call, quiet, baseline, hypercall;
};

/* SDM vol. 3, appendix C: what a host does to a vCPU that does nothing. */
static bool benign(unsigned int reason)
{
	return reason == 1 || reason == 7 || reason == 52;
}

static void check_reasons(const struct figures *f)
{
	uint64_t other = 0;

	for (unsigned int i = 0; i < ELISA_EXIT_REASONS; i++) {
		if (!f->inside_by_reason[i])
			continue;
		note("exits inside: %s %lu", elisa_exit_reason_name(i), f->inside_by_reason[i]);
		if (!benign(i))
			other += f->inside_by_reason[i];
	}
	ok(!other, "exits inside only by external interrupts, timers and interrupt windows: "
	   "%lu others", other);
}

static void measure_calls(struct figures *f, uint64_t calls)
{
	struct elisa_vcpu_stats a, b;
	struct kvm_regs regs;
	uint64_t irqs;
	bool good;

	guest_pages(vm, RETURN_CALL);
	ok(quiet_loop(TVM_USER(TVM_GPA_CODE + 0x1000), &f->baseline), "the loop without calls");
	ok(quiet_loop(ELISA_CALL_VA, &f->quiet), "the loop with calls, undisturbed");
	f->baseline -= 2;	/* CALL and RET belong to the call */
	if (!ok(!tvm_timer(vm, 0, TIMER_NS), "guest timer runs"))
		return;
	elisa_vm_stats(attached, 0, &a);
	irqs = tvm_interrupts(vm, 0);
	f->kvm_exits = kvm_counter("exits");
	f->kvm_irqs = kvm_counter("irq_exits");
	good = loop(ELISA_CALL_VA, ELISA_OP_NOP, 0, calls, &f->call, &regs);
	f->kvm_exits = kvm_counter("exits") - f->kvm_exits;
	f->kvm_irqs = kvm_counter("irq_exits") - f->kvm_irqs;
	f->interrupts = tvm_interrupts(vm, 0) - irqs;
	tvm_timer(vm, 0, 0);
	elisa_vm_stats(attached, 0, &b);
	f->calls = calls - regs.r12;
	f->exits = b.exits - a.exits;
	f->exits_inside = b.exits_gate + b.exits_trusted - a.exits_gate - a.exits_trusted;
	f->parked = b.parked - a.parked;
	f->delivered = b.delivered - a.delivered;
	for (unsigned int i = 0; i < ELISA_EXIT_REASONS; i++)
		f->inside_by_reason[i] = b.inside_by_reason[i] - a.inside_by_reason[i];
	ok(good && !regs.rdi, "%lu calls, the last one's result is %llu", f->calls, regs.rdi);
	ok(good && f->calls == calls && f->exits * 20 < calls,
	   "VM exits in the whole run: %lu for %lu calls", f->exits, f->calls);
	ok(f->interrupts > 0, "the guest took %lu timer interrupts meanwhile", f->interrupts);
}

/* An interrupt storm over long calls, so that most of them fall inside. */
static void measure_storm(void)
{
	struct elisa_vcpu_stats a, b;
	struct kvm_regs regs;
	uint64_t irqs = tvm_interrupts(vm, 0);
	double each;
	bool good;

	elisa_vm_stats(attached, 0, &a);
	tvm_timer(vm, 0, TIMER_NS / 5);
	good = loop(ELISA_CALL_VA, SVC_SPIN, 20000, 200, &each, &regs);
	tvm_timer(vm, 0, 0);
	elisa_vm_stats(attached, 0, &b);
	irqs = tvm_interrupts(vm, 0) - irqs;
	ok(good && regs.rdi == 20000, "200 long calls under an interrupt storm (%llu)", regs.rdi);
	ok(b.parked > a.parked + 50, "%llu events fell inside and were parked",
	   b.parked - a.parked);
	ok(b.parked == b.delivered, "parked %llu == delivered %llu, since attach", b.parked,
	   b.delivered);
	ok(irqs >= b.delivered - a.delivered, "the guest's handler counted %lu", irqs);
}

static void print_json(const struct figures *f, FILE *out)
{
	const char *comma = "";

	fprintf(out, "{\"calls\": %lu, \"instructions_per_call\": %.2f, "
		"\"instructions_per_call_with_interrupts\": %.2f, \"loop_overhead\": %.2f, "
		"\"instructions_per_hypercall\": %.2f, \"hypercall_to_call\": %.1f, ",
		f->calls, f->quiet - f->baseline, f->call - f->baseline, f->baseline, f->hypercall,
		f->hypercall / (f->quiet - f->baseline));
	fprintf(out, "\"exits\": %lu, \"exits_per_call\": %.6f, \"exits_inside\": %lu, "
		"\"kvm_exits\": %lld, \"kvm_irq_exits\": %lld, \"guest_interrupts\": %lu, "
		"\"parked\": %lu, \"delivered\": %lu, \"inside_by_reason\": {",
		f->exits, (double)f->exits / (double)f->calls, f->exits_inside, f->kvm_exits,
		f->kvm_irqs, f->interrupts, f->parked, f->delivered);
	for (unsigned int i = 0; i < ELISA_EXIT_REASONS; i++) {
		if (!f->inside_by_reason[i])
			continue;
		fprintf(out, "%s\"%s\": %lu", comma, elisa_exit_reason_name(i),
			f->inside_by_reason[i]);
		comma = ", ";
	}
	fprintf(out, "}}\n");
}

static void run(uint64_t calls, const char *json)
{
	struct figures f = { 0 };
	FILE *out;

	measure_calls(&f, calls);
	check_reasons(&f);
	/* The loop's own OUT and what KVM does at the edges of the two readings. */
	if (f.kvm_exits >= 0)
		ok(f.kvm_exits <= (long long)f.exits + 8 && f.kvm_exits + 8 >= (long long)f.exits,
		   "KVM's own count of exits, %lld, says the same as the module's, %lu",
		   f.kvm_exits, f.exits);
	else
		ok(false, "/sys/kernel/debug/kvm/exits is readable");
	measure_storm();
	ok(hypercalls(HYPERCALLS, &f.hypercall), "%u hypercalls", HYPERCALLS);
	ok(f.quiet - f.baseline <= MAX_PER_CALL, "%.2f instructions per call (at most %d)",
	   f.quiet - f.baseline, MAX_PER_CALL);
	note("%.1f instructions per hypercall, %.1f times a call", f.hypercall,
	     f.hypercall / (f.quiet - f.baseline));
	print_json(&f, stdout);
	if (!json)
		return;
	out = fopen(json, "we");
	if (!ok(out != NULL, "%s is written", json))
		return;
	print_json(&f, out);
	fclose(out);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "calls", required_argument, NULL, 'c' },
		{ "json", required_argument, NULL, 'j' },
		{ 0 },
	};
	struct tvm_config config = { .vcpus = 1, .ram = TVM_GPA_FREE };
	uint64_t calls = 100000;
	const char *json = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			calls = strtoul(optarg, NULL, 0);
		else if (c == 'j')
			json = optarg;
		else
			return 2;
	}
	if (!calls)
		return 2;
	if (!ok(!kmsg_mark(), "kernel log opened") || !ok(!host_open(&host), "service realized"))
		return tap_done();
	if (ok(!tvm_create(&config, &vm), "VM created") &&
	    ok(!host_attach(&host, getpid(), 1, 0, &attached), "attached and armed")) {
		run(calls, json);
		elisa_vm_detach(attached, 2000);
	}
	tvm_destroy(vm);
	host_close(&host);
	ok(!kmsg_bad(), "the host's kernel log is clean");
	return tap_done();
}
