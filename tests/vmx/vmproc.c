/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "programs.h"
#include "vmproc.h"

#define START_TIMEOUT	20.0	/* seconds */
#define MAX_OWNED	8

extern char **environ;

/* ---- the monitor's side ---- */

static struct tinyvm *own_vm;
static volatile struct vmproc_control *own;

static void start_vcpu(unsigned int v)
{
	struct kvm_regs regs = {
		.rip = TVM_USER(TVM_GPA_CODE),
		.rbx = ELISA_CALL_VA,
		.r12 = TVM_USER(TVM_GPA_DATA + v * WORDS_SIZE),
	};

	if (tvm_reset(own_vm, v, 3, &regs))
		_exit(3);
}

static void *run_vcpu(void *arg)
{
	unsigned int v = (unsigned int)(uintptr_t)arg;
	volatile struct vmproc_vcpu *me = &own->vcpu[v];
	struct tvm_stop stop;

	me->tid = (uint64_t)gettid();
	while (!own->run)
		usleep(1000);
	start_vcpu(v);
	for (;;) {
		if (tvm_run(own_vm, v, &stop))
			stop.why = TVM_FAIL;
		me->last_why = stop.why;
		me->last_vector = stop.vector;
		if (stop.why == TVM_EXCEPTION && stop.vector == 6) {
			me->unattached++;
		} else if (stop.why == TVM_SHUTDOWN) {
			me->shutdowns++;
		} else if (stop.why == TVM_INTERRUPTED || stop.why == TVM_OUT) {
			continue;
		} else {
			me->broken++;
			return NULL;
		}
		usleep(2000);
		start_vcpu(v);
	}
}

#define LOG_PAGES_MAX	(TVM_RAM_MAX / 4096)
#define LOG_WHAT(n)	((n) % 4)	/* the rest counts, so that each request is another number */

static void serve_log(void)
{
	static uint64_t bitmap[LOG_PAGES_MAX / 64];
	uint64_t ram = own->config.ram ? own->config.ram : TVM_RAM_DEFAULT;
	enum vmproc_log what = LOG_WHAT(own->log);
	struct kvm_userspace_memory_region slot = {
		.flags = what == LOG_ON ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.memory_size = ram,
		.userspace_addr = (uintptr_t)tvm_mem(own_vm, 0),
	};
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };
	uint32_t dirty = 0;
	int rc;

	memset(bitmap, 0, sizeof(bitmap));
	rc = what == LOG_READ ? ioctl(tvm_fd(own_vm), KVM_GET_DIRTY_LOG, &log)
			      : ioctl(tvm_fd(own_vm), KVM_SET_USER_MEMORY_REGION, &slot);
	for (uint64_t i = 0; i < ram / 4096 / 64; i++)
		dirty += (uint32_t)__builtin_popcountll(bitmap[i]);
	own->dirty = rc ? ~0u : dirty;
	own->logged = own->log;
}

static void __attribute__((noreturn)) be_monitor(int ram_fd, int control_fd)
{
	struct tvm_config config;
	pthread_t thread;
	int err = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	own = mmap(NULL, sizeof(*own), PROT_READ | PROT_WRITE, MAP_SHARED, control_fd, 0);
	if (own == MAP_FAILED)
		_exit(1);
	memcpy(&config, (const void *)&own->config, sizeof(config));
	config.ram_fd = ram_fd;
	for (unsigned int i = 0; !err && i < own->vms; i++) {
		struct tinyvm *vm;

		err = tvm_create(&config, &vm);
		if (!i)
			own_vm = vm;
		config.ram_fd = -1;
	}
	if (!err && own->vms) {
		guest_pages(own_vm, RETURN_CALL);
		tvm_load(own_vm, TVM_GPA_CODE, prog_serve,
			 (size_t)(prog_serve_end - prog_serve));
		for (unsigned int v = 0; !err && v < config.vcpus; v++)
			err = -pthread_create(&thread, NULL, run_vcpu, (void *)(uintptr_t)v);
	}
	own->error = err;
	own->ready = err ? 2 : 1;
	for (;;) {
		if (own->log != own->logged && !err)
			serve_log();
		usleep(1000);
	}
}

/* ---- the owner's side ---- */

static volatile sig_atomic_t told_to_end;

static void on_term(int sig)
{
	(void)sig;
	told_to_end = 1;
}

static void __attribute__((noreturn)) be_owner(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_term };
	struct elisa_vm *vms[MAX_OWNED];
	struct host h;
	sigset_t block, old;
	int ready = atoi(argv[0]), count = argc - 2;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGTERM, &sa, NULL);
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, &old);
	if (count > MAX_OWNED || host_open(&h))
		_exit(1);
	for (int i = 0; i < count; i++)
		if (host_attach(&h, atoi(argv[i + 2]), (unsigned int)atoi(argv[1]),
				(unsigned int)i, &vms[i]))
			_exit(1);
	if (write(ready, "r", 1) != 1)
		_exit(1);
	while (!told_to_end)
		sigsuspend(&old);
	for (int i = 0; i < count; i++)
		elisa_vm_detach(vms[i], 2000);
	host_close(&h);
	_exit(0);
}

void vmproc_main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--vm"))
		be_monitor(atoi(argv[2]), atoi(argv[3]));
	if (argc >= 4 && !strcmp(argv[1], "--owner"))
		be_owner(argc - 2, argv + 2);
}

/* ---- the test's side ---- */

/* Starts this program again; `fd1` and `fd2` stay open in it under the same numbers. */
static pid_t start_self(char **argv, int fd1, int fd2)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int err;

	posix_spawn_file_actions_init(&actions);
	/* dup2 to itself: clears close-on-exec */
	posix_spawn_file_actions_adddup2(&actions, fd1, fd1);
	if (fd2 >= 0)
		posix_spawn_file_actions_adddup2(&actions, fd2, fd2);
	err = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return err ? -err : pid;
}

static int map_shared(const char *name, uint64_t len, int *fd, void **addr)
{
	*fd = memfd_create(name, MFD_CLOEXEC);
	if (*fd < 0)
		return -errno;
	if (ftruncate(*fd, (off_t)len))
		return -errno;
	*addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	return *addr == MAP_FAILED ? -errno : 0;
}

static int wait_ready(struct vmproc *p)
{
	double end = seconds() + START_TIMEOUT;

	while (!p->control->ready && seconds() < end) {
		if (waitpid(p->pid, NULL, WNOHANG) == p->pid) {
			p->pid = -1;
			return -ECHILD;
		}
		usleep(2000);
	}
	if (p->control->ready == 1)
		return 0;
	return p->control->ready ? p->control->error : -ETIMEDOUT;
}

int vmproc_start(struct vmproc *p, const struct tvm_config *config, unsigned int vms)
{
	char ram[16], control[16], *argv[] = { "tinyvm", "--vm", ram, control, NULL };
	void *a = NULL, *b = NULL;
	int err;

	memset(p, 0, sizeof(*p));
	p->pid = p->ram_fd = p->control_fd = -1;
	p->ram_len = config->ram ? config->ram : TVM_RAM_DEFAULT;
	err = map_shared("vmproc-ram", p->ram_len, &p->ram_fd, &a);
	if (!err)
		err = map_shared("vmproc", sizeof(*p->control), &p->control_fd, &b);
	if (err)
		return err;
	p->ram = a;
	p->control = b;
	memcpy((void *)&p->control->config, config, sizeof(*config));
	p->control->vms = vms;
	snprintf(ram, sizeof(ram), "%d", p->ram_fd);
	snprintf(control, sizeof(control), "%d", p->control_fd);
	p->pid = start_self(argv, p->ram_fd, p->control_fd);
	if (p->pid < 0)
		return p->pid;
	err = wait_ready(p);
	if (err)
		vmproc_free(p);
	return err;
}

void vmproc_kill(struct vmproc *p)
{
	if (p->pid <= 0)
		return;
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	p->pid = -1;
}

void vmproc_free(struct vmproc *p)
{
	vmproc_kill(p);
	if (p->ram)
		munmap(p->ram, p->ram_len);
	if (p->control)
		munmap((void *)p->control, sizeof(*p->control));
	if (p->ram_fd >= 0)
		close(p->ram_fd);
	if (p->control_fd >= 0)
		close(p->control_fd);
	memset(p, 0, sizeof(*p));
	p->pid = p->ram_fd = p->control_fd = -1;
}

volatile uint64_t *vmproc_word(const struct vmproc *p, unsigned int vcpu, unsigned int word)
{
	return (volatile uint64_t *)(p->ram + TVM_GPA_DATA + vcpu * WORDS_SIZE + word);
}

void vmproc_set_op(struct vmproc *p, uint64_t op, uint64_t a1)
{
	for (unsigned int v = 0; v < TVM_MAX_VCPUS; v++) {
		*vmproc_word(p, v, WORD_A1) = a1;
		*vmproc_word(p, v, WORD_OP) = op;
	}
}

int vmproc_log(struct vmproc *p, enum vmproc_log what)
{
	double end = seconds() + START_TIMEOUT;

	p->control->log = (p->control->log / 4 + 1) * 4 + what;
	while (p->control->logged != p->control->log) {
		if (seconds() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return p->control->dirty == ~0u ? -EIO : (int)p->control->dirty;
}

pid_t owner_start(const struct vmproc *vms, unsigned int count, unsigned int vcpus)
{
	char ready[16], number[16], pids[MAX_OWNED][16];
	char *argv[MAX_OWNED + 5] = { "owner", "--owner", ready, number };
	int fds[2];
	pid_t pid;
	char c;

	if (count > MAX_OWNED || pipe2(fds, O_CLOEXEC))
		return -EINVAL;
	snprintf(ready, sizeof(ready), "%d", fds[1]);
	snprintf(number, sizeof(number), "%u", vcpus);
	for (unsigned int i = 0; i < count; i++) {
		snprintf(pids[i], sizeof(pids[i]), "%d", (int)vms[i].pid);
		argv[4 + i] = pids[i];
	}
	pid = start_self(argv, fds[1], -1);
	close(fds[1]);
	/* It closes its end without a word if it fails. */
	if (pid > 0 && read(fds[0], &c, 1) != 1) {
		waitpid(pid, NULL, 0);
		pid = -ECHILD;
	}
	close(fds[0]);
	return pid;
}
