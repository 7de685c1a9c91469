/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tests' own virtual machine monitor, by itself: needs KVM, not the module. Whoever suspects a
 * VMFUNC test suspects tinyvm first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/tinyvm.h"
#include "programs.h"
#include "tap.h"

static struct tinyvm *vm;

static void run_at(const char *start, const char *end, unsigned int ring, struct kvm_regs regs,
		   struct tvm_stop *stop)
{
	tvm_load(vm, TVM_GPA_CODE, start, (size_t)(end - start));
	regs.rip = ring ? TVM_USER(TVM_GPA_CODE) : TVM_GPA_CODE;
	if (tvm_reset(vm, 0, ring, &regs) || tvm_run(vm, 0, stop)) {
		ok(false, "KVM_RUN");
		exit(tap_done());
	}
}

static void test_out(void)
{
	struct kvm_regs in = { .rax = 0x12345678, .rbx = 0x1122334455667788, .r15 = 15 }, out;
	struct tvm_stop stop;

	run_at(prog_out, prog_out_end, 3, in, &stop);
	ok(stop.why == TVM_OUT && stop.port == PORT_DONE && stop.value == 0x12345678,
	   "ring 3 speaks by OUT (%s, port 0x%x, 0x%lx)", tvm_why_name(stop.why), stop.port,
	   stop.value);
	tvm_regs(vm, 0, &out);
	ok(out.rbx == in.rbx && out.r15 == in.r15, "registers go in and come back");
	tvm_run(vm, 0, &stop);
	ok(stop.why == TVM_OUT && stop.value == 0x12345679,
	   "and it goes on after the OUT (0x%lx)", stop.value);
	run_at(prog_out, prog_out_end, 0, in, &stop);
	ok(stop.why == TVM_OUT && stop.value == 0x12345678, "so does ring 0");
}

static void test_exceptions(void)
{
	static const char ud2[] = { 0x0f, 0x0b }, vmfunc[] = { 0x0f, 0x01, (char)0xd4 };
	/* mov 0x11111111, %al: mapped by nothing */
	static const char fault[] = { (char)0x8a, 0x04, 0x25, 0x11, 0x11, 0x11, 0x11 };
	struct tvm_stop stop;

	run_at(ud2, ud2 + sizeof(ud2), 3, (struct kvm_regs){ 0 }, &stop);
	ok(stop.why == TVM_EXCEPTION && stop.vector == 6 && stop.rip == TVM_USER(TVM_GPA_CODE) &&
	   (stop.cs & 3) == 3, "#UD of ring 3 (%s %u)", tvm_why_name(stop.why), stop.vector);
	run_at(vmfunc, vmfunc + sizeof(vmfunc), 3, (struct kvm_regs){ 0 }, &stop);
	ok(stop.why == TVM_EXCEPTION && stop.vector == 6,
	   "VMFUNC is #UD without the module (%s %u)", tvm_why_name(stop.why), stop.vector);
	run_at(fault, fault + sizeof(fault), 3, (struct kvm_regs){ 0 }, &stop);
	ok(stop.why == TVM_EXCEPTION && stop.vector == 14 && stop.error == 4,
	   "#PF with its error code (%s %u %lu)", tvm_why_name(stop.why), stop.vector, stop.error);
}

static void test_vectors(void)
{
	struct tvm_vectors in, out;
	struct tvm_stop stop;

	memset(&in, 0x5a, sizeof(in));
	tvm_set_vectors(vm, 0, &in);
	run_at(prog_vectors, prog_vectors_end, 3, (struct kvm_regs){ 0 }, &stop);
	tvm_vectors(vm, 0, &out);
	memset(in.ymm[3], 0, sizeof(in.ymm[3]));
	ok(stop.why == TVM_OUT && !memcmp(&in, &out, sizeof(in)),
	   "vectors go in and come back, one wiped by the guest (%s)", tvm_why_name(stop.why));
}

static void test_interrupts(void)
{
	struct tvm_stop stop;
	uint64_t irqs, nmis;

	ok(!tvm_timer(vm, 0, 200000), "timer set");
	irqs = tvm_interrupts(vm, 0);
	run_at(prog_count, prog_count_end, 3, (struct kvm_regs){ .rcx = 30000000 }, &stop);
	irqs = tvm_interrupts(vm, 0) - irqs;
	ok(stop.why == TVM_OUT && irqs > 5, "%lu timer interrupts while counting (%s %u)", irqs,
	   tvm_why_name(stop.why), stop.vector);
	tvm_timer(vm, 0, 0);
	irqs = tvm_interrupts(vm, 0);
	nmis = tvm_nmis(vm, 0);
	tvm_send_interrupt(vm, 0, 77);
	tvm_send_nmi(vm, 0);
	/* tvm_reset() would drop them: just go on, the program has its OUT again after this one. */
	tvm_run(vm, 0, &stop);
	ok(tvm_interrupts(vm, 0) == irqs + 1 && tvm_nmis(vm, 0) == nmis + 1,
	   "one interrupt and one NMI sent, one each counted (%s %u)", tvm_why_name(stop.why),
	   stop.vector);
}

static void test_reset(void)
{
	struct tvm_stop stop;
	int good = 0;

	for (int i = 0; i < 1000; i++) {
		run_at(prog_out, prog_out_end, i % 2 ? 3 : 0, (struct kvm_regs){ .rax = 1000 + i },
		       &stop);
		good += stop.why == TVM_OUT && stop.value == (uint64_t)(1000 + i);
	}
	ok(good == 1000, "reset and run a thousand times: %d good", good);
}

int main(void)
{
	struct tvm_config config = { .vcpus = 2 };
	int err = tvm_create(&config, &vm);

	if (err == -ENOENT || err == -ENODEV || err == -EACCES) {
		printf("skipped: no KVM here, or not ours to use\n");
		return TAP_SKIP;
	}
	if (!ok(!err, "tvm_create: %s", strerror(-err)))
		return tap_done();
	test_out();
	test_exceptions();
	test_vectors();
	test_interrupts();
	test_reset();
	tvm_destroy(vm);
	return tap_done();
}
