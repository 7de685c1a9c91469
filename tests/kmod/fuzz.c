/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz [SEQUENCES [SEED]]: random sequences of /dev/elisa's ioctls by several threads and by
 * processes forked from them: sensible and senseless arguments, bad pointers, descriptors of all
 * kinds that are closed, duplicated and replaced meanwhile, memory that is unmapped meanwhile, VMs
 * that run, call and die meanwhile (fuzz-vms.c), allocations that fail (if fault/elisa-fault.ko is
 * loaded). A sequence is what its number and the seed make it.
 *
 * Each call must succeed or give an error that ioctl.h names for it; a child must not get anything
 * out of its parent's context; at the end nothing is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/tinyvm.h"
#include "../vmx/tap.h"
#include "ctl.h"
#include "faults.h"
#include "fuzz.h"

#define THREADS	    3
#define CALLS_MAX   12		/* of a sequence */
#define ENTRIES	    4		/* descriptors of each kind */
#define REGIONS	    8		/* of the arena */
#define REGION_LEN  (4ul << 20)
#define HOLE	    0xd0000000	/* neither RAM nor anybody's */
#define ERRNO_MAX   133

enum kind { DEVICE, CONTEXT, VM, OTHER, KINDS };
enum call { INFO, CREATE, MAP, UNMAP, ATTACH, SLOTS, ARM, DISARM, DETACH, STATUS, KICK, STATS, UNKNOWN,
	    CALLS };

/* A descriptor may be of another kind than the call is for: ENOTTY, or EACCES of a context. */
#define ANY_ERRORS   EFAULT, EINVAL, ENOTTY, ENOMEM, EBADF, EINTR, EACCES
#define VM_ERRORS    ANY_ERRORS, ESTALE, ENODEV
static const struct {
	const char *name;
	unsigned long cmd;
	size_t size;
	enum kind kind;
	int errors[16];
} calls[CALLS] = {
	[INFO] = { "INFO", ELISA_INFO, sizeof(struct elisa_info), DEVICE, { ANY_ERRORS } },
	[CREATE] = { "CONTEXT_CREATE", ELISA_CONTEXT_CREATE, sizeof(struct elisa_context_create),
		     DEVICE, { ANY_ERRORS, ERANGE, EMFILE } },
	[MAP] = { "CTX_MAP", ELISA_CTX_MAP, sizeof(struct elisa_ctx_map), CONTEXT,
		  { ANY_ERRORS, EEXIST, ERANGE } },
	[UNMAP] = { "CTX_UNMAP", ELISA_CTX_UNMAP, sizeof(struct elisa_ctx_unmap), CONTEXT,
		    { ANY_ERRORS, ENOENT } },
	[ATTACH] = { "CTX_ATTACH", ELISA_CTX_ATTACH, sizeof(struct elisa_ctx_attach), CONTEXT,
		     { ANY_ERRORS, EPERM, EMFILE } },
	[SLOTS] = { "VM_SLOTS", ELISA_VM_SLOTS, sizeof(struct elisa_vm_slots), VM,
		    { VM_ERRORS, ENOSPC } },
	[ARM] = { "VM_ARM", ELISA_VM_ARM, sizeof(struct elisa_vm_arm), VM,
		  { VM_ERRORS, ENOENT, EBUSY, EPERM, EOPNOTSUPP } },
	[DISARM] = { "VM_DISARM", ELISA_VM_DISARM, sizeof(struct elisa_vm_disarm), VM,
		     { VM_ERRORS, ENOENT } },
	[DETACH] = { "VM_DETACH", ELISA_VM_DETACH, sizeof(uint32_t), VM, { VM_ERRORS } },
	[STATUS] = { "VM_STATUS", ELISA_VM_STATUS, sizeof(struct elisa_vm_status), VM,
		     { VM_ERRORS } },
	[KICK] = { "VM_KICK", ELISA_VM_KICK, 0, VM, { VM_ERRORS } },
	[STATS] = { "VM_STATS", ELISA_VM_STATS, sizeof(struct elisa_vcpu_stats), VM,
		    { VM_ERRORS, ENOENT } },
	[UNKNOWN] = { "unknown", 0, 64, KINDS, { ANY_ERRORS } },
};

union argument {
	struct elisa_context_create create;
	struct elisa_ctx_map map;
	struct elisa_ctx_unmap unmap;
	struct elisa_ctx_attach attach;
	struct elisa_vm_slots slots;
	struct elisa_vm_arm arm;
	struct elisa_vm_disarm disarm;
	struct elisa_vcpu_stats stats;
	uint32_t timeout;
	uint64_t words[8];
	char bytes[4096];
};

/* Shared with children. */
static struct shared {
	atomic_ulong done[CALLS], failed[CALLS][ERRNO_MAX + 1];
	atomic_ulong wrong, leaked, forks, faults, sequences;
	atomic_int wrong_call, wrong_errno;
} *shared;
static atomic_int fds[KINDS][ENTRIES];
static char *arena, *safe;	/* safe: pages of a sound context, never unmapped */
static struct context sound;
static uint64_t base_seed;
static unsigned long wanted;
static bool with_faults;
static __thread bool in_child;
static struct elisa_ctx_unmap recent[16];	/* mappings that were made, racily */
static atomic_uint recent_count;

__thread uint64_t fuzz_seed;

/* splitmix64 */
uint64_t rnd(void)
{
	uint64_t z = fuzz_seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t window_gpa(void)
{
	return sound.window;
}

/* ---- values ---- */

static uint64_t number(void)
{
	const uint64_t some[] = { 0, 1, 7, 8, 4095, PAGE, 2 * PAGE, GIB, 1ul << 31, 1ul << 32, 1ul << 47,
				  1ul << 63, ~0ul, ~0ul << 12, 0x7ffffffff000 };
	uint64_t v = PICK(some);

	return below(4) ? v : below(2) ? v + below(16) - 8 : rnd();
}

char *arena_address(void)
{
	return arena + below(REGIONS) * REGION_LEN + (below(2) ? 0 : below(1024) * PAGE);
}

static uint64_t address(void)
{
	return below(10) ? (uintptr_t)arena_address() : number();
}

static uint64_t gpa(void)
{
	const uint64_t from[] = { sound.window, sound.window + GIB, sound.window + 3 * GIB,
				  sound.window + 3 * GIB, sound.window + 3 * GIB + (2ul << 20),
				  2 * sound.window - 4 * PAGE, sound.window - PAGE };

	return below(12) ? PICK(from) + (below(2) ? 0 : below(16) * PAGE) : number();
}

static uint64_t length(void)
{
	const uint64_t some[] = { PAGE, PAGE, PAGE, 2 * PAGE, 2 * PAGE, 16 * PAGE, 16 * PAGE, 33 * PAGE };

	return below(12) ? below(20) ? PICK(some) : 512 * PAGE : number();
}

static uint32_t vcpu_id(void)
{
	const uint32_t some[] = { 0, 0, 0, 0, 0, 1, 5, 1023, 4096, ~0u };

	return PICK(some);
}

static uint32_t timeout_ms(void)
{
	const uint32_t some[] = { 0, 0, 1, 3, 10 };

	return below(100) ? PICK(some) : (uint32_t)number() % 500;
}

static int fd_of(enum kind kind)
{
	if (below(16) == 0)
		kind = (enum kind)below(KINDS);
	return atomic_load(&fds[kind][below(ENTRIES)]);
}

static int kvm_fd(void)
{
	return below(8) ? atomic_load(&players[below(PLAYERS)].fd) : fd_of(OTHER);
}

static void fill(enum call call, union argument *a)
{
	const uint32_t flags[] = { 0x13, 0x11, 0x14, 0x21, 0x24, 0x31, 0x53, 0x33, 0x17, 0x42 };

	memset(a, 0, sizeof(*a));
	switch (call) {
	case CREATE:
		a->create.root = below(2) ? (uintptr_t)safe : address();
		a->create.list_gpa = gpa();
		a->create.desc_gpa = below(4) ? a->create.list_gpa + PAGE : gpa();
		break;
	case MAP:
		a->map = (struct elisa_ctx_map){ .addr = address(), .gpa = gpa(), .len = length(),
						 .flags = below(16) ? PICK(flags) : (uint32_t)rnd() };
		break;
	case UNMAP:
		a->unmap = below(6) ? PICK(recent)
				    : (struct elisa_ctx_unmap){ .gpa = gpa(), .len = length() };
		break;
	case ATTACH:
		a->attach.kvm_fd = below(20) ? kvm_fd() : (int)number();
		a->attach.flags = below(20) ? ELISA_ATTACH_FORCE_CPU : (uint32_t)number();
		break;
	case SLOTS:
		a->slots.slots = below(4) ? (uintptr_t)arena_address() : number();
		a->slots.count = below(2) ? 8 : (uint32_t)number();
		break;
	case ARM:
		a->arm.vcpu_id = vcpu_id();
		a->arm.stack = below(4) ? 0 : number();
		a->arm.fs_base = number();
		a->arm.entry = number();
		a->arm.cookie = rnd();
		break;
	case DISARM:
		a->disarm.vcpu_id = vcpu_id();
		a->disarm.timeout_ms = timeout_ms();
		break;
	case DETACH:
		a->timeout = timeout_ms();
		break;
	case STATS:
		a->stats.vcpu_id = vcpu_id();
		break;
	default:
		break;
	}
	if (call != DETACH && below(24) == 0)	/* reserved fields and the like */
		a->words[below(8)] ^= number();
}

/* Where the argument is: seldom somewhere that cannot be read or written, or that ends there. */
static void *place(enum call call, union argument *a)
{
	char *at;

	if (below(16))
		return a;
	if (below(2))
		return (void *)number();
	at = arena + (1 + below(REGIONS - 1)) * REGION_LEN - (below(2) ? calls[call].size / 2 : 0);
	return at;
}

/* ---- calls ---- */

static bool is_allowed(enum call call, int error)
{
	for (size_t i = 0; i < sizeof(calls[call].errors) / sizeof(int); i++)
		if (calls[call].errors[i] == error)
			return true;
	return false;
}

static void replace(enum kind kind, int fd)
{
	int old = atomic_exchange(&fds[kind][below(ENTRIES)], fd);

	if (old >= 0)
		close(old);
}

static int issue(enum call call, int fd, void *at)
{
	unsigned long cmd = calls[call].cmd;
	int result, error;
	bool faulty;

	if (call == UNKNOWN)
		cmd = below(2) ? _IOC(below(4), ELISA_IOC, below(64) | 0x40, below(128)) : (uint32_t)rnd();
	faulty = with_faults && !in_child && below(8) == 0;
	if (faulty)
		faults_begin((uint32_t)(1 + below(12)), below(2));
	result = ioctl(fd, cmd, at);
	error = result < 0 ? errno : 0;
	if (faulty)
		atomic_fetch_add(&shared->faults, faults_end().failed);
	if (result >= 0) {
		atomic_fetch_add(&shared->done[call], 1);
		return result;
	}
	if (error <= ERRNO_MAX)
		atomic_fetch_add(&shared->failed[call][error], 1);
	/* The unknown may be known to a descriptor that is none of the module's. */
	if (call != UNKNOWN && !is_allowed(call, error)) {
		atomic_fetch_add(&shared->wrong, 1);
		atomic_store(&shared->wrong_call, (int)call);
		atomic_store(&shared->wrong_errno, error);
	}
	return -1;
}

static void one_call(void)
{
	/* The more often, the more there is to go wrong. */
	static const uint8_t weights[] = { INFO, CREATE, MAP, MAP, MAP, MAP, UNMAP, UNMAP, UNMAP,
					   ATTACH, ATTACH, ATTACH, ATTACH, SLOTS, ARM, ARM, ARM, ARM, DISARM,
					   DISARM, DETACH, STATUS, KICK, STATS, UNKNOWN };
	enum call call = (enum call)PICK(weights);
	enum kind kind = call == UNKNOWN ? (enum kind)below(VM + 1) : calls[call].kind;
	union argument argument;
	int fd, result;

	fill(call, &argument);
	fd = fd_of(kind);
	result = issue(call, fd, place(call, &argument));
	if (result < 0)
		return;
	if (call == MAP)
		recent[atomic_fetch_add(&recent_count, 1) % 16] =
			(struct elisa_ctx_unmap){ .gpa = argument.map.gpa, .len = argument.map.len };
	if (in_child && kind == CONTEXT && call != UNKNOWN)
		atomic_fetch_add(&shared->leaked, 1);
	if (call == CREATE || call == ATTACH) {
		if (in_child)
			close(result);
		else
			replace(call == CREATE ? CONTEXT : VM, result);
	}
}

/* A context in which a call succeeds, with every VM that wants to be in it armed. */
static void sound_context(void)
{
	struct elisa_context_create c = {
		.root = (uintptr_t)sound.root, .list_gpa = sound.chunk + ELISA_LIST_VA % GIB,
		.desc_gpa = sound.chunk + ELISA_DESC_VA % GIB,
	};
	const struct elisa_ctx_map maps[] = {
		{ .addr = (uintptr_t)sound.table, .gpa = sound.window, .len = PAGE, .flags = 0x31 },
		{ .addr = (uintptr_t)sound.gate, .gpa = sound.chunk + ELISA_GATE_VA % GIB, .len = PAGE,
		  .flags = ELISA_MAP_X | ELISA_MAP_GATE },
		{ .addr = (uintptr_t)sound.entry, .gpa = sound.chunk + ELISA_GATE_VA % GIB, .len = PAGE,
		  .flags = ELISA_MAP_X | ELISA_MAP_TRUSTED },
	};
	int fd = issue(CREATE, atomic_load(&fds[DEVICE][0]), &c), vm;

	if (fd < 0)
		return;
	for (size_t i = 0; i < 3; i++)
		issue(MAP, fd, (void *)&maps[i]);
	for (int i = 0; i < PLAYERS; i++) {
		struct elisa_ctx_attach a = { .kvm_fd = atomic_load(&players[i].fd),
					      .flags = ELISA_ATTACH_FORCE_CPU };
		struct elisa_vm_arm arm = { .vcpu_id = 0 };

		vm = below(4) ? issue(ATTACH, fd, &a) : -1;
		if (vm < 0)
			continue;
		issue(ARM, vm, &arm);
		replace(VM, vm);
	}
	replace(CONTEXT, fd);
}

/* ---- what happens between calls ---- */

static void renew_region(void)
{
	char *at = arena + below(REGIONS) * REGION_LEN;
	const int fixed = MAP_FIXED | MAP_NORESERVE;
	int fd = -1;

	switch (below(6)) {
	case 0:
		mmap(at, REGION_LEN, PROT_NONE, fixed | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		break;
	case 1:
		mmap(at, REGION_LEN, PROT_READ, fixed | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		break;
	case 2:
		fd = open("/dev/elisa-lazy", O_RDWR | O_CLOEXEC);
		mmap(at, 3 * PAGE, PROT_READ | PROT_WRITE, fixed | MAP_SHARED, fd, HOLE);
		break;
	case 3:
		fd = memfd_create("fuzz", MFD_CLOEXEC);
		if (!ftruncate(fd, REGION_LEN / 2))	/* the rest is SIGBUS */
			mmap(at, REGION_LEN, PROT_READ | PROT_WRITE, fixed | MAP_SHARED, fd, 0);
		break;
	default:
		mmap(at, REGION_LEN, PROT_READ | PROT_WRITE,
		     fixed | MAP_ANONYMOUS | (below(2) ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	}
	if (fd >= 0)
		close(fd);
}

static void other_descriptor(void)
{
	switch (below(5)) {
	case 0:
		replace(OTHER, eventfd(0, EFD_CLOEXEC));
		break;
	case 1:
		replace(OTHER, open("/dev/null", O_RDWR | O_CLOEXEC));
		break;
	case 2:
		replace(OTHER, open("/dev/kvm", O_RDWR | O_CLOEXEC));
		break;
	case 3:	/* keeps a VM alive after its VMM has closed it */
		replace(OTHER, dup(atomic_load(&players[below(PLAYERS)].fd)));
		break;
	default:
		replace(OTHER, -1);
	}
}

/* A copy of the process with all descriptors, which ends or is killed in the middle. */
static void forked(void)
{
	pid_t pid = fork();

	if (!pid) {
		alarm(20);
		in_child = true;
		for (uint64_t n = below(CALLS_MAX); n; n--)
			one_call();
		_exit(0);
	}
	if (pid < 0)
		return;
	atomic_fetch_add(&shared->forks, 1);
	if (below(2))
		kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void poll_some(void)
{
	struct pollfd p[ENTRIES];

	for (int i = 0; i < ENTRIES; i++)
		p[i] = (struct pollfd){ .fd = atomic_load(&fds[VM][i]), .events = POLLIN };
	poll(p, ENTRIES, (int)below(2));
}

static void one_event(void)
{
	enum kind kind = (enum kind)below(KINDS);

	switch (below(16)) {
	case 0:
	case 1:
	case 2:
		renew_region();
		break;
	case 3:
	case 4:
		other_descriptor();
		break;
	case 5:
	case 6:
		if (kind != DEVICE)
			replace(kind, -1);
		break;
	case 7:
		if (kind != DEVICE)
			replace(kind, dup(fd_of(kind)));
		break;
	case 8:
		replace(DEVICE, open("/dev/elisa", O_RDWR | O_CLOEXEC));
		break;
	case 9:
		if (below(8) == 0)
			forked();
		break;
	case 10:
		sound_context();
		break;
	default:
		poll_some();
	}
}

static void *fuzz(void *arg)
{
	unsigned long n;

	while ((n = atomic_fetch_add(&shared->sequences, 1)) < wanted) {
		fuzz_seed = base_seed + n * 0x632be59bd9b4e019;
		one_event();
		for (uint64_t left = 1 + below(CALLS_MAX); left; left--)
			one_call();
	}
	return NULL;
}

/* ---- the frame ---- */

static void prepare(void)
{
	int err;

	shared = pages(sizeof(*shared) / PAGE * PAGE + PAGE);
	arena = mmap(NULL, (REGIONS + 2) * REGION_LEN, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	arena = (char *)(((uintptr_t)arena + REGION_LEN) & ~(REGION_LEN - 1));
	safe = pages(PAGE);
	err = context_open(&sound);	/* for its pages */
	if (err) {
		note("no context: %s", strerror(err));
		exit(1);
	}
	close(sound.fd);
	for (int k = 0; k < KINDS; k++)
		for (int i = 0; i < ENTRIES; i++)
			atomic_store(&fds[k][i], k == DEVICE ? dup(dev) : -1);
	fuzz_seed = base_seed;
	for (int i = 0; i < 4 * REGIONS; i++)
		renew_region();
}

static void report(void)
{
	unsigned long total = 0, good = 0;
	char line[512];

	for (int c = 0; c < CALLS; c++) {
		unsigned long done = atomic_load(&shared->done[c]), failed = 0;
		int len = 0;

		line[0] = 0;
		for (int e = 0; e <= ERRNO_MAX; e++) {
			unsigned long n = atomic_load(&shared->failed[c][e]);

			failed += n;
			if (n && len < (int)sizeof(line) - 40)
				len += snprintf(line + len, sizeof(line) - (size_t)len, "%s%s %lu",
						len ? ", " : "", strerrorname_np(e), n);
		}
		note("%-14s %7lu done, %7lu refused: %s", calls[c].name, done, failed, line);
		total += done + failed;
		good += done;
	}
	for (int i = 0; i < PLAYERS; i++)
		note("VM %d: born %lu times, %lu runs: %lu calls, %lu away, %lu not armed, %lu deaths; "
		     "stopped %lu times", i, players[i].born, players[i].runs, players[i].calls,
		     players[i].away, players[i].not_armed, players[i].deaths, players[i].inside);
	ok(good && total, "%lu sequences, %lu calls, %lu of them successful, %lu forks, %lu allocations failed",
	   wanted, total, good, atomic_load(&shared->forks), atomic_load(&shared->faults));
}

static unsigned long vm_pin(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	unsigned long kb = ~0ul;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "VmPin: %lu", &kb);
	if (f)
		fclose(f);
	return kb;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	struct elisa_info end;
	int err;

	wanted = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000;
	base_seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	dev = open("/dev/elisa", O_RDWR | O_CLOEXEC);
	if (dev < 0) {
		note("/dev/elisa: %s: load elisa.ko as root", strerror(errno));
		return TAP_SKIP;
	}
	with_faults = faults_open();
	prepare();
	err = players_start(base_seed);
	if (err) {
		note("no KVM: %s", strerror(-err));
		return TAP_SKIP;
	}
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, fuzz, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	players_stop();
	for (int k = 0; k < KINDS; k++)
		for (int i = 0; i < ENTRIES; i++)
			close(atomic_load(&fds[k][i]));
	for (int i = 0; i < 100 && get_info().vms; i++)
		usleep(20000);
	report();
	ok(!atomic_load(&shared->wrong), "errors that are not documented: %lu (last: %s, %s)",
	   atomic_load(&shared->wrong), calls[atomic_load(&shared->wrong_call)].name,
	   strerror(atomic_load(&shared->wrong_errno)));
	ok(!atomic_load(&shared->leaked), "calls on its parent's context that a child was allowed: %lu",
	   atomic_load(&shared->leaked));
	end = get_info();
	ok(!end.vms && !end.contexts && !end.pinned_pages && !vm_pin(),
	   "nothing is left: %llu VMs, %llu contexts, %llu pages, VmPin %lu", end.vms, end.contexts,
	   end.pinned_pages, vm_pin());
	return tap_done();
}
