/* SPDX-License-Identifier: BSD-3-Clause */
/* The VMs of the ioctl fuzzer: each runs in a thread of its own, which also plays a hostile VMM. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <elisa/abi.h>
#include <elisa/layout.h>

#include "../lib/tinyvm.h"
#include "../vmx/programs.h"
#include "ctl.h"
#include "fuzz.h"

#define RESULT	   42		/* gate.S */
#define EXTRA_SLOT 10
#define EXTRA_LEN  (8ul << 20)	/* more than the VM's RAM: logging it is logging most */

struct player players[PLAYERS];
static struct machine {
	struct player *player;
	struct tinyvm *tvm;
	pthread_t thread;
	timer_t timer;
	uint64_t seed;
} machines[PLAYERS];
static __thread struct machine *mine;
static atomic_bool stop;

static void on_timer(int sig)
{
	if (mine && mine->tvm)
		tvm_interrupt_run(mine->tvm, 0);
}

static void timer_after(struct machine *m, uint64_t us)
{
	struct itimerspec when = { .it_value = { .tv_nsec = (long)us * 1000 } };

	timer_settime(m->timer, 0, &when, NULL);
}

static int birth(struct machine *m)
{
	struct tvm_config config = { .vcpus = 1 };
	int err = tvm_create(&config, &m->tvm);

	if (err) {
		m->tvm = NULL;
		return err;
	}
	tvm_load(m->tvm, TVM_GPA_CODE, prog_call, (size_t)(prog_call_end - prog_call));
	tvm_load(m->tvm, TVM_GPA_X + ELISA_GATE_OFFSET - ELISA_CALL_LEN, page_entry,
		 (size_t)(page_entry_end - page_entry));
	tvm_load(m->tvm, TVM_GPA_RETURN, page_return, (size_t)(page_return_end - page_return));
	tvm_timer(m->tvm, 0, 5000000);
	m->player->born++;
	atomic_store(&m->player->fd, tvm_fd(m->tvm));
	return 0;
}

static void death(struct machine *m)
{
	struct tinyvm *tvm = m->tvm;

	atomic_store(&m->player->fd, -1);
	m->tvm = NULL;
	if (tvm)
		tvm_destroy(tvm);
}

/* What a VMM may do to its VM at any time: slots in and out of the window, logged or not; vCPUs. */
static void meddle(struct machine *m)
{
	const uint64_t gpas[] = { 64ul << 20, window_gpa() - EXTRA_LEN, window_gpa(), 3ul << 30 };
	struct kvm_userspace_memory_region r = {
		.slot = EXTRA_SLOT, .guest_phys_addr = PICK(gpas),
		.flags = below(2) ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.userspace_addr = (uintptr_t)arena_address() & ~(uintptr_t)4095,
	};
	int fd = tvm_fd(m->tvm);

	r.memory_size = EXTRA_LEN;
	if (below(24) == 0) {
		close(ioctl(fd, KVM_CREATE_VCPU, 5));	/* stays until the VM ends */
	} else {
		ioctl(fd, KVM_SET_USER_MEMORY_REGION, &r);
		usleep((useconds_t)below(3000));
		r.memory_size = 0;
		if (below(8))
			ioctl(fd, KVM_SET_USER_MEMORY_REGION, &r);
	}
}

/* The vCPU was stopped by a signal, maybe inside. */
static void while_stopped(struct machine *m)
{
	struct kvm_regs regs;

	m->player->inside++;
	switch (below(8)) {
	case 0:
		usleep((useconds_t)below(20000));
		break;
	case 1:
		if (!tvm_regs(m->tvm, 0, &regs)) {
			regs.rax ^= 1;
			tvm_set_regs(m->tvm, 0, &regs);
		}
		break;
	case 2:
		meddle(m);
		break;
	case 3:
		death(m);
		break;
	default:
		break;
	}
}

static void count(struct player *p, const struct tvm_stop *why)
{
	if (why->why == TVM_OUT && why->value == RESULT)
		p->calls++;
	else if (why->why == TVM_OUT && (int)why->value == -ELISA_ESHUTDOWN)
		p->away++;
	else if (why->why == TVM_EXCEPTION && why->vector == 6)
		p->not_armed++;
	else
		p->deaths++;
}

static void one_call(struct machine *m)
{
	struct kvm_regs regs = {
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA,
		.rsi = below(12) ? 10 : 100000,
	};
	struct tvm_stop why = { .why = TVM_INTERRUPTED };
	int err = 0;

	m->player->runs++;
	tvm_reset(m->tvm, 0, 3, &regs);
	if (regs.rsi > 10)
		timer_after(m, 100 + below(1500));
	while (!err && why.why == TVM_INTERRUPTED && m->tvm) {
		err = tvm_run(m->tvm, 0, &why);
		if (!err && why.why == TVM_INTERRUPTED)
			while_stopped(m);
	}
	timer_after(m, 0);
	if (m->tvm)
		count(m->player, &why);
}

static void *play(void *arg)
{
	struct machine *m = arg;
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };

	mine = m;
	fuzz_seed = m->seed;
	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &ev, &m->timer))
		return NULL;
	while (!atomic_load(&stop)) {
		if (!m->tvm && birth(m)) {
			usleep(1000);
			continue;
		}
		for (uint64_t n = below(8); n && m->tvm; n--)
			one_call(m);
		if (m->tvm && below(10) == 0)
			meddle(m);
		if (below(60) == 0)
			death(m);
		usleep((useconds_t)below(20000));
	}
	timer_delete(m->timer);
	death(m);
	return NULL;
}

int players_start(uint64_t seed)
{
	struct sigaction action = { .sa_handler = on_timer };
	int err = 0;

	sigaction(SIGUSR1, &action, NULL);
	for (int i = 0; i < PLAYERS; i++) {
		machines[i] = (struct machine){ .player = &players[i], .seed = seed + (uint64_t)i };
		atomic_store(&players[i].fd, -1);
		err = birth(&machines[i]);
		if (err)
			return err;
	}
	for (int i = 0; i < PLAYERS; i++)
		pthread_create(&machines[i].thread, NULL, play, &machines[i]);
	return 0;
}

void players_stop(void)
{
	atomic_store(&stop, true);
	for (int i = 0; i < PLAYERS; i++)
		pthread_join(machines[i].thread, NULL);
}
