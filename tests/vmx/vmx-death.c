/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A monitor that is stopped or killed at any instant while its vCPUs are inside. "A" is a bystander
 * that calls all the time and must lose nothing; each "B" has vCPUs in calls that keep a secret in
 * their registers, is stopped and let go many times, and then killed.
 *
 *	vmx-death [--kills N] [--stops N]	Bs, and stops of each
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "programs.h"
#include "tap.h"
#include "vmproc.h"

#define VCPUS  TVM_MAX_VCPUS
#define ROUNDS 20000ul /* of SVC_KEEP: some calls a millisecond */
#define WAIT_S 20.0

static struct host host;
static struct vmproc a, b;
static struct elisa_vm *vm_a, *vm_b;
static uint64_t fingerprint;
static struct {
	unsigned int kills, stops, inside_kills, inside_stops, bad;
	uint64_t calls, wrong;
} sum;

static uint64_t word(const struct vmproc *p, unsigned int vcpus, unsigned int which)
{
	uint64_t n = 0;

	for (unsigned int v = 0; v < vcpus; v++)
		n += *vmproc_word(p, v, which);
	return n;
}

static bool calls_more(const struct vmproc *p, unsigned int vcpus, uint64_t by)
{
	uint64_t before = word(p, vcpus, WORD_CALLS);
	double end = seconds() + WAIT_S;

	while (word(p, vcpus, WORD_CALLS) < before + by && seconds() < end)
		usleep(500);
	return word(p, vcpus, WORD_CALLS) >= before + by;
}

/* A has had no error, no death and no #UD, ever. */
static bool a_is_whole(void)
{
	const volatile struct vmproc_vcpu *v = &a.control->vcpu[0];
	static uint64_t unattached;

	if (!unattached)	/* before it was attached */
		unattached = v->unattached;
	return !word(&a, 1, WORD_ERRORS) && !word(&a, 1, WORD_AWAY) && !v->shutdowns &&
	       !v->broken && v->unattached == unattached;
}

static void wrong(const char *what)
{
	if (sum.bad++ < 10)
		note("B %u: %s", sum.kills, what);
}

static bool start(struct vmproc *p, unsigned int vcpus, uint64_t op, uint64_t a1, unsigned int slot,
		  struct elisa_vm **vm)
{
	struct tvm_config config = { .ram = TVM_GPA_FREE, .vcpus = vcpus };

	if (vmproc_start(p, &config, 1))
		return false;
	vmproc_set_op(p, op, a1);
	p->control->run = 1;
	return !host_attach(&host, p->pid, vcpus, slot, vm) && calls_more(p, vcpus, 2);
}

static unsigned int inside(void)
{
	struct elisa_vm_status s;

	memset(&s, 0, sizeof(s));
	elisa_vm_status(vm_b, &s);
	return s.inside;
}

static void judge(void)
{
	if (!calls_more(&a, 1, 1))
		wrong("A does not call any more");
	if (!a_is_whole())
		wrong("A lost a call");
	if (host_fingerprint(&host) != fingerprint)
		wrong("trusted memory CHANGED");
	/* The result of SVC_KEEP: its registers were not its own. */
	for (unsigned int v = 0; v < VCPUS; v++)
		sum.wrong += *vmproc_word(&b, v, WORD_LAST) != 0;
}

static void stop_b(unsigned int *state)
{
	usleep(rand_r(state) % 4000);
	kill(b.pid, SIGSTOP);
	waitpid(b.pid, NULL, WUNTRACED);
	sum.stops++;
	sum.inside_stops += inside();
	judge();
	kill(b.pid, SIGCONT);
}

static void kill_b(unsigned int *state)
{
	usleep(rand_r(state) % 4000);
	/* Stopped for the count; SIGKILL ends a stopped process where it is. */
	kill(b.pid, SIGSTOP);
	waitpid(b.pid, NULL, WUNTRACED);
	sum.inside_kills += inside();
	sum.calls += word(&b, VCPUS, WORD_CALLS);
	if (word(&b, VCPUS, WORD_ERRORS))
		wrong("B had a call that failed");
	vmproc_kill(&b);
	sum.kills++;
	judge();
	elisa_vm_detach(vm_b, 2000);
	vm_b = NULL;
	vmproc_free(&b);
}

static bool all(unsigned int kills, unsigned int stops)
{
	unsigned int state = 1;

	for (unsigned int i = 0; i < kills && sum.bad < 10; i++) {
		if (!start(&b, VCPUS, SVC_KEEP, ROUNDS, 1, &vm_b))
			return false;
		for (unsigned int j = 0; j < stops; j++)
			stop_b(&state);
		kill_b(&state);
	}
	return true;
}

static void parse(int argc, char **argv, unsigned int *kills, unsigned int *stops)
{
	static const struct option options[] = {
		{ "kills", required_argument, NULL, 'k' },
		{ "stops", required_argument, NULL, 's' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'k')
			*kills = (unsigned int)strtoul(optarg, NULL, 0);
		else if (c == 's')
			*stops = (unsigned int)strtoul(optarg, NULL, 0);
		else
			exit(2);
	}
}

int main(int argc, char **argv)
{
	unsigned int kills = 40, stops = 20;
	struct elisa_info first, last;
	bool began;

	vmproc_main(argc, argv);
	parse(argc, argv, &kills, &stops);
	if (!ok(!kmsg_mark(), "kernel log opened") || !ok(!host_open(&host), "service realized"))
		return tap_done();
	fingerprint = host_fingerprint(&host);
	if (!ok(start(&a, 1, SVC_ECHO, 5, 0, &vm_a), "vmm-death: A is attached and calls"))
		return tap_done();
	(void)a_is_whole();
	first = host_info(&host);
	began = all(kills, stops);
	ok(began && !sum.bad && sum.kills == kills, "vmm-death: monitor killed -9 %u times, "
	   "%u vCPUs inside then; %u bad", sum.kills, sum.inside_kills, sum.bad);
	ok(sum.stops == kills * stops && sum.inside_stops >= sum.stops / 2,
	   "vmm-death: monitor stopped %u times and let go, %u vCPUs inside then", sum.stops,
	   sum.inside_stops);
	ok(!sum.wrong, "vmm-death: %lu calls of theirs kept their registers (%lu did not)",
	   sum.calls, sum.wrong);
	for (int i = 0; i < 100 && host_info(&host).vms > 1; i++)
		usleep(50000);
	last = host_info(&host);
	ok(last.vms == 1 && first.pinned_pages == last.pinned_pages,
	   "vmm-death: VMs left: %llu; pinned pages before and after: %llu, %llu", last.vms,
	   first.pinned_pages, last.pinned_pages);
	ok(calls_more(&a, 1, 100) && a_is_whole(), "vmm-death: A lost nothing in %lu calls",
	   word(&a, 1, WORD_CALLS));
	elisa_vm_detach(vm_a, 2000);
	vmproc_free(&a);
	host_close(&host);
	ok(!kmsg_bad(), "the host's kernel log is clean");
	return tap_done();
}
