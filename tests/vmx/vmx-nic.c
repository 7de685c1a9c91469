/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A NIC's driver, DPDK's own, called inside by a vCPU: sends and receives bursts there, and counts
 * the exits that this makes. Whatever the driver touches that is not exported ends the VM; at the
 * end one export is taken away, and that this is named is shown, too.
 *
 *	vmx-nic [--frames N] [--echo] [--cache N] -- EAL-OPTIONS...
 *
 * --echo: somebody at the other end sends every frame back.
 */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "nic-service.h"
#include "programs.h"
#include "tap.h"

#define PATIENCE 20.0 /* seconds to wait for what was sent */

static const struct nicsvc *nic;
static struct host host;
static struct tinyvm *vm;
static struct elisa_vm *attached;

/* ---- the context ---- */

static int export_part(enum nicsvc_part part, const void *addr, size_t len, void *arg)
{
	static const char *const names[] = {"code and constants", "variables", "heap"};
	uint32_t parts = part == NICSVC_OBJECT ? ELISA_OBJECT_TEXT | ELISA_OBJECT_CONST
					       : ELISA_OBJECT_DATA_R;
	Dl_info info = {.dli_fname = ""};
	int rc;

	if (part == NICSVC_HEAP)
		rc = elisa_export(host.ctx, addr, len, ELISA_R | ELISA_W);
	else
		rc = elisa_export_object_as(host.ctx, addr, parts);
	if (part != NICSVC_HEAP)
		dladdr(addr, &info);
	note("%s at %p, %zu bytes %s: %d", names[part], addr, len, info.dli_fname, rc);
	return rc < 0 ? rc : 0;
}

/* The NIC's registers, as the kernel's PCI driver lets them be mapped. */
static int export_registers(void)
{
	uintptr_t start, end;
	char line[512];
	int rc = 0;
	FILE *f = fopen("/proc/self/maps", "re");

	if (!f)
		return -errno;
	while (!rc && fgets(line, sizeof(line), f)) {
		if (!strstr(line, "/resource") ||
		    sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &start, &end) != 2)
			continue;
		rc = elisa_export(host.ctx, (void *)start, end - start,
				  ELISA_R | ELISA_W | ELISA_DEVICE);
		note("registers at %" PRIxPTR ", %zu bytes: %d", start, end - start, rc);
	}
	fclose(f);
	return rc;
}

static bool step(const char *what, int rc)
{
	return ok(rc >= 0, "%s: %s", what, rc < 0 ? strerror(-rc) : "done");
}

static bool open_context(void)
{
	return step("open the module", elisa_host_open(&host.lib)) &&
	       step("make a context", elisa_ctx_create(host.lib, nic->entry, &host.ctx)) &&
	       step("export the service", elisa_export_object(host.ctx, nic)) &&
	       step("export driver and heap", nic->parts(export_part, NULL)) &&
	       step("export the NIC's registers", export_registers()) &&
	       step("export thread-local variables", elisa_export_tls(host.ctx)) &&
	       step("register parked threads",
		    elisa_ctx_thread(host.ctx, nic->thread_begin, nic->thread_end, NULL)) &&
	       step("realize", elisa_ctx_realize(host.ctx));
}

static bool attach(void)
{
	struct elisa_why why;
	char text[256];
	int rc = elisa_vm_attach(host.ctx, getpid(), ELISA_VM_FORCE_CPU, &why, &attached);

	if (why.refusal)
		note("refused: %s", elisa_why_text(&why, text, sizeof(text)));
	return step("attach", rc) && step("arm", elisa_vm_arm(attached, 0, nic->state));
}

/* ---- calls ---- */

/* Where and how the VM's end came about. */
static void say_killed(void)
{
	struct elisa_vm_status s;
	char where[256];

	if (elisa_vm_status(attached, &s) || !s.kill)
		return;
	elisa_ctx_where(host.ctx, s.kill_gpa, where, sizeof(where));
	note("killed: %s, %s, qualification %" PRIx64 ", address %" PRIx64 " (%s)",
	     elisa_kill_name(s.kill), elisa_exit_reason_name(s.kill_code),
	     (uint64_t)s.kill_qualification, (uint64_t)s.kill_gpa, where);
}

/* Ring 3 of the guest calls so many times, and comes out at the end. */
static bool calls(uint64_t op, uint64_t a1, uint64_t times, int64_t *last)
{
	struct kvm_regs regs = {
		.rip = TVM_USER(TVM_GPA_CODE),
		.rbx = ELISA_CALL_VA,
		.r12 = times,
		.r13 = op,
		.r14 = a1,
	};
	struct tvm_stop stop;

	guest_pages(vm, RETURN_CALL);
	tvm_load(vm, TVM_GPA_CODE, prog_loop, (size_t)(prog_loop_end - prog_loop));
	if (tvm_reset(vm, 0, 3, &regs) || tvm_run(vm, 0, &stop) || tvm_regs(vm, 0, &regs))
		return false;
	if (stop.why != TVM_OUT || stop.port != PORT_DONE) {
		note("the loop ended by %s, vector %u, %llu rounds left", tvm_why_name(stop.why),
		     stop.vector, regs.r12);
		say_killed();
		return false;
	}
	*last = (int64_t)regs.rdi;
	return true;
}

/* SDM vol. 3, appendix C: what a host does to a vCPU that does nothing. */
static bool benign(unsigned int reason)
{
	return reason == 1 || reason == 7 || reason == 52;
}

static void say_exits(const struct elisa_vcpu_stats *a, const struct elisa_vcpu_stats *b,
		      uint64_t frames)
{
	uint64_t other = 0, inside = 0;
	unsigned int i;

	for (i = 0; i < ELISA_EXIT_REASONS; i++) {
		uint64_t n = b->inside_by_reason[i] - a->inside_by_reason[i];

		if (n)
			note("exits inside: %s %" PRIu64, elisa_exit_reason_name(i), n);
		inside += n;
		other += benign(i) ? 0 : n;
	}
	note("%" PRIu64 " frames, VM exits: %" PRIu64 " in all, %" PRIu64 " inside", frames,
	     (uint64_t)(b->exits - a->exits), inside);
	ok(!other, "no exit by what the driver did: %" PRIu64, other);
}

/* Sends `frames`, taking in what comes; with `echo` until all of it has come back. */
static bool exchange(uint64_t frames, bool echo)
{
	struct nicsvc_state *s = nic->state;
	double start = seconds();
	int64_t last;

	while (s->sent < frames && seconds() - start < PATIENCE) {
		uint64_t burst = frames - s->sent;

		if (!calls(NICSVC_TX, burst > NICSVC_BURST ? NICSVC_BURST : burst, 1, &last) ||
		    !calls(NICSVC_RX, 0, echo ? 200 : 1, &last))
			return false;
	}
	while (echo && s->good + s->bad < frames && seconds() - start < PATIENCE)
		if (!calls(NICSVC_RX, 0, 1000, &last))
			return false;
	return true;
}

static void run(uint64_t frames, bool echo)
{
	struct nicsvc_state *s = nic->state;
	struct elisa_vcpu_stats a, b;
	unsigned int buffers = nic->free_buffers();

	elisa_vm_stats(attached, 0, &a);
	if (!ok(exchange(frames, echo), "bursts sent and received inside"))
		return;
	elisa_vm_stats(attached, 0, &b);
	ok(s->sent == frames, "%" PRIu64 " of %" PRIu64 " frames sent inside, %" PRIu64 " put off",
	   s->sent, frames, s->refused);
	if (echo)
		ok(s->good == frames && !s->bad,
		   "%" PRIu64 " came back as they were, %" PRIu64 " others, %" PRIu64 " not ours",
		   s->good, s->bad, s->other);
	say_exits(&a, &b, s->sent + s->good);
	note("buffers: %u, free before %u, after %u", nic->all_buffers(), buffers,
	     nic->free_buffers());
}

/* ---- one export less ---- */

struct victim {
	const char *object;
	struct elisa_exported e;
};

static int find_victim(const struct elisa_exported *e, void *arg)
{
	struct victim *v = arg;
	Dl_info info;

	if (e->prot != ELISA_R || e->memory != e->addr ||
	    !dladdr((void *)(uintptr_t)e->addr, &info) || !strstr(info.dli_fname, v->object))
		return 0;
	v->e = *e; /* the last one: its variables */
	return 0;
}

static void take_away(void)
{
	struct victim v = {.object = "librte_mempool.so"};
	struct elisa_vm_status status;
	char where[256] = "";
	int64_t last;
	int rc;

	elisa_ctx_exports(host.ctx, find_victim, &v);
	if (!ok(v.e.len, "variables of %s are exported", v.object))
		return;
	step("take them away", elisa_unexport(host.ctx, (void *)(uintptr_t)v.e.addr, v.e.len));
	ok(!calls(NICSVC_TX, NICSVC_BURST, 4, &last), "without them a call ends the VM");
	step("ask why", elisa_vm_status(attached, &status));
	ok(status.kill == ELISA_KILL_EXIT, "it was killed for an exit (%s)",
	   elisa_kill_name(status.kill));
	rc = elisa_ctx_where(host.ctx, status.kill_gpa, where, sizeof(where));
	ok(rc == -ENOENT && strstr(where, v.object) && strstr(where, "rte_mempool_ops_table"),
	   "which is named: %s (%d)", where, rc);
}

/* ---- */

static void inside(uint64_t frames, bool echo)
{
	struct tvm_config config = {.vcpus = 1, .ram = TVM_GPA_FREE};

	if (!open_context() || !ok(!tvm_create(&config, &vm), "VM created"))
		return;
	if (attach()) {
		run(frames, echo);
		take_away();
	}
	elisa_vm_detach(attached, 2000);
	tvm_destroy(vm);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"frames", required_argument, NULL, 'f'},
		{"echo", no_argument, NULL, 'e'},
		{"cache", required_argument, NULL, 'c'},
		{0},
	};
	uint64_t frames = 1000;
	unsigned int cache = 0;
	bool echo = false;
	void *object;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'f')
			frames = strtoul(optarg, NULL, 0);
		else if (c == 'e')
			echo = true;
		else if (c == 'c')
			cache = strtoul(optarg, NULL, 0);
		else
			return 2;
	}
	object = dlopen("libvmxnic.so", RTLD_NOW | RTLD_LOCAL);
	nic = object ? dlsym(object, "nicsvc") : NULL;
	if (!nic) {
		fprintf(stderr, "vmx-nic: %s\n", dlerror());
		return 2;
	}
	argv[optind - 1] = argv[0]; /* EAL's arguments begin there */
	if (!ok(!kmsg_mark(), "kernel log opened") ||
	    !step("start the NIC", nic->start(argv + optind - 1, cache)))
		return tap_done();
	note("driver %s", nic->driver());
	inside(frames, echo);
	elisa_ctx_destroy(host.ctx);
	elisa_host_close(host.lib);
	nic->stop();
	ok(!kmsg_bad(), "the host's kernel log is clean");
	return tap_done();
}
