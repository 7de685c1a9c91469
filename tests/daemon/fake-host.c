/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A test double of libelisa-host, so that the daemon's handling of VMs runs where there is no VT-x.
 * Any process can be a "VM". What it does is read from $FAKE_HOST_DIR/PID, lines of "KEY NUMBER":
 *
 *	refuse, detail	attach is refused so
 *	steps, step_ms	attach and detach take so many more steps of RAM (0), each so long (0)
 *	step_fails	the step that is left at this number fails (0: none does)
 *	vcpus		how many there are (2)
 *	arm_fails	there is no memory to arm the nth (0: there is)
 *	inside		how many are stopped inside (0)
 *	kill, code	it was killed so
 *	logged		1: its memory is being copied; attach is refused so
 *	reset		a change of the number is a reset
 *	send		1: vCPU 0 sends a frame at which a NIC's library for tests stops inside
 *
 * $FAKE_HOST_DIR/0, likewise:
 *
 *	findings	so many are there when a driver is checked
 *	watchdog	1: the ports of the daemon's watchdog are down, 2: its guest is reset
 *	stuck		1: threads of NICs do not get any further
 *	die		the daemon is killed at its nth call from its start on of what attach and detach consist of
 *
 * $FAKE_HOST_DIR/root: has what /sys and /proc are for the daemon to look at, but for VMs' processes.
 * $FAKE_HOST_DIR/moments gets how many of these calls there were.
 * $FAKE_HOST_DIR/no-module: there is no module. What was done is written to $FAKE_HOST_DIR/log.
 */
#include <elisa/check.h>
#include <elisa/host.h>
#include <elisa/net.h>
#include <vswitch/nic.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct elisa_host {
	int unused;
};

struct elisa_ctx {
	unsigned int vms, exports;
	pid_t attached[256];
};

#define REGIONS	   2
#define REGION_LEN 0x200000ul

struct elisa_vm {
	struct elisa_ctx *ctx;
	pthread_t vcpu;
	bool sends;
	pid_t pid;
	int epoll, pidfd, inotify, news;
	struct elisa_region regions[REGIONS];
	unsigned int armed;
	long steps, mapped;
	bool arm[64];
	long reset;
};

/* The daemon's calls (the linker's --wrap). */
void __real_vs_tick(struct vswitch *vs, uint64_t now_s);
void __wrap_vs_tick(struct vswitch *vs, uint64_t now_s);
int __real_vs_nic_status(const struct vswitch *vs, int port, struct vs_nic_status *status);
int __wrap_vs_nic_status(const struct vswitch *vs, int port, struct vs_nic_status *status);
const char *__wrap_host_root(void);

static const char *dir(void)
{
	const char *path = getenv("FAKE_HOST_DIR");

	return path ? path : "/nonexistent";
}

const char *__wrap_host_root(void)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/root", dir());
	return access(path, F_OK) ? "" : path;
}

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
	char path[256];
	va_list ap;
	FILE *f;

	snprintf(path, sizeof(path), "%s/log", dir());
	f = fopen(path, "ae");
	if (!f)
		return;
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fputc('\n', f);
	fclose(f);
}

static long value_in(const char *name, const char *key, long otherwise)
{
	char path[256], line[128], word[64];
	FILE *f;
	long n;

	snprintf(path, sizeof(path), "%s/%s", dir(), name);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %ld", word, &n) == 2 && !strcmp(word, key))
			otherwise = n;
	if (f)
		fclose(f);
	return otherwise;
}

static long value(pid_t pid, const char *key, long otherwise)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", (int)pid);
	return value_in(name, key, otherwise);
}

/* A step of attach or detach; begin and end of a call are two. */
static void moment(void)
{
	static long moments;
	long die = value(0, "die", 0);
	char path[256];
	FILE *f;

	moments++;
	snprintf(path, sizeof(path), "%s/moments", dir());
	f = fopen(path, "we");
	if (f) {
		fprintf(f, "%ld\n", moments);
		fclose(f);
	}
	if (die && moments >= die)
		kill(getpid(), SIGKILL);
}

/* ---- the switch ---- */

/* Each second, by the event loop. */
void __wrap_vs_tick(struct vswitch *vs, uint64_t now_s)
{
	long what = value(0, "watchdog", 0);
	struct vs_port_info info;

	for (int id = 0; id < VS_PORTS_MAX; id++) {
		if (vs_port_info(vs, id, &info) || strncmp(info.config.name, "_watchdog", 9))
			continue;
		if (what == 2)
			vs_guest_reset(vs, info.guest);
		if (info.config.up == (what == 1)) {
			info.config.up = what != 1;
			vs_port_set(vs, id, &info.config);
		}
	}
	__real_vs_tick(vs, now_s);
}

/* By a NIC's thread again and again. */
int __wrap_vs_nic_status(const struct vswitch *vs, int port, struct vs_nic_status *status)
{
	while (gettid() != getpid() && value(0, "stuck", 0))
		usleep(10000);
	return __real_vs_nic_status(vs, port, status);
}

/* ---- host, context ---- */

int elisa_host_open(struct elisa_host **host)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/no-module", dir());
	if (!access(path, F_OK))
		return (int)-value_in("no-module", "errno", ENOENT);
	*host = calloc(1, sizeof(**host));
	return *host ? 0 : -ENOMEM;
}

void elisa_host_close(struct elisa_host *host)
{
	free(host);
}

int elisa_host_info(struct elisa_host *host, struct elisa_info *info)
{
	*info = (struct elisa_info){.revision = ELISA_IOCTL_REVISION, .phys_bits = 40};
	return 0;
}

int elisa_ctx_create(struct elisa_host *host, elisa_entry_fn entry, struct elisa_ctx **ctx)
{
	*ctx = calloc(1, sizeof(**ctx));
	note("context");
	return *ctx ? 0 : -ENOMEM;
}

int elisa_export(struct elisa_ctx *ctx, const void *addr, size_t len, uint32_t prot)
{
	ctx->exports++;
	note("export %zx", len);
	return 0;
}

int elisa_unexport(struct elisa_ctx *ctx, const void *addr, size_t len)
{
	ctx->exports--;
	note("unexport %zx", len);
	return 0;
}

int elisa_export_object(struct elisa_ctx *ctx, const void *symbol)
{
	return 0;
}

int elisa_ctx_where(struct elisa_ctx *ctx, uint64_t gpa, char *buf, size_t len)
{
	snprintf(buf, len, "libfake.so+%#llx", (unsigned long long)gpa);
	return -ENOENT;
}

int elisa_export_object_as(struct elisa_ctx *ctx, const void *symbol, uint32_t parts)
{
	note("export parts %x", parts);
	return 1;
}

int elisa_export_tls(struct elisa_ctx *ctx)
{
	note("tls");
	return 0;
}

int elisa_ctx_thread(struct elisa_ctx *ctx, int (*begin)(void *arg), void (*end)(void *arg),
		     void *arg)
{
	return 0;
}

/* Runs it, here; with as many findings as $FAKE_HOST_DIR/0 says with "findings". */
int elisa_check(const struct elisa_check *check, struct elisa_check_result *result)
{
	int (*fn)(uint64_t, uint64_t) = (int (*)(uint64_t, uint64_t))check->fn;
	int findings = (int)value(0, "findings", 0);

	note("check");
	*result = (struct elisa_check_result){.findings = (uint32_t)findings,
					      .complete = true,
					      .value = fn(check->args[0], check->args[1]),
					      .stack = 100};
	for (int i = 0; i < findings; i++) {
		struct elisa_finding f = {
			.kind = i ? ELISA_FOUND_READ : ELISA_FOUND_SYSCALL,
			.text = i ? "a read of libfake.so" : "system call 1 by libfake.so"};

		check->found(&f, check->arg);
	}
	return findings;
}

const char *elisa_found_name(enum elisa_found kind)
{
	return kind == ELISA_FOUND_SYSCALL ? "system-call" : "read";
}

int elisa_ctx_realize(struct elisa_ctx *ctx)
{
	return 0;
}

static struct elisa_vm *live[256];
static void vcpu_end(struct elisa_vm *vm);

static void vm_free(struct elisa_vm *vm)
{
	vcpu_end(vm);
	for (unsigned int i = 0; i < 256; i++) {
		if (vm->ctx->attached[i] == vm->pid)
			vm->ctx->attached[i] = 0;
		if (live[i] == vm)
			live[i] = NULL;
	}
	for (unsigned int i = 0; i < REGIONS; i++)
		if (vm->regions[i].addr)
			munmap(vm->regions[i].addr, vm->regions[i].len);
	close(vm->epoll);
	close(vm->pidfd);
	close(vm->inotify);
	close(vm->news);
	free(vm);
}

void elisa_ctx_destroy(struct elisa_ctx *ctx)
{
	for (unsigned int i = 0; i < 256; i++) {
		if (live[i]) {
			note("away %d", (int)live[i]->pid);
			vm_free(live[i]);
		}
	}
	free(ctx);
}

/* ---- VM ---- */

static int map_region(struct elisa_region *region, uint64_t gpa)
{
	int fd = memfd_create("fake-ram", MFD_CLOEXEC);
	void *addr = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, REGION_LEN))
		addr = mmap(NULL, REGION_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (addr == MAP_FAILED)
		return -ENOMEM;
	*region = (struct elisa_region){gpa, REGION_LEN, addr};
	return 0;
}

static int watch(struct elisa_vm *vm)
{
	struct epoll_event event = {.events = EPOLLIN};

	vm->epoll = epoll_create1(EPOLL_CLOEXEC);
	vm->pidfd = (int)syscall(SYS_pidfd_open, vm->pid, 0);
	vm->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	vm->news = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->epoll < 0 || vm->pidfd < 0 || vm->inotify < 0 || vm->news < 0 ||
	    inotify_add_watch(vm->inotify, dir(), IN_MOVED_TO) < 0 ||
	    epoll_ctl(vm->epoll, EPOLL_CTL_ADD, vm->pidfd, &event) ||
	    epoll_ctl(vm->epoll, EPOLL_CTL_ADD, vm->inotify, &event) ||
	    epoll_ctl(vm->epoll, EPOLL_CTL_ADD, vm->news, &event))
		return -errno;
	return 0;
}

static uint32_t refusal(struct elisa_ctx *ctx, pid_t pid)
{
	if (kill(pid, 0))
		return ELISA_REFUSE_NO_PROCESS;
	for (unsigned int i = 0; i < 256; i++)
		if (ctx->attached[i] == pid)
			return ELISA_REFUSE_ALREADY_ATTACHED;
	if (value(pid, "logged", 0))
		return ELISA_REFUSE_LOGGED;
	return (uint32_t)value(pid, "refuse", 0);
}

int elisa_vm_attach_begin(struct elisa_ctx *ctx, pid_t pid, uint32_t flags, struct elisa_why *why,
			  struct elisa_vm **out)
{
	struct elisa_vm *vm;
	unsigned int slot = 0;
	int ret;

	moment();
	why->refusal = refusal(ctx, pid);
	why->detail = (uint64_t)value(pid, "detail", 0);
	if (why->refusal)
		return -EPERM;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	vm->ctx = ctx;
	vm->pid = pid;
	vm->reset = value(pid, "reset", 0);
	vm->steps = value(pid, "steps", 0);
	vm->epoll = vm->pidfd = vm->inotify = vm->news = -1;
	ret = watch(vm);
	for (unsigned int i = 0; i < REGIONS && !ret; i++)
		ret = map_region(&vm->regions[i], (uint64_t)i << 32);
	if (ret) {
		vm_free(vm);
		return ret;
	}
	while (live[slot])
		slot++;
	live[slot] = vm;
	ctx->attached[slot] = pid;
	moment();
	note("attach %d%s", (int)pid, flags & ELISA_VM_FORCE_CPU ? " force" : "");
	*out = vm;
	return 0;
}

static int step(struct elisa_vm *vm, long by)
{
	long fails = value(vm->pid, "step_fails", 0);

	moment();
	usleep((useconds_t)value(vm->pid, "step_ms", 0) * 1000);
	if (by > 0 && fails && vm->steps - vm->mapped == fails)
		return -ENOMEM;
	vm->mapped += by;
	return 1;
}

int elisa_vm_attach_step(struct elisa_vm *vm)
{
	if (vm->mapped < vm->steps)
		return step(vm, 1);
	moment();
	note("mapped %d", (int)vm->pid);
	return 0;
}

int elisa_vm_detach_step(struct elisa_vm *vm, uint32_t timeout_ms)
{
	return vm->mapped ? step(vm, -1) : 0;
}

int elisa_vm_regions(struct elisa_vm *vm, const struct elisa_region **regions)
{
	moment();
	*regions = vm->regions;
	return REGIONS;
}

/* By way of its first port, to an address at which libvswitch-nic-stop does not return. */
static void send_and_stop(struct elisa_vm *vm, void *cookie)
{
	static const uint8_t to[6] = {0x02, 0x00, 0xde, 0xad, 0x00, 0x01};
	enum { SETUP = 0x1000, INFO = 0x2000, RING = 0x3000, FRAME = 0x4000 };
	uint8_t *ram = vm->regions[0].addr;
	struct elisa_queue_setup setup = {.revision = ELISA_NET_REVISION, .tx_size = 8, .tx_ring = RING};
	struct elisa_txd txd = {.addr = FRAME, .len = 60};
	struct elisa_port_info info;
	int64_t handle;

	memcpy(ram + SETUP, &setup, sizeof(setup));
	memcpy(ram + RING, &txd, sizeof(txd));
	vs_entry(cookie, ELISA_NET_PORT_INFO, 0, 0, INFO, 0);
	memcpy(&info, ram + INFO, sizeof(info));
	memcpy(ram + FRAME, to, 6);
	memcpy(ram + FRAME + 6, info.mac, 6);
	handle = vs_entry(cookie, ELISA_NET_QUEUE_SETUP, SETUP, 0, 0, 0);
	note("sends by %lld", (long long)handle);
	handle = vs_entry(cookie, ELISA_NET_TX, (uint64_t)handle, 0, 1, 0);
	note("sent: %lld", (long long)handle);
}

struct vcpu {
	struct elisa_vm *vm;
	void *cookie;
};

static void *vcpu_main(void *arg)
{
	struct vcpu vcpu = *(struct vcpu *)arg;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	free(arg);
	send_and_stop(vcpu.vm, vcpu.cookie);
	return NULL;
}

static int vcpu_start(struct elisa_vm *vm, void *cookie)
{
	struct vcpu *vcpu = malloc(sizeof(*vcpu));

	if (!vcpu)
		return -ENOMEM;
	*vcpu = (struct vcpu){vm, cookie};
	vm->sends = !pthread_create(&vm->vcpu, NULL, vcpu_main, vcpu);
	return 0;
}

/* It may be in the middle of anything. */
static void vcpu_end(struct elisa_vm *vm)
{
	if (!vm->sends)
		return;
	vm->sends = false;
	pthread_cancel(vm->vcpu);
	pthread_join(vm->vcpu, NULL);
}

int elisa_vm_arm(struct elisa_vm *vm, uint32_t vcpu_id, void *cookie)
{
	moment();
	if (vm->arm[vcpu_id])
		return -EBUSY;
	if (value(vm->pid, "arm_fails", 0) == (long)vcpu_id + 1)
		return -ENOMEM;
	if (!vcpu_id && value(vm->pid, "send", 0) && vcpu_start(vm, cookie))
		return -ENOMEM;
	vm->arm[vcpu_id] = true;
	vm->armed++;
	note("arm %d %u", (int)vm->pid, vcpu_id);
	moment();
	return 0;
}

int elisa_vm_disarm(struct elisa_vm *vm, uint32_t vcpu_id, uint32_t timeout_ms)
{
	vm->armed -= vm->arm[vcpu_id];
	vm->arm[vcpu_id] = false;
	return 0;
}

int elisa_vm_disarm_all(struct elisa_vm *vm, uint32_t timeout_ms)
{
	moment();
	vcpu_end(vm);
	for (uint32_t i = 0; i < 64; i++)
		elisa_vm_disarm(vm, i, timeout_ms);
	note("disarm %d%s", (int)vm->pid, timeout_ms ? "" : " now");
	moment();
	return 0;
}

void elisa_vm_detach(struct elisa_vm *vm, uint32_t timeout_ms)
{
	moment();
	note("detach %d%s", (int)vm->pid, vm->mapped ? " all at once" : "");
	vm_free(vm);
	moment();
}

int elisa_vm_fd(const struct elisa_vm *vm)
{
	return vm->epoll;
}

int elisa_vm_status(struct elisa_vm *vm, struct elisa_vm_status *st)
{
	struct pollfd process = {.fd = vm->pidfd, .events = POLLIN};
	char events[4096];
	long reset = value(vm->pid, "reset", 0);

	while (read(vm->news, events, sizeof(events)) > 0 ||
	       read(vm->inotify, events, sizeof(events)) > 0)
		;
	*st = (struct elisa_vm_status){
		.vcpus = (uint32_t)value(vm->pid, "vcpus", 2),
		.armed = vm->armed,
		.inside = (uint32_t)value(vm->pid, "inside", 0),
		.kill = (uint32_t)value(vm->pid, "kill", 0),
		.kill_code = (uint64_t)value(vm->pid, "code", 0),
		.kill_gpa = (uint64_t)value(vm->pid, "gpa", 0),
		.kill_context = 2,
		.pid = (uint32_t)vm->pid,
	};
	if (poll(&process, 1, 0) == 1)
		st->state |= ELISA_VM_GONE;
	if (st->kill) {
		st->state |= ELISA_VM_KILLED;
		eventfd_write(vm->news, 1); /* stays readable, as POLLERR does */
	}
	if (reset != vm->reset)
		st->state |= ELISA_VM_RESET;
	if (value(vm->pid, "logged", 0))
		st->state |= ELISA_VM_LOGGED;
	vm->reset = reset;
	return 0;
}

int elisa_vm_stats(struct elisa_vm *vm, uint32_t vcpu_id, struct elisa_vcpu_stats *stats)
{
	*stats = (struct elisa_vcpu_stats){.vcpu_id = vcpu_id, .exits = 10, .exits_trusted = 3};
	stats->inside_by_reason[1] = 3; /* external interrupt, SDM vol. 3, appendix C */
	return 0;
}

int elisa_vm_kick(struct elisa_vm *vm)
{
	return 0;
}

int elisa_ram_guard(void)
{
	return 0;
}

bool elisa_vm_lost(const struct elisa_vm *vm)
{
	return false;
}

pid_t elisa_vm_pid(const struct elisa_vm *vm)
{
	return vm->pid;
}
