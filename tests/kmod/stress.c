/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stress [SECONDS [SEED]]: VMs call without end, with a timer ticking, while contexts, attachments
 * and mappings come and go around them at random. Each call must give the service's result, "away"
 * or "not attached" and nothing else; no VM may be killed; nothing may be left at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <elisa/abi.h>
#include <elisa/ioctl.h>

#include "../lib/tinyvm.h"
#include "../vmx/programs.h"
#include "../vmx/tap.h"
#include "ctl.h"

#define VMS		3
#define CONTEXTS	2
#define MAPS		4
#define MAP_LEN		(4ul << 20)
#define RESULT		42

struct vm {
	struct tinyvm *tvm;
	pthread_t thread;
	int fd, context;	/* -1: none */
	uint64_t calls, away, not_armed, other;
	long last_other;
};

static struct vm vms[VMS];
static struct context contexts[CONTEXTS];
static bool mapped[CONTEXTS][MAPS];
static char *memory;
static atomic_bool stop;
static uint64_t operations, put_off;

static void load_guest(struct tinyvm *t)
{
	tvm_load(t, TVM_GPA_CODE, prog_call, (size_t)(prog_call_end - prog_call));
	tvm_load(t, TVM_GPA_X + ELISA_GATE_OFFSET - ELISA_CALL_LEN, page_entry,
		 (size_t)(page_entry_end - page_entry));
	tvm_load(t, TVM_GPA_RETURN, page_return, (size_t)(page_return_end - page_return));
}

static void count_stop(struct vm *v, const struct tvm_stop *why)
{
	if (why->why == TVM_OUT && why->value == RESULT)
		v->calls++;
	else if (why->why == TVM_OUT && (int)why->value == -ELISA_ESHUTDOWN)
		v->away++;
	else if (why->why == TVM_EXCEPTION && why->vector == 6)
		v->not_armed++;
	else {
		v->other++;
		v->last_other = why->why == TVM_OUT ? (long)why->value : -(long)why->why;
	}
}

static void *caller(void *arg)
{
	struct vm *v = arg;
	unsigned int round = 0;
	struct tvm_stop why;

	tvm_timer(v->tvm, 0, 3000000);
	while (!atomic_load(&stop)) {
		struct kvm_regs regs = {
			.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA,
			.rsi = round++ % 8 ? 10 : 200000,	/* now and then a long one */
		};

		tvm_reset(v->tvm, 0, 3, &regs);
		if (tvm_run(v->tvm, 0, &why))
			v->other++;
		else
			count_stop(v, &why);
	}
	return NULL;
}

static int attach_vm(struct vm *v, int context)
{
	struct elisa_ctx_attach arg;

	v->fd = attach(contexts[context].fd, tvm_fd(v->tvm), &arg);
	if (v->fd < 0) {
		if (arg.refusal == ELISA_REFUSE_LEAVING || arg.refusal == ELISA_REFUSE_VCPU_BUSY) {
			put_off++;
			return 0;
		}
		note("attach: %s, refusal %u", strerror(errno), arg.refusal);
		return -1;
	}
	v->context = context;
	return arm(v->fd, 0);
}

static void let_go(struct vm *v)
{
	close(v->fd);
	v->fd = -1;
}

static int one_vm_operation(struct vm *v, int context)
{
	uint32_t timeout = 20000;
	int err;

	if (v->fd < 0)
		return attach_vm(v, context);
	switch (rand() % 5) {
	case 0:
		err = disarm(v->fd, 0, timeout);
		return err ? err : arm(v->fd, 0);
	case 1:
		if (ioctl(v->fd, ELISA_VM_DETACH, &timeout))
			return errno;
		let_go(v);
		return 0;
	case 2:
		let_go(v);
		return 0;
	case 3:
		return err_of(ioctl(v->fd, ELISA_VM_KICK));
	default:
		return status(v->fd).state & ELISA_VM_KILLED ? -1 : 0;
	}
}

/* Closes a context with whatever hangs on it, and opens it anew. */
static int renew_context(int context)
{
	context_close(&contexts[context]);
	memset(mapped[context], 0, sizeof(mapped[context]));
	for (int i = 0; i < VMS; i++)
		if (vms[i].fd >= 0 && vms[i].context == context)
			let_go(&vms[i]);
	return context_open(&contexts[context]);
}

static int one_map_operation(int context)
{
	int slot = rand() % MAPS, fd = contexts[context].fd, err;
	uint64_t gpa = contexts[context].window + (uint64_t)(3 + slot) * GIB;

	if (mapped[context][slot])
		err = unmap(fd, gpa, MAP_LEN);
	else
		err = map(fd, memory + (size_t)slot * MAP_LEN, gpa, MAP_LEN,
			  ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_TRUSTED);
	mapped[context][slot] = !mapped[context][slot];
	return err;
}

static int one_operation(void)
{
	int dice = rand() % 20, context = rand() % CONTEXTS;

	operations++;
	if (dice == 0)
		return renew_context(context);
	if (dice < 6)
		return one_map_operation(context);
	return one_vm_operation(&vms[rand() % VMS], context);
}

static void start(void)
{
	struct tvm_config config = { .vcpus = 1 };

	for (int i = 0; i < CONTEXTS; i++)
		if (context_open(&contexts[i]))
			exit(1);
	for (int i = 0; i < VMS; i++) {
		vms[i].fd = -1;
		if (tvm_create(&config, &vms[i].tvm)) {
			note("no KVM");
			exit(TAP_SKIP);
		}
		load_guest(vms[i].tvm);
		pthread_create(&vms[i].thread, NULL, caller, &vms[i]);
	}
}

static void finish(void)
{
	struct elisa_info end;

	atomic_store(&stop, true);
	for (int i = 0; i < VMS; i++) {
		struct vm *v = &vms[i];

		pthread_join(v->thread, NULL);
		ok(!v->other && v->calls, "VM %d: %lu calls, %lu away, %lu not attached, %lu else (%ld)",
		   i, v->calls, v->away, v->not_armed, v->other, v->last_other);
		if (v->fd >= 0)
			close(v->fd);
		tvm_destroy(v->tvm);
	}
	for (int i = 0; i < CONTEXTS; i++)
		context_close(&contexts[i]);
	for (int i = 0; i < 100 && get_info().vms; i++)
		usleep(20000);
	end = get_info();
	ok(!end.vms && !end.contexts && !end.pinned_pages,
	   "nothing is left: %llu VMs, %llu contexts, %llu pages", end.vms, end.contexts,
	   end.pinned_pages);
}

int main(int argc, char **argv)
{
	time_t until = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);
	int err = 0;

	srand(argc > 2 ? (unsigned int)atoi(argv[2]) : 1);
	dev = open("/dev/elisa", O_RDWR | O_CLOEXEC);
	if (dev < 0) {
		note("/dev/elisa: %s: load elisa.ko as root", strerror(errno));
		return TAP_SKIP;
	}
	memory = pages(MAPS * MAP_LEN);
	start();
	while (time(NULL) < until && !err) {
		err = one_operation();
		usleep((useconds_t)(rand() % 5000));
	}
	ok(!err, "%lu operations, %lu attaches put off (%d)", operations, put_off, err);
	finish();
	return tap_done();
}
