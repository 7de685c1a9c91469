/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * elisa-example-host: the smallest service. Attaches the VMs that it is told, lets all their vCPUs
 * in, and waits for the end.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <elisa/host.h>

#include "example.h"

#define TIMEOUT_MS 1000

struct guest {
	struct elisa_vm *vm;
	uint32_t vcpus;
	bool done; /* killed or gone: said so */
};

static const struct example_service *service;
static struct guest guests[EXAMPLE_MAX_VMS];
static size_t guest_count;

static int fail(const char *what, int rc)
{
	fprintf(stderr, "elisa-example-host: %s: %s\n", what, strerror(-rc));
	return 1;
}

static void usage(FILE *f)
{
	fputs("usage: elisa-example-host --pid PID... [--force-cpu] [--seconds N]\n"
	      "Serves a shared counter and an echo to the VMs of these QEMU processes.\n"
	      "  --pid PID    a VM's process; may be given up to 64 times\n"
	      "  --force-cpu  in spite of a CPU that leaks between contexts (L1TF, MDS, TAA)\n"
	      "  --seconds N  end after N seconds, not only at SIGINT or SIGTERM\n",
	      f);
}

static int attach(struct elisa_ctx *ctx, pid_t pid, uint32_t flags)
{
	struct example_vm *self = &service->state->vms[guest_count];
	struct guest *g = &guests[guest_count];
	const struct elisa_region *regions;
	struct elisa_vm_status status;
	struct elisa_why why;
	char text[512];
	uint32_t i;
	int rc;

	rc = elisa_vm_attach(ctx, pid, flags, &why, &g->vm);
	if (rc == -EPERM && why.refusal) {
		fprintf(stderr, "elisa-example-host: process %d: refused (%s): %s\n", pid,
			elisa_refusal_name(why.refusal), elisa_why_text(&why, text, sizeof(text)));
		return 1;
	}
	if (rc < 0)
		return fail("cannot attach the VM", rc);
	guest_count++;
	self->number = guest_count - 1;
	self->generation = (uint32_t)time(NULL);
	rc = elisa_vm_status(g->vm, &status);
	if (rc < 0)
		return fail("cannot ask for the VM's state", rc);
	g->vcpus = status.vcpus;
	for (i = 0; i < g->vcpus; i++) {
		rc = elisa_vm_arm(g->vm, i, self);
		if (rc < 0)
			return fail("cannot arm a vCPU", rc);
	}
	rc = elisa_vm_regions(g->vm, &regions);
	for (i = 0; (int)i < rc; i++)
		printf("process %d: RAM %#llx..%#llx at %p\n", pid,
		       (unsigned long long)regions[i].gpa,
		       (unsigned long long)(regions[i].gpa + regions[i].len), regions[i].addr);
	printf("process %d: attached, %u vCPUs armed\n", pid, g->vcpus);
	return 0;
}

static void print_stats(struct guest *g)
{
	struct elisa_vcpu_stats s;
	uint32_t i, r;

	for (i = 0; i < g->vcpus; i++) {
		if (elisa_vm_stats(g->vm, i, &s) < 0)
			continue;
		printf("process %d vCPU %u: exits %llu, in the gate %llu, inside %llu, parked "
		       "%llu, "
		       "delivered %llu, kills %llu;",
		       elisa_vm_pid(g->vm), i, (unsigned long long)s.exits,
		       (unsigned long long)s.exits_gate, (unsigned long long)s.exits_trusted,
		       (unsigned long long)s.parked, (unsigned long long)s.delivered,
		       (unsigned long long)s.kills);
		for (r = 0; r < ELISA_EXIT_REASONS; r++)
			if (s.inside_by_reason[r])
				printf(" %s=%llu", elisa_exit_reason_name(r),
				       (unsigned long long)s.inside_by_reason[r]);
		printf("\n");
	}
}

/* Says what became of a VM; true if nothing more will come. */
static bool look_after(struct guest *g)
{
	struct elisa_vm_status s;

	if (elisa_vm_status(g->vm, &s) < 0)
		return true;
	if (s.state & ELISA_VM_KILLED) {
		printf("process %d: killed (%s) on vCPU %u in context %u: code %#llx "
		       "qualification %#llx gpa %#llx\n",
		       elisa_vm_pid(g->vm), elisa_kill_name(s.kill), s.kill_vcpu, s.kill_context,
		       (unsigned long long)s.kill_code, (unsigned long long)s.kill_qualification,
		       (unsigned long long)s.kill_gpa);
		return true;
	}
	if (s.state & ELISA_VM_GONE)
		printf("process %d: gone\n", elisa_vm_pid(g->vm));
	return s.state & ELISA_VM_GONE;
}

/* Until a signal, the time, or the end of the last VM. */
static int run(int seconds)
{
	struct timespec now;
	struct pollfd fds[EXAMPLE_MAX_VMS + 1];
	time_t end = 0;
	sigset_t set;
	size_t i, left = guest_count;
	int sfd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sfd = signalfd(-1, &set, SFD_CLOEXEC);
	if (sfd < 0)
		return -errno;
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + seconds;
	fds[guest_count] = (struct pollfd){.fd = sfd, .events = POLLIN};
	while (left) {
		int wait = -1, n;

		clock_gettime(CLOCK_MONOTONIC, &now);
		if (seconds && now.tv_sec >= end)
			break;
		if (seconds)
			wait = (int)(end - now.tv_sec) * 1000;
		for (i = 0; i < guest_count; i++)
			fds[i] = (struct pollfd){.fd = guests[i].done ? -1
								      : elisa_vm_fd(guests[i].vm),
						 .events = POLLIN};
		n = poll(fds, guest_count + 1, wait);
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0 && fds[guest_count].revents)
			break;
		for (i = 0; i < guest_count; i++) {
			if (n > 0 && fds[i].revents && look_after(&guests[i])) {
				guests[i].done = true;
				left--;
			}
		}
	}
	close(sfd);
	return 0;
}

static int serve(struct elisa_host *host, const pid_t *pids, size_t count, uint32_t flags,
		 int seconds)
{
	struct elisa_ctx *ctx;
	size_t i;
	int rc = elisa_ctx_create(host, service->entry, &ctx);

	if (rc < 0)
		return fail("cannot create a trusted context", rc);
	rc = elisa_export_object(ctx, service->state);
	if (!rc)
		rc = elisa_ctx_realize(ctx);
	if (rc)
		rc = fail("cannot export the service", rc);
	for (i = 0; i < count && !rc; i++)
		rc = attach(ctx, pids[i], flags);
	if (!rc) {
		printf("serving\n");
		rc = run(seconds);
	}
	for (i = 0; i < guest_count; i++) {
		print_stats(&guests[i]);
		elisa_vm_detach(guests[i].vm, TIMEOUT_MS);
	}
	printf("counter %llu\n",
	       (unsigned long long)__atomic_load_n(&service->state->counter, __ATOMIC_RELAXED));
	elisa_ctx_destroy(ctx);
	return rc ? 1 : 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"pid", required_argument, NULL, 'p'},
		{"force-cpu", no_argument, NULL, 'f'},
		{"seconds", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct elisa_why why = {.refusal = ELISA_REFUSE_NO_MODULE};
	pid_t pids[EXAMPLE_MAX_VMS];
	struct elisa_host *host;
	uint32_t flags = 0;
	size_t count = 0;
	int c, rc, seconds = 0;
	char text[512];
	sigset_t set;

	while ((c = getopt_long(argc, argv, "p:fs:h", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			if (count == EXAMPLE_MAX_VMS || (pids[count++] = atoi(optarg)) <= 0) {
				fprintf(stderr,
					"elisa-example-host: --pid %s: not a process id, or "
					"more than %d of them\n",
					optarg, EXAMPLE_MAX_VMS);
				return 2;
			}
			break;
		case 'f':
			flags |= ELISA_VM_FORCE_CPU;
			break;
		case 's':
			seconds = atoi(optarg);
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (!count || optind != argc) {
		usage(stderr);
		return 2;
	}
	service = elisa_example_service();
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	rc = elisa_host_open(&host);
	if (rc == -ENOENT || rc == -EPROTO) {
		why.refusal = rc == -ENOENT ? ELISA_REFUSE_NO_MODULE : ELISA_REFUSE_MODULE_REVISION;
		fprintf(stderr, "elisa-example-host: %s\n",
			elisa_why_text(&why, text, sizeof(text)));
		return 1;
	}
	if (rc < 0)
		return fail("/dev/elisa", rc);
	rc = serve(host, pids, count, flags, seconds);
	elisa_host_close(host);
	return rc;
}
