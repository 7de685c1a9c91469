/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The local transport: clients in processes of their own, a toy service in another, and what each
 * sees when the other dies.
 *
 * The service tells what it was called back with through a page shared with the test.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <elisa/guest.h>
#include <elisa/local.h>
#include "eventually.h"
#include "toy-service.h"

#define ARENA_ADDR  ((void *)0x210000000000)
#define ARENA_LEN   (1 << 20)
#define RAM_FIRST   0x220000000000
#define REGION_ADDR ((void *)0x230000000000)

struct seen {
	volatile int joins, ready, leaves, orderly, released, region_ready, region_gone, lines;
	volatile int callers;			/* cookies to hand out */
	volatile int refuse;			/* errno */
	volatile int hold;			/* do not release those who leave */
	volatile int add_region, remove_region; /* commands */
	volatile uint64_t check;
	volatile uint32_t ack_timeout_ms;
	volatile uint64_t ram_addr; /* of the last who joined */
	volatile bool sealed;	    /* its memory */
	volatile char name[64], line[256];
};

static struct seen *seen;
static char socket_path[108], spec[160];
static pid_t service;

/* ---- the service ---- */

struct toy {
	struct toy_arena *arena;
	struct toy_caller *callers;
	int next_caller;
	struct elisa_local_server *server;
};

struct toy_peer {
	void *ram;
	size_t ram_len;
};

static int on_join(void *user, struct elisa_local_peer *peer,
		   const struct elisa_local_request *request, struct elisa_local_answer *answer)
{
	struct toy *toy = user;
	struct toy_peer *p;

	snprintf((char *)seen->name, sizeof(seen->name), "%s", request->name);
	if (seen->refuse) {
		snprintf(answer->text, sizeof(answer->text), "the toy does not like you");
		return -seen->refuse;
	}
	p = calloc(1, sizeof(*p));
	p->ram_len = request->ram_len;
	p->ram = mmap((void *)(RAM_FIRST + (uint64_t)seen->joins * 0x10000000), p->ram_len,
		      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, request->ram_fd,
		      (off_t)request->ram_offset);
	if (p->ram == MAP_FAILED)
		return -errno;
	seen->ram_addr = (uintptr_t)p->ram;
	seen->sealed = request->sealed;
	seen->joins++;
	answer->ram_addr = p->ram;
	answer->callers = (uint32_t)seen->callers;
	for (int i = 0; i < seen->callers; i++) {
		struct toy_caller *c = &toy->callers[toy->next_caller++];

		*c = (struct toy_caller){toy->arena, 0, p->ram, p->ram_len, request->ram_gpa};
		answer->cookie[i] = c;
	}
	elisa_local_peer_set_user(peer, p);
	return 0;
}

static void on_ready(void *user, struct elisa_local_peer *peer)
{
	seen->ready++;
}

static void on_leave(void *user, struct elisa_local_peer *peer, bool orderly)
{
	seen->leaves++;
	seen->orderly += orderly;
	if (!seen->hold)
		elisa_local_peer_release(peer);
}

static void on_released(void *user, struct elisa_local_peer *peer)
{
	struct toy_peer *p = elisa_local_peer_user(peer);

	munmap(p->ram, p->ram_len);
	free(p);
	seen->released++;
}

static void on_region_ready(void *user, struct elisa_local_region *region)
{
	seen->region_ready++;
}

static void on_region_gone(void *user, struct elisa_local_region *region)
{
	seen->region_gone++;
}

static void on_log(void *user, const char *line)
{
	snprintf((char *)seen->line, sizeof(seen->line), "%s", line);
	seen->lines++;
}

static const struct elisa_local_ops ops = {on_join,	    on_ready,	    on_leave, on_released,
					   on_region_ready, on_region_gone, on_log};
static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	stop = 1;
}

static void service_commands(struct toy *toy, struct elisa_local_region **region)
{
	if (seen->add_region) {
		int fd = memfd_create("region", MFD_CLOEXEC);

		if (ftruncate(fd, 8192) || pwrite(fd, "\x2a", 1, 4096) != 1 ||
		    elisa_local_region_add(toy->server, fd, 4096, REGION_ADDR, 4096, false, NULL,
					   region))
			abort();
		close(fd);
		seen->add_region = 0;
	}
	if (seen->remove_region) {
		elisa_local_region_remove(*region);
		seen->remove_region = 0;
	}
}

static void serve(int ready_fd)
{
	int fd = memfd_create("arena", MFD_CLOEXEC);
	struct toy toy = {0};
	struct elisa_local_region *region = NULL;
	struct elisa_local_config config = {.path = socket_path,
					    .group = (gid_t)-1,
					    .service = ELISA_SERVICE_EXAMPLE,
					    .arena_fd = fd,
					    .arena_addr = ARENA_ADDR,
					    .arena_len = ARENA_LEN,
					    .library = TOY_LIBRARY,
					    .entry = "toy_entry",
					    .check_symbol = "toy_check",
					    .check = seen->check,
					    .ack_timeout_ms = seen->ack_timeout_ms,
					    .ops = &ops,
					    .user = &toy};
	struct timespec ts;

	signal(SIGTERM, on_term);
	if (ftruncate(fd, ARENA_LEN) || mmap(ARENA_ADDR, ARENA_LEN, PROT_READ | PROT_WRITE,
					     MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != ARENA_ADDR)
		abort();
	toy.arena = ARENA_ADDR;
	toy.callers = (struct toy_caller *)((char *)ARENA_ADDR + 4096);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	toy.arena->generation = (uint32_t)(ts.tv_nsec / 1000 + ts.tv_sec * 1000000);
	if (elisa_local_server_create(&config, &toy.server))
		abort();
	if (write(ready_fd, "r", 1) != 1)
		abort();
	while (!stop) {
		struct pollfd p = {.fd = elisa_local_server_fd(toy.server), .events = POLLIN};

		poll(&p, 1, 10);
		service_commands(&toy, &region);
		if (elisa_local_server_dispatch(toy.server))
			abort();
	}
	elisa_local_server_destroy(toy.server);
	exit(0);
}

/* ---- the test's side ---- */

static void start_service(void)
{
	int fds[2];
	char c;

	assert_int_equal(pipe(fds), 0);
	service = fork();
	if (!service) {
		close(fds[0]);
		serve(fds[1]);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	close(fds[0]);
}

static void end_service(int sig)
{
	int status;

	kill(service, sig);
	assert_int_equal(waitpid(service, &status, 0), service);
	if (sig == SIGTERM)
		assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	service = 0;
}

static int set_up(void **state)
{
	memset(seen, 0, sizeof(*seen));
	seen->callers = 4;
	seen->check = TOY_CHECK;
	seen->ack_timeout_ms = 1000;
	start_service();
	return 0;
}

static int tear_down(void **state)
{
	if (service)
		end_service(SIGTERM);
	return 0;
}

static struct elisa_guest *open_client(void)
{
	struct elisa_guest *guest = NULL;
	int rc = elisa_guest_open(spec, ELISA_SERVICE_EXAMPLE, &guest);

	if (rc)
		print_error("open: %s\n", elisa_guest_error());
	assert_int_equal(rc, 0);
	return guest;
}

static void prctl_die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* A client process: joins, says so, then calls until it is killed. */
static pid_t fork_client(bool stay_inside)
{
	int fds[2];
	char c = 0;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (!pid) {
		struct elisa_guest *guest;
		struct elisa_call call;

		prctl_die_with_parent();
		if (elisa_guest_open(spec, ELISA_SERVICE_EXAMPLE, &guest) ||
		    elisa_guest_call(guest, &call) || write(fds[1], "r", 1) != 1)
			_exit(1);
		if (stay_inside)
			elisa_call(&call, TOY_HANG, 0, 0, 0);
		for (;;)
			elisa_call(&call, TOY_COUNT, 0, 0, 0);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	close(fds[0]);
	return pid;
}

static void kill_client(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static bool is_mapped(uint64_t addr)
{
	unsigned char vec;

	return !mincore((void *)addr, 4096, &vec);
}

static void calls_reach_the_service(void **state)
{
	struct elisa_guest *guest = open_client();
	struct elisa_mem *mem;
	struct elisa_call call;
	uint8_t *p;

	assert_string_equal(elisa_guest_transport(guest), "local (no isolation)");
	assert_int_equal(ELISA_HELLO_SERVICE(elisa_guest_hello(guest)), ELISA_SERVICE_EXAMPLE);
	assert_int_equal(elisa_guest_call(guest, &call), 0);
	assert_int_equal(elisa_call(&call, ELISA_OP_NOP, 0, 0, 0), 0);
	assert_int_equal(elisa_call(&call, TOY_COUNT, 0, 0, 0), 1);
	assert_int_equal(elisa_call(&call, TOY_COUNT, 0, 0, 0), 2);
	assert_int_equal(elisa_call(&call, 99, 0, 0, 0), -ELISA_ENOSYS);
	assert_int_equal(elisa_mem_alloc(guest, "echo", 5000, &mem), 0);
	p = mem->addr;
	p[4500] = 3;
	p[4501] = 4;
	assert_int_equal(elisa_call(&call, TOY_SUM, elisa_mem_gpa(mem, p + 4500), 2, 0), 7);
	elisa_mem_free(guest, mem);
	elisa_guest_close(guest);
	EVENTUALLY(seen->released == 1);
	assert_int_equal(seen->orderly, 1);
}

static void names_and_refusals_arrive(void **state)
{
	struct elisa_guest *guest;
	char named[200];

	snprintf(named, sizeof(named), "%s,name=vm-seven,ram=2M", spec);
	seen->refuse = EPERM;
	assert_int_equal(elisa_guest_open(named, ELISA_SERVICE_EXAMPLE, &guest), -EPERM);
	assert_non_null(strstr(elisa_guest_error(), "does not like you"));
	assert_string_equal((char *)seen->name, "vm-seven");
	seen->refuse = 0;
	assert_int_equal(elisa_guest_open(spec, ELISA_SERVICE_SWITCH, &guest), -EPROTO);
	assert_int_equal(elisa_guest_open("local:/nonexistent/socket", 1, &guest), -ENOENT);
	assert_int_equal(seen->leaves, 0);
	end_service(SIGTERM);
	seen->check = 1; /* as if the client's library were another build */
	start_service();
	assert_int_equal(elisa_guest_open(spec, ELISA_SERVICE_EXAMPLE, &guest), -ELIBBAD);
	assert_non_null(strstr(elisa_guest_error(), "another build"));
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Of the shortest round: on a busy machine the others say little. */
static uint64_t ns_of_a_call(const char *how)
{
	uint64_t best = UINT64_MAX, start, ns;
	struct elisa_guest *guest;
	struct elisa_call call;

	assert_int_equal(elisa_guest_open(how, ELISA_SERVICE_EXAMPLE, &guest), 0);
	assert_non_null(strstr(elisa_guest_transport(guest), "no isolation"));
	assert_true(!!strstr(how, "gate=700") ==
		    !!strstr(elisa_guest_transport(guest), "simulated by a spin of 700 ns"));
	assert_int_equal(elisa_guest_call(guest, &call), 0);
	for (int round = 0; round < 100; round++) {
		start = now_ns();
		for (int i = 0; i < 100; i++)
			assert_true(!elisa_call(&call, ELISA_OP_NOP, 0, 0, 0));
		ns = now_ns() - start;
		best = ns < best ? ns : best;
	}
	elisa_guest_close(guest);
	EVENTUALLY(seen->released == seen->joins);
	return best / 100;
}

static void a_gate_can_be_simulated(void **state)
{
	char gated[200];
	uint64_t bare, with, zero;

	snprintf(gated, sizeof(gated), "%s,gate=700", spec);
	with = ns_of_a_call(gated);
	snprintf(gated, sizeof(gated), "%s,gate=0", spec);
	zero = ns_of_a_call(gated);
	bare = ns_of_a_call(spec);
	print_message("an empty call: %llu ns; gate=0: %llu ns, gate=700: %llu ns\n",
		      (unsigned long long)bare, (unsigned long long)zero, (unsigned long long)with);
	assert_in_range(with, bare + 650, bare + 770);
	assert_true(zero < bare + 50);
	assert_true(bare < 300);
}

static void *count_1000(void *arg)
{
	struct elisa_call call;

	if (elisa_guest_call(arg, &call))
		return "none left";
	for (int i = 0; i < 1000; i++)
		if (elisa_call(&call, TOY_COUNT, 0, 0, 0) <= 0)
			return "failed";
	return NULL;
}

static void each_thread_has_a_caller(void **state)
{
	struct elisa_guest *guest = open_client();
	struct elisa_call call;
	pthread_t t[3];
	void *result;

	/* The opener has one already; three of four are left, and come back when threads end. */
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3; i++)
			pthread_create(&t[i], NULL, count_1000, guest);
		for (int i = 0; i < 3; i++) {
			pthread_join(t[i], &result);
			assert_null(result);
		}
	}
	assert_int_equal(elisa_guest_call(guest, &call), 0);
	assert_int_equal(elisa_call(&call, TOY_COUNT, 0, 0, 0), 9001);
	elisa_guest_close(guest);
}

static void *hold_caller(void *arg)
{
	struct elisa_call call;
	int *fds = arg, rc = elisa_guest_call(*(struct elisa_guest **)(fds + 2), &call);
	char c;

	if (write(fds[1], "x", 1) != 1 || read(fds[0], &c, 1) != 1)
		return NULL;
	return (void *)(long)rc;
}

static void callers_can_run_out(void **state)
{
	struct {
		int fds[2];
		struct elisa_guest *guest;
	} arg;
	int back[2], forth[2];
	struct elisa_call call;
	pthread_t t;
	void *result;
	char c;

	seen->callers = 1;
	arg.guest = open_client(); /* whose HELLO took the only one */
	assert_int_equal(elisa_guest_call(arg.guest, &call), 0);
	assert_int_equal(pipe(back) | pipe(forth), 0);
	arg.fds[0] = forth[0];
	arg.fds[1] = back[1];
	pthread_create(&t, NULL, hold_caller, &arg);
	assert_int_equal(read(back[0], &c, 1), 1);
	assert_int_equal(write(forth[1], "x", 1), 1);
	pthread_join(t, &result);
	assert_int_equal((long)result, -EUSERS);
	elisa_guest_close(arg.guest);
}

static void *count_with(void *arg)
{
	return (void *)elisa_call(arg, TOY_COUNT, 0, 0, 0);
}

static void callers_can_wander(void **state)
{
	struct elisa_guest *guest = open_client();
	struct elisa_call call[4], again;
	void *result;
	pthread_t t;

	/* The opener has one of the four. */
	for (int i = 0; i < 3; i++)
		assert_int_equal(elisa_guest_call_new(guest, &call[i]), 0);
	assert_int_equal(elisa_guest_call_new(guest, &call[3]), -ENOSPC);
	for (int i = 0; i < 3; i++) {
		pthread_create(&t, NULL, count_with, &call[2]);
		pthread_join(t, &result);
		assert_int_equal((long)result, 2 * i + 1);
		assert_int_equal(elisa_call(&call[2], TOY_COUNT, 0, 0, 0), 2 * i + 2);
	}
	/* The thread that ended had none of its own to give back. */
	assert_int_equal(elisa_guest_call_new(guest, &call[3]), -ENOSPC);
	again = call[1];
	elisa_guest_call_del(guest, &call[1]);
	elisa_guest_call_del(guest, &call[1]); /* is empty by now */
	assert_int_equal(elisa_guest_call_new(guest, &call[3]), 0);
	assert_ptr_equal(call[3].cookie, again.cookie);
	assert_int_equal(elisa_guest_call_new(guest, &again), -ENOSPC);
	elisa_guest_close(guest);
}

/* Memory as DPDK has it: a file that cannot be sealed, of which it uses a part. */
static struct elisa_guest_ram own_memory(unsigned int flags, size_t page, size_t len)
{
	struct elisa_guest_ram ram = {
		.len = len, .fd = memfd_create("own", flags), .offset = 2 * page, .page = page};

	assert_true(ram.fd >= 0);
	assert_int_equal(ftruncate(ram.fd, (off_t)(2 * page + len)), 0);
	ram.addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, ram.fd, (off_t)ram.offset);
	return ram;
}

/* A client process that answers each address written to *fd with the byte that it finds there. */
static pid_t fork_peeker(int *fd)
{
	int fds[2];
	pid_t pid;
	char c;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = fork();
	if (!pid) {
		struct elisa_guest *guest;
		struct elisa_call call;
		uint64_t addr;

		prctl_die_with_parent();
		if (elisa_guest_open(spec, ELISA_SERVICE_EXAMPLE, &guest) ||
		    elisa_guest_call(guest, &call) || write(fds[1], "r", 1) != 1)
			_exit(1);
		while (read(fds[1], &addr, sizeof(addr)) == sizeof(addr)) {
			c = (char)elisa_call(&call, TOY_PEEK, addr, 0, 0);
			if (write(fds[1], &c, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	close(fds[1]);
	*fd = fds[0];
	assert_int_equal(read(*fd, &c, 1), 1);
	return pid;
}

static int peek(int fd, uint64_t addr)
{
	char c;

	assert_int_equal(write(fd, &addr, sizeof(addr)), sizeof(addr));
	assert_int_equal(read(fd, &c, 1), 1);
	return c;
}

static void use_own_memory(struct elisa_guest_ram *ram)
{
	struct elisa_guest *guest;
	struct elisa_call call;
	struct elisa_mem *mem;
	int other_fd;
	pid_t other = fork_peeker(&other_fd);
	uint8_t *p = ram->addr;
	uint64_t at;

	assert_true(seen->sealed);
	assert_int_equal(elisa_guest_open_ram(spec, ELISA_SERVICE_EXAMPLE, ram, &guest), 0);
	assert_false(seen->sealed);
	close(ram->fd);
	assert_int_equal(elisa_guest_call(guest, &call), 0);
	p[5000] = 3;
	p[5001] = 5;
	at = (uintptr_t)p + 5000;
	assert_int_equal(elisa_call(&call, TOY_SUM, at, 2, 0), 8);
	assert_int_equal(elisa_call(&call, TOY_SUM, (uintptr_t)p - 1, 1, 0), -ELISA_EFAULT);
	assert_int_equal(elisa_call(&call, TOY_SUM, (uintptr_t)p + ram->len, 1, 0), -ELISA_EFAULT);
	/* The other one's address of it: where the service has it. */
	assert_int_equal(peek(other_fd, seen->ram_addr + 5001), 5);
	assert_int_equal(elisa_mem_alloc(guest, "m", 4096, &mem), -EOPNOTSUPP);
	close(other_fd);
	kill_client(other);
	end_service(SIGKILL);
	EVENTUALLY(elisa_guest_hello(guest) == -ELISA_ESHUTDOWN);
	start_service();
	EVENTUALLY(elisa_guest_hello(guest) > 0);
	assert_int_equal(elisa_call(&call, TOY_SUM, at, 2, 0), 8);
	elisa_guest_close(guest);
	/* It is the program's still. */
	assert_int_equal(p[5000], 3);
	munmap(p, ram->len);
}

static void memory_can_be_brought(void **state)
{
	struct elisa_guest_ram ram = own_memory(MFD_CLOEXEC, 4096, 1 << 20);

	use_own_memory(&ram);
}

static void hugepages_can_be_brought(void **state)
{
	struct elisa_guest_ram ram;
	void *p = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		print_message("no four free hugepages (vm.nr_hugepages): not tested\n");
		skip();
	}
	munmap(p, 8 << 20);
	ram = own_memory(MFD_CLOEXEC | MFD_HUGETLB, 2 << 20, 4 << 20);
	assert_ptr_not_equal(ram.addr, MAP_FAILED);
	use_own_memory(&ram);
}

static void bad_memory_is_refused(void **state)
{
	struct elisa_guest_ram ram = own_memory(MFD_CLOEXEC, 4096, 1 << 20), bad;
	struct elisa_guest *guest;

#define BAD(change)                                                                               \
	do {                                                                                      \
		bad = ram;                                                                        \
		change;                                                                           \
		assert_int_equal(elisa_guest_open_ram(spec, ELISA_SERVICE_EXAMPLE, &bad, &guest), \
				 -EINVAL);                                                        \
	} while (0)
	BAD(bad.offset++);
	BAD(bad.page = 8192);
	BAD(bad.addr = (char *)ram.addr + 1);
	assert_non_null(strstr(elisa_guest_error(), "whole pages"));
	assert_int_equal(seen->joins, 0);
	BAD(bad.len += 4096);
	assert_non_null(strstr(elisa_guest_error(), "shorter than it says"));
	BAD(bad.offset += 4096);
#undef BAD
	ram.fd = -1;
	assert_int_equal(elisa_guest_open_ram(spec, ELISA_SERVICE_EXAMPLE, &ram, &guest), -EBADF);
}

static void memory_is_handed_out_once(void **state)
{
	struct elisa_guest *guest = open_client();
	struct elisa_mem *a, *b, *c;

	assert_int_equal(elisa_mem_alloc(guest, "UPPER", 1, &a), -EINVAL);
	assert_int_equal(elisa_mem_alloc(guest, "", 1, &a), -EINVAL);
	assert_int_equal(elisa_mem_alloc(guest, "a", 0, &a), -EINVAL);
	assert_int_equal(elisa_mem_alloc(guest, "a", 10000, &a), 0);
	assert_int_equal(a->len, 12288);
	assert_int_equal(elisa_mem_alloc(guest, "a", 10000, &b), -EBUSY);
	assert_int_equal(elisa_mem_alloc(guest, "b", 4096, &b), 0);
	assert_true((char *)b->addr >= (char *)a->addr + a->len);
	assert_int_equal(elisa_mem_alloc(guest, "c", (size_t)1 << 30, &c), -ENOMEM);
	memset(a->addr, 1, a->len);
	elisa_mem_free(guest, a);
	/* The gap is used again, and zeroed; too large a piece goes behind. */
	assert_int_equal(elisa_mem_alloc(guest, "c", 12289, &c), 0);
	assert_true((char *)c->addr > (char *)b->addr);
	assert_int_equal(elisa_mem_alloc(guest, "a", 4096, &a), 0);
	assert_int_equal(elisa_mem_gpa(a, a->addr), 0);
	assert_int_equal(*(char *)a->addr, 0);
	/* What is left behind goes to its own name only. */
	elisa_mem_leave(guest, b);
	assert_int_equal(elisa_mem_alloc(guest, "d", 4096, &b), 0);
	assert_true(elisa_mem_gpa(b, b->addr) == 4096);
	elisa_mem_free(guest, b);
	assert_int_equal(elisa_mem_alloc(guest, "b", 4096, &b), 0);
	assert_int_equal(elisa_mem_gpa(b, b->addr), 12288);
	elisa_guest_close(guest);
}

static void a_killed_client_is_noticed(void **state)
{
	struct elisa_guest *guest = open_client();
	struct elisa_call call;
	pid_t other = fork_client(false);
	const uint64_t others_ram = seen->ram_addr;

	elisa_guest_call(guest, &call);
	assert_int_equal(seen->ready, 2);
	/* Its RAM is mapped here by the time it is ready, and goes after its death. */
	assert_true(is_mapped(others_ram));
	assert_int_equal(elisa_call(&call, TOY_PEEK, others_ram, 0, 0), 0);
	seen->hold = 1;
	kill_client(other);
	EVENTUALLY(seen->leaves == 1);
	assert_int_equal(seen->orderly, 0);
	nap_ms(200);
	assert_true(is_mapped(others_ram)); /* not before it is released */
	assert_int_equal(seen->released, 0);
	seen->hold = 0;
	elisa_guest_close(guest);
}

static void a_killed_clients_memory_goes(void **state)
{
	struct elisa_guest *guest = open_client();

	for (int i = 1; i <= 10; i++) {
		pid_t other = fork_client(i & 1);
		uint64_t others_ram = seen->ram_addr;

		assert_true(is_mapped(others_ram));
		kill_client(other);
		EVENTUALLY(seen->released == i);
		assert_false(is_mapped(others_ram));
	}
	assert_true(elisa_guest_hello(guest) > 0);
	elisa_guest_close(guest);
}

/* A child that outlives the client keeps its socket open, but not the client's life. */
static void a_child_does_not_prolong_a_client(void **state)
{
	int fds[2];
	pid_t client, child;

	assert_int_equal(pipe(fds), 0);
	client = fork();
	if (!client) {
		struct elisa_guest *guest;

		if (elisa_guest_open(spec, ELISA_SERVICE_EXAMPLE, &guest))
			_exit(1);
		child = fork();
		if (!child) {
			prctl_die_with_parent();
			pause();
			_exit(0);
		}
		if (write(fds[1], &child, sizeof(child)) != sizeof(child))
			_exit(1);
		pause();
	}
	assert_int_equal(read(fds[0], &child, sizeof(child)), sizeof(child));
	kill_client(client);
	EVENTUALLY(seen->released == 1);
	kill(child, SIGKILL);
	close(fds[0]);
	close(fds[1]);
}

static void a_stopped_client_is_kicked(void **state)
{
	pid_t sleeper = fork_client(false), next;
	int status;

	kill(sleeper, SIGSTOP);
	assert_int_equal(waitpid(sleeper, &status, WUNTRACED), sleeper);
	assert_true(WIFSTOPPED(status));
	/* The next one's RAM cannot be shown to it; it holds nobody up for longer than the timeout.
	 */
	next = fork_client(false);
	EVENTUALLY(seen->leaves == 1);
	EVENTUALLY(seen->ready == 2);
	assert_non_null(strstr((char *)seen->line, "does not answer"));
	kill_client(sleeper);
	kill_client(next);
	EVENTUALLY(seen->released == 2);
}

static void regions_come_and_go(void **state)
{
	struct elisa_guest *guest = open_client();
	struct elisa_call call;

	elisa_guest_call(guest, &call);
	seen->add_region = 1;
	EVENTUALLY(seen->region_ready == 1);
	assert_int_equal(elisa_call(&call, TOY_PEEK, (uintptr_t)REGION_ADDR, 0, 0), 0x2a);
	seen->remove_region = 1;
	EVENTUALLY(seen->region_gone == 1);
	assert_false(is_mapped((uintptr_t)REGION_ADDR));
	/* Who joins later gets what is there. */
	elisa_guest_close(guest);
	seen->add_region = 1;
	EVENTUALLY(seen->region_ready == 2);
	guest = open_client();
	elisa_guest_call(guest, &call);
	assert_int_equal(elisa_call(&call, TOY_PEEK, (uintptr_t)REGION_ADDR, 0, 0), 0x2a);
	elisa_guest_close(guest);
}

static void a_service_may_die_and_return(void **state)
{
	struct elisa_guest *guest = open_client();
	int64_t first = elisa_guest_hello(guest), second = -1;
	struct elisa_mem *mem;
	struct elisa_call call;

	elisa_guest_call(guest, &call);
	assert_int_equal(elisa_mem_alloc(guest, "m", 4096, &mem), 0);
	*(uint8_t *)mem->addr = 9;
	for (int round = 0; round < 3; round++) {
		end_service(round & 1 ? SIGTERM : SIGKILL);
		EVENTUALLY(elisa_call(&call, ELISA_OP_NOP, 0, 0, 0) == -ELISA_ESHUTDOWN);
		EVENTUALLY(!is_mapped((uintptr_t)ARENA_ADDR));
		assert_int_equal(elisa_guest_hello(guest), -ELISA_ESHUTDOWN);
		start_service();
		EVENTUALLY((second = elisa_guest_hello(guest)) > 0);
		assert_true(second != first);
		first = second;
		/* The program's memory is where it was, and the service sees it again. */
		assert_int_equal(elisa_call(&call, TOY_SUM, elisa_mem_gpa(mem, mem->addr), 2, 0),
				 9);
	}
	elisa_guest_close(guest);
}

static void *hang(void *guest)
{
	struct elisa_call call;

	if (elisa_guest_call(guest, &call))
		return (void *)-1L;
	return (void *)elisa_call(&call, TOY_HANG, 0, 0, 0);
}

/* The service dies while a thread is inside: its memory stays until that thread is out. */
static void a_call_under_way_ends_first(void **state)
{
	struct elisa_guest *guest = open_client();
	struct toy_arena *arena = ARENA_ADDR;
	void *result;
	pthread_t t;

	pthread_create(&t, NULL, hang, guest);
	EVENTUALLY(__atomic_load_n(&arena->hanging, __ATOMIC_ACQUIRE));
	end_service(SIGKILL);
	EVENTUALLY(elisa_guest_hello(guest) == -ELISA_ESHUTDOWN);
	nap_ms(100);
	assert_true(is_mapped((uintptr_t)arena));
	__atomic_store_n(&arena->go_on, 1, __ATOMIC_RELEASE);
	pthread_join(t, &result);
	assert_null(result);
	EVENTUALLY(!is_mapped((uintptr_t)arena));
	elisa_guest_close(guest);
}

static void strangers_do_no_harm(void **state)
{
	struct elisa_guest *guest;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct elisa_local_msg msg = {.body.join = {.abi_revision = ELISA_ABI_REVISION,
						    .service = ELISA_SERVICE_EXAMPLE,
						    .callers = 1,
						    .page = 4096,
						    .ram_len = 1 << 20}};
	struct elisa_local_msg answer;
	int sock[8], fd = memfd_create("ram", MFD_CLOEXEC), got;

	strcpy(addr.sun_path, socket_path);
	for (int i = 0; i < 8; i++) {
		sock[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(sock[i], (void *)&addr, sizeof(addr)), 0);
	}
	/* 0: silent. 1: garbage. 2: an ACK out of turn. 3: RAM that may shrink. 4: gone at once. */
	assert_int_equal(send(sock[1], "hello", 5, 0), 5);
	elisa_local_send(sock[2], &answer, ELISA_LOCAL_ACK, 5, -1);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(elisa_local_send(sock[3], &msg, ELISA_LOCAL_JOIN, 0, fd), 0);
	assert_int_equal(elisa_local_recv(sock[3], &answer, &got), 0);
	assert_int_equal(answer.header.type, ELISA_LOCAL_REFUSED);
	assert_non_null(strstr(answer.body.refused.text, "sealed"));
	close(sock[4]);
	/* 5: lets itself in, then answers with an error. 6: the same, and is gone. */
	fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	for (int i = 5; i < 7; i++) {
		assert_int_equal(elisa_local_send(sock[i], &msg, ELISA_LOCAL_JOIN, 0, fd), 0);
		assert_int_equal(elisa_local_recv(sock[i], &answer, &got), 0);
		assert_int_equal(answer.header.type, ELISA_LOCAL_WELCOME);
		close(got);
	}
	close(sock[6]);
	msg.body.ack = (struct elisa_local_ack){.error = ENOMEM};
	elisa_local_send(sock[5], &msg, ELISA_LOCAL_ACK, answer.header.seq, -1);
	EVENTUALLY(seen->released == 2);
	assert_int_equal(seen->ready, 0);
	/* And an honest one is served all the while. */
	guest = open_client();
	assert_true(elisa_guest_hello(guest) > 0);
	elisa_guest_close(guest);
	EVENTUALLY(seen->released == 3);
	for (int i = 0; i < 8; i++)
		if (i != 4 && i != 6)
			close(sock[i]);
	close(fd);
}

static void a_second_service_is_refused(void **state)
{
	struct elisa_local_config config = {.path = socket_path,
					    .group = (gid_t)-1,
					    .arena_addr = ARENA_ADDR,
					    .arena_len = ARENA_LEN,
					    .library = TOY_LIBRARY,
					    .entry = "toy_entry",
					    .ops = &ops};
	struct elisa_local_server *server;

	assert_int_equal(elisa_local_server_create(&config, &server), -EADDRINUSE);
	config.library = NULL;
	assert_int_equal(elisa_local_server_create(&config, &server), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(calls_reach_the_service),	    TEST(names_and_refusals_arrive),
		TEST(each_thread_has_a_caller),	    TEST(callers_can_run_out),
		TEST(memory_is_handed_out_once),    TEST(a_killed_client_is_noticed),
		TEST(a_killed_clients_memory_goes), TEST(a_child_does_not_prolong_a_client),
		TEST(a_stopped_client_is_kicked),   TEST(regions_come_and_go),
		TEST(a_service_may_die_and_return), TEST(a_call_under_way_ends_first),
		TEST(a_gate_can_be_simulated),	    TEST(callers_can_wander),
		TEST(memory_can_be_brought),	    TEST(hugepages_can_be_brought),
		TEST(bad_memory_is_refused),	    TEST(strangers_do_no_harm),
		TEST(a_second_service_is_refused),
	};
	char dir[] = "/tmp/elisa-local-XXXXXX";
	int rc;

	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED || !mkdtemp(dir))
		return 1;
	snprintf(socket_path, sizeof(socket_path), "%s/s", dir);
	snprintf(spec, sizeof(spec), "local:%s", socket_path);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(socket_path);
	rmdir(dir);
	return rc;
}
