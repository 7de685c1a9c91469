/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The local transport's client: a FALLBACK WITHOUT ISOLATION (see elisa/local.h for the protocol).
 *
 * Roadmap: join() connects, maps what the service says and waits for READY; a helper thread then
 * answers MAP and UNMAP. When the service goes away, the thread cuts all callers off (they answer
 * ELISA_ESHUTDOWN), unmaps the service's memory and keeps trying to join again, with the same RAM,
 * which the program sees through a mapping of its own that never moves.
 *
 * A caller is cut off like this: `away` is set, membarrier(2) orders that against every thread's
 * "inside = 1; read away", then inside falls to 0 soon, since a service's calls are bounded. So a
 * call pays for two plain stores and a load, not for a fence.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <elisa/local.h>

#include "internal.h"

#define RAM_DEFAULT (UINT64_C(64) << 20)
#define RAM_LIMIT   (UINT64_C(64) << 30)
#define CALLERS	    16 /* asked for, when the memory is the library's */
#define JOIN_MS	    10000
#define RETRY_MS    100
#define HUGE	    (UINT64_C(2) << 20)
#define GATE_NS_MAX 1000000

struct mapping {
	struct mapping *next;
	void *addr;
	size_t len;
};

/* One thread's way in. The line is the thread's own but for `away`, which changes rarely. */
struct caller {
	_Alignas(64) atomic_bool away;
	atomic_bool inside;
	bool used;
	elisa_entry_fn fn;
	void *cookie;
	struct local *local;
};

struct block {
	struct elisa_mem mem; /* first: what the user has is a pointer to it */
	struct block *next;   /* by offset */
	uint64_t offset;
	bool left; /* given up without the service's consent */
	char name[33];
};

struct local {
	char path[108]; /* of the socket, as long as sockaddr_un allows */
	char name[ELISA_LOCAL_NAME_MAX];
	uint32_t service;
	bool huge;
	uint32_t gate_ns;    /* what a call waits first; 0: nothing */
	uint64_t gate_ticks; /* the same, of the TSC */
	char label[80];
	uint32_t callers_asked;
	bool brought; /* the RAM is the program's: neither carved up nor unmapped here */
	uint64_t ram_len, ram_offset, ram_gpa;
	size_t ram_page;
	int ram_fd;
	char *ram;	/* the program's view */
	int sock, stop; /* stop: an eventfd */
	bool joined;
	struct mapping *mappings; /* the service's addresses */
	struct elisa_local_welcome welcome;
	elisa_entry_fn entry;
	pthread_t thread;
	pthread_mutex_t lock; /* callers' `used`, blocks */
	pthread_key_t key;
	struct block *blocks;
	struct caller callers[ELISA_LOCAL_CALLERS_MAX];
};

/* ---- the call ---- */

static int64_t local_entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
			   uint64_t a3)
{
	struct caller *c = cookie;
	int64_t result = -ELISA_ESHUTDOWN;

	atomic_store_explicit(&c->inside, true, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* pairs with cut_off()'s membarrier */
	if (!atomic_load_explicit(&c->away, memory_order_acquire))
		result = c->fn(c->cookie, op, a1, ignored, a2, a3);
	atomic_store_explicit(&c->inside, false, memory_order_release);
	return result;
}

static inline void spin(uint64_t ticks)
{
	uint64_t start;

	/* As with the gate, what the program did before the call is done before it counts. */
	_mm_lfence();
	start = __rdtsc();
	while (__rdtsc() - start < ticks)
		;
}

static int64_t gated_entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
			   uint64_t a3)
{
	const struct caller *c = cookie;

	spin(c->local->gate_ticks);
	return local_entry(cookie, op, a1, ignored, a2, a3);
}

static struct elisa_call call_of(const struct local *l, struct caller *c)
{
	return (struct elisa_call){.fn = l->gate_ticks ? gated_entry : local_entry, .cookie = c};
}

static void nap(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Both clocks at one instant: of several readings the one that took the shortest. */
static void read_clocks(uint64_t *ns, uint64_t *tsc)
{
	uint64_t best = 0;

	*ns = *tsc = 0;
	for (int i = 0; i < 20; i++) {
		const uint64_t before = now_ns(), ticks = __rdtsc(), took = now_ns() - before;

		if (i && took >= best)
			continue;
		best = took;
		*ns = before + took / 2;
		*tsc = ticks;
	}
}

/* TSC ticks in 1,024 ns, measured over 20 ms. */
static uint64_t ticks_of_1024_ns(void)
{
	uint64_t from_ns, from_tsc, ns, tsc;

	read_clocks(&from_ns, &from_tsc);
	nap(20);
	read_clocks(&ns, &tsc);
	return ((tsc - from_tsc) << 10) / (ns - from_ns);
}

/* Nanoseconds that one spin takes: of many short rounds the shortest, which nobody interrupted. */
static uint64_t measure_spin(uint64_t ticks, uint32_t expected_ns)
{
	const uint64_t spins = 20000 / expected_ns + 1, end = now_ns() + 5000000;
	uint64_t best = UINT64_MAX;

	do {
		const uint64_t start = now_ns();
		uint64_t ns;

		for (uint64_t i = 0; i < spins; i++)
			spin(ticks);
		ns = (now_ns() - start) / spins;
		best = ns < best ? ns : best;
	} while (now_ns() < end);
	return best;
}

/* A spin of `gate_ns` all in all: reading the TSC takes part of it, which is taken off. */
static void calibrate_gate(struct local *l)
{
	const uint64_t scale = ticks_of_1024_ns(), ticks = (l->gate_ns * scale) >> 10;
	const uint64_t ns = measure_spin(ticks, l->gate_ns);
	const uint64_t over = ns > l->gate_ns ? ((ns - l->gate_ns) * scale) >> 10 : 0;

	l->gate_ticks = over < ticks ? ticks - over : 1;
}

static void cut_off(struct local *l)
{
	for (size_t i = 0; i < ELISA_LOCAL_CALLERS_MAX; i++)
		atomic_store(&l->callers[i].away, true);
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	for (size_t i = 0; i < ELISA_LOCAL_CALLERS_MAX; i++)
		while (atomic_load_explicit(&l->callers[i].inside, memory_order_acquire))
			nap(1);
}

static void let_in(struct local *l)
{
	for (size_t i = 0; i < l->welcome.callers; i++) {
		l->callers[i].fn = l->entry;
		l->callers[i].cookie = (void *)l->welcome.cookie[i];
		atomic_store_explicit(&l->callers[i].away, false, memory_order_release);
	}
}

/* Destructor of the thread's slot. */
static void caller_put(void *value)
{
	struct caller *c = value;

	pthread_mutex_lock(&c->local->lock);
	c->used = false;
	pthread_mutex_unlock(&c->local->lock);
}

static struct caller *caller_get(struct local *l)
{
	struct caller *c = NULL;

	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; !c && i < l->welcome.callers; i++)
		if (!l->callers[i].used)
			c = &l->callers[i];
	if (c)
		c->used = true;
	pthread_mutex_unlock(&l->lock);
	return c;
}

static int local_call(struct elisa_guest *guest, struct elisa_call *call)
{
	struct local *l = guest->state;
	struct caller *c = pthread_getspecific(l->key);

	if (!c) {
		c = caller_get(l);
		if (!c)
			return -EUSERS;
		if (pthread_setspecific(l->key, c)) {
			caller_put(c);
			return -ENOMEM;
		}
	}
	*call = call_of(l, c);
	return 0;
}

static int local_call_new(struct elisa_guest *guest, struct elisa_call *call)
{
	struct local *l = guest->state;
	struct caller *c = caller_get(l);

	if (!c)
		return -ENOSPC;
	*call = call_of(l, c);
	return 0;
}

static void local_call_del(struct elisa_guest *guest, struct elisa_call *call)
{
	(void)guest;
	caller_put(call->cookie);
	*call = (struct elisa_call){0};
}

/* ---- the service's memory ---- */

static int map_at(struct local *l, uint64_t addr, uint64_t len, int fd, uint64_t offset, bool write)
{
	struct mapping *m = malloc(sizeof(*m));
	void *p;

	if (!m)
		return -ENOMEM;
	p = mmap((void *)addr, len, write ? PROT_READ | PROT_WRITE : PROT_READ,
		 MAP_SHARED | MAP_FIXED_NOREPLACE, fd, (off_t)offset);
	if (p == MAP_FAILED || p != (void *)addr) {
		int rc = p == MAP_FAILED ? -errno : -EEXIST;

		if (p != MAP_FAILED)
			munmap(p, len);
		free(m);
		return rc;
	}
	/* A child is no caller, and must not keep writing to a service that thinks we are dead. */
	madvise(p, len, MADV_DONTFORK);
	*m = (struct mapping){.next = l->mappings, .addr = p, .len = len};
	l->mappings = m;
	return 0;
}

static int unmap_at(struct local *l, uint64_t addr, uint64_t len)
{
	for (struct mapping **at = &l->mappings; *at; at = &(*at)->next) {
		struct mapping *m = *at;

		if (m->addr != (void *)addr || m->len != len)
			continue;
		munmap(m->addr, m->len);
		*at = m->next;
		free(m);
		return 0;
	}
	return -ENOENT;
}

static void unmap_all(struct local *l)
{
	while (l->mappings)
		unmap_at(l, (uintptr_t)l->mappings->addr, l->mappings->len);
}

/* The library stays loaded for good: a rejoin finds it again, and nothing says when it could go. */
static int load_service(struct local *l, const struct elisa_local_welcome *w)
{
	void *lib = dlopen(w->library, RTLD_NOW | RTLD_LOCAL);
	const uint64_t *check;

	if (!lib) {
		guest_error("local (no isolation): cannot load the service's library: %s",
			    dlerror());
		return -ELIBACC;
	}
	check = w->check_symbol[0] ? dlsym(lib, w->check_symbol) : NULL;
	if (w->check_symbol[0] && (!check || *check != w->check)) {
		guest_error("local (no isolation): %s here is another build than the service's",
			    w->library);
		return -ELIBBAD;
	}
	*(void **)&l->entry = dlsym(lib, w->entry);
	return l->entry ? 0 : -ELIBBAD;
}

static int on_welcome(struct local *l, const struct elisa_local_welcome *w, int fd)
{
	int rc;

	if (w->service != l->service)
		return -EPROTO;
	l->welcome = *w;
	rc = map_at(l, w->arena_addr, w->arena_len, fd, 0, true);
	if (!rc)
		rc = map_at(l, w->ram_addr, l->ram_len, l->ram_fd, l->ram_offset, true);
	return rc ? rc : load_service(l, w);
}

/* Handles one message; 1: READY, 0: go on, or an error that ends the connection. */
static int on_message(struct local *l)
{
	struct elisa_local_msg msg;
	const union elisa_local_body *b = &msg.body;
	struct elisa_local_msg ack = {0};
	int fd, rc = elisa_local_recv(l->sock, &msg, &fd);

	if (rc)
		return rc;
	switch (msg.header.type) {
	case ELISA_LOCAL_WELCOME:
		rc = l->mappings ? -EPROTO : on_welcome(l, &b->welcome, fd);
		break;
	case ELISA_LOCAL_MAP:
		rc = map_at(l, b->map.addr, b->map.len, fd, b->map.offset, b->map.write);
		break;
	case ELISA_LOCAL_UNMAP:
		rc = unmap_at(l, b->unmap.addr, b->unmap.len);
		break;
	case ELISA_LOCAL_READY:
		return 1;
	case ELISA_LOCAL_REFUSED:
		guest_error("local (no isolation): %s", b->refused.text);
		return -(int)b->refused.error;
	default:
		rc = -EPROTO;
	}
	if (fd >= 0)
		close(fd);
	ack.body.ack.error = (uint32_t)-rc;
	/* An error is sent too: it tells the service why this client leaves. */
	if (rc) {
		elisa_local_send(l->sock, &ack, ELISA_LOCAL_ACK, msg.header.seq, -1);
		return rc;
	}
	return elisa_local_send(l->sock, &ack, ELISA_LOCAL_ACK, msg.header.seq, -1);
}

/* ---- joining ---- */

/* Its code and memory become part of this process: only root's service, or one's own. */
static int check_peer(int sock)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	return cred.uid == 0 || cred.uid == geteuid() ? 0 : -EPERM;
}

static int connect_service(struct local *l)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct elisa_local_msg msg = {
		.body.join = {.abi_revision = ELISA_ABI_REVISION,
			      .service = l->service,
			      .callers = l->callers_asked,
			      .page = (uint32_t)l->ram_page,
			      .ram_len = l->ram_len,
			      .ram_offset = l->ram_offset,
			      .ram_gpa = l->ram_gpa,
			      .flags = l->brought ? ELISA_LOCAL_UNSEALED : 0}};
	int rc;

	memcpy(addr.sun_path, l->path, sizeof(addr.sun_path));
	memcpy(msg.body.join.name, l->name, sizeof(l->name));
	l->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (l->sock < 0)
		return -errno;
	if (connect(l->sock, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	rc = check_peer(l->sock);
	return rc ? rc : elisa_local_send(l->sock, &msg, ELISA_LOCAL_JOIN, 0, l->ram_fd);
}

static void leave(struct local *l)
{
	cut_off(l);
	l->joined = false;
	if (l->sock >= 0)
		close(l->sock);
	l->sock = -1;
	unmap_all(l);
}

/* 1: a message is there; 0: told to stop, or (timeout_ms >= 0) nothing came in time. */
static int wait_message(struct local *l, int timeout_ms)
{
	struct pollfd fds[2] = {{.fd = l->stop, .events = POLLIN},
				{.fd = l->sock, .events = POLLIN}};
	int n;

	do
		n = poll(fds, 2, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n > 0 && !fds[0].revents && fds[1].revents;
}

static int join(struct local *l)
{
	int rc = connect_service(l);

	while (!rc) {
		if (!wait_message(l, JOIN_MS))
			rc = -ETIMEDOUT;
		else
			rc = on_message(l);
	}
	if (rc < 0) {
		leave(l);
		return rc;
	}
	let_in(l);
	l->joined = true;
	return 0;
}

static void *helper(void *arg)
{
	struct local *l = arg;
	struct pollfd stop = {.fd = l->stop, .events = POLLIN};

	for (;;) {
		if (!l->joined) {
			if (poll(&stop, 1, RETRY_MS) > 0)
				return NULL;
			join(l);
			continue;
		}
		if (!wait_message(l, -1))
			return NULL;
		if (on_message(l) < 0)
			leave(l);
	}
}

static int start_helper(struct local *l)
{
	sigset_t all, old;
	int rc;

	/* Signals are the program's, on its own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&l->thread, NULL, helper, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -rc;
}

/* ---- opening ---- */

static int parse_size(const char *text, uint64_t *size)
{
	static const char units[] = "KMG";
	char *end;
	const char *unit;
	unsigned long long n = strtoull(text, &end, 10);

	if (end == text)
		return -EINVAL;
	unit = *end ? strchr(units, *end) : NULL;
	if (*end && (!unit || end[1]))
		return -EINVAL;
	if (n > RAM_LIMIT)
		return -EINVAL;
	if (unit)
		n <<= 10 * (unit - units + 1);
	if (n < HUGE || n > RAM_LIMIT)
		return -EINVAL;
	*size = (n + HUGE - 1) & ~(HUGE - 1);
	return 0;
}

static int parse_gate(const char *text, uint32_t *ns)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n > GATE_NS_MAX)
		return -EINVAL;
	*ns = (uint32_t)n;
	return 0;
}

static int parse_option(struct local *l, const char *option)
{
	size_t len;

	if (!strcmp(option, "huge")) {
		l->huge = true;
		return 0;
	}
	if (!strncmp(option, "ram=", 4))
		return parse_size(option + 4, &l->ram_len);
	if (!strncmp(option, "gate=", 5))
		return parse_gate(option + 5, &l->gate_ns);
	if (!strncmp(option, "name=", 5)) {
		len = strlen(option + 5);
		if (len >= sizeof(l->name))
			return -EINVAL;
		memcpy(l->name, option + 5, len + 1);
		return 0;
	}
	return -EINVAL;
}

/* [SOCKET][,OPTION]... */
static int parse_options(struct local *l, const char *options)
{
	const char *name = getenv("ELISA_LOCAL_NAME"), *ram = getenv("ELISA_LOCAL_RAM");
	char *copy = strdup(options ? options : ""), *rest = copy, *word;
	int rc = 0;

	if (!copy)
		return -ENOMEM;
	word = strsep(&rest, ",");
	snprintf(l->path, sizeof(l->path), "%s", *word ? word : ELISA_LOCAL_SOCKET);
	if (strlen(word) >= sizeof(l->path) || (name && strlen(name) >= sizeof(l->name)))
		rc = -EINVAL;
	if (!rc && name)
		memcpy(l->name, name, strlen(name) + 1);
	l->ram_len = RAM_DEFAULT;
	if (!rc && ram)
		rc = parse_size(ram, &l->ram_len);
	while (!rc && (word = strsep(&rest, ",")))
		rc = parse_option(l, word);
	free(copy);
	if (rc == -EINVAL)
		guest_error("\"local:%s\" is not local[:SOCKET][,name=NAME][,ram=BYTES[K|M|G]]"
			    "[,huge][,gate=NS] with names below %d bytes, RAM from 2M to 64G and "
			    "a gate of at most %d ns",
			    options ? options : "", ELISA_LOCAL_NAME_MAX, GATE_NS_MAX);
	return rc;
}

static int make_ram(struct local *l)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

	l->ram_page = l->huge ? HUGE : 4096;
	if (l->huge)
		flags |= MFD_HUGETLB | (21u << 26); /* MFD_HUGE_2MB */
	l->ram_fd = memfd_create("elisa-ram", flags);
	if (l->ram_fd < 0)
		return -errno;
	if (ftruncate(l->ram_fd, (off_t)l->ram_len) ||
	    fcntl(l->ram_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	l->ram = mmap(NULL, l->ram_len, PROT_READ | PROT_WRITE,
		      MAP_SHARED | (l->huge ? MAP_POPULATE : 0), l->ram_fd, 0);
	if (l->ram == MAP_FAILED) {
		l->ram = NULL;
		return -errno;
	}
	madvise(l->ram, l->ram_len, MADV_DONTFORK);
	return 0;
}

/* The program's own: its addresses are the GPAs, so that it has nothing to translate. */
static int take_ram(struct local *l, const struct elisa_guest_ram *ram)
{
	const uint64_t addr = (uintptr_t)ram->addr;

	if ((ram->page != 4096 && ram->page != HUGE) || !ram->len ||
	    (addr | ram->len | ram->offset) % ram->page) {
		guest_error("local (no isolation): %zu bytes of memory at %p, %#llx in their file, "
			    "are not whole pages of %zu bytes (4096 or 2097152)",
			    ram->len, ram->addr, (unsigned long long)ram->offset, ram->page);
		return -EINVAL;
	}
	l->brought = true;
	l->callers_asked = ELISA_LOCAL_CALLERS_MAX;
	l->ram_page = ram->page;
	l->ram_len = ram->len;
	l->ram_offset = ram->offset;
	l->ram_gpa = addr;
	/* Kept, for the next service wants it too. */
	l->ram_fd = fcntl(ram->fd, F_DUPFD_CLOEXEC, 3);
	return l->ram_fd < 0 ? -errno : 0;
}

static void destroy(struct local *l)
{
	if (l->ram)
		munmap(l->ram, l->ram_len);
	if (l->ram_fd >= 0)
		close(l->ram_fd);
	if (l->stop >= 0)
		close(l->stop);
	while (l->blocks) {
		struct block *b = l->blocks;

		l->blocks = b->next;
		free((void *)b->mem.gpa);
		free(b);
	}
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static struct local *create(uint32_t service)
{
	struct local *l = aligned_alloc(64, sizeof(*l));

	if (!l)
		return NULL;
	memset(l, 0, sizeof(*l));
	l->service = service;
	l->callers_asked = CALLERS;
	l->sock = l->ram_fd = l->stop = -1;
	pthread_mutex_init(&l->lock, NULL);
	for (size_t i = 0; i < ELISA_LOCAL_CALLERS_MAX; i++) {
		l->callers[i].local = l;
		atomic_init(&l->callers[i].away, true);
	}
	return l;
}

static int local_open(struct elisa_guest *guest, const char *options,
		      const struct elisa_guest_ram *ram)
{
	struct local *l = create(guest->service);
	int rc;

	if (!l)
		return -ENOMEM;
	rc = parse_options(l, options);
	if (rc)
		goto destroy;
	if (l->gate_ns)
		calibrate_gate(l);
	rc = ram ? take_ram(l, ram) : make_ram(l);
	if (rc)
		goto destroy;
	rc = -EOPNOTSUPP;
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
		goto destroy;
	l->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = l->stop < 0 ? -errno : join(l);
	if (rc)
		goto destroy;
	rc = -pthread_key_create(&l->key, caller_put);
	if (rc)
		goto leave;
	rc = start_helper(l);
	if (rc)
		goto delete_key;
	guest->state = l;
	if (l->gate_ns) {
		snprintf(l->label, sizeof(l->label), "%s, gate simulated by a spin of %u ns",
			 transport_local.name, l->gate_ns);
		guest->label = l->label;
	}
	return 0;
delete_key:
	pthread_key_delete(l->key);
leave:
	leave(l);
destroy:
	destroy(l);
	return rc;
}

static void local_close(struct elisa_guest *guest)
{
	struct local *l = guest->state;
	struct elisa_local_msg msg;
	const uint64_t one = 1;

	if (write(l->stop, &one, sizeof(one)) == sizeof(one))
		pthread_join(l->thread, NULL);
	cut_off(l);
	if (l->joined)
		elisa_local_send(l->sock, &msg, ELISA_LOCAL_LEAVE, 0, -1);
	leave(l);
	pthread_key_delete(l->key);
	destroy(l);
}

/* ---- memory: pieces of the RAM, first fit ---- */

static struct block *block_by_name(struct local *l, const char *name)
{
	for (struct block *b = l->blocks; b; b = b->next)
		if (!strcmp(b->name, name))
			return b;
	return NULL;
}

static struct block *block_new(struct local *l, const char *name, size_t len)
{
	struct block **at = &l->blocks, *b;
	uint64_t offset = 0, *gpa;

	while (*at && (*at)->offset - offset < len) {
		offset = (*at)->offset + (*at)->mem.len;
		at = &(*at)->next;
	}
	if (len > l->ram_len - offset)
		return NULL;
	b = calloc(1, sizeof(*b));
	gpa = malloc(sizeof(*gpa));
	if (!b || !gpa) {
		free(b);
		free(gpa);
		return NULL;
	}
	*gpa = offset;
	snprintf(b->name, sizeof(b->name), "%s", name);
	b->offset = offset;
	b->mem = (struct elisa_mem){.addr = l->ram + offset, .len = len, .page = len, .gpa = gpa};
	b->next = *at;
	*at = b;
	return b;
}

static int local_mem_alloc(struct elisa_guest *guest, const char *name, size_t len,
			   struct elisa_mem **mem)
{
	struct local *l = guest->state;
	struct block *b;
	int rc = 0;

	if (l->brought)
		return -EOPNOTSUPP;
	len = (len + 4095) & ~(size_t)4095;
	pthread_mutex_lock(&l->lock);
	b = block_by_name(l, name);
	if (b && (!b->left || b->mem.len < len))
		rc = -EBUSY;
	else if (!b && !(b = block_new(l, name, len)))
		rc = -ENOMEM;
	if (!rc) {
		b->left = false;
		memset(b->mem.addr, 0, b->mem.len);
		*mem = &b->mem;
	}
	pthread_mutex_unlock(&l->lock);
	return rc;
}

static void local_mem_free(struct elisa_guest *guest, struct elisa_mem *mem, bool keep)
{
	struct local *l = guest->state;
	struct block *b = (struct block *)mem, **at;

	pthread_mutex_lock(&l->lock);
	b->left = keep;
	if (!keep) {
		for (at = &l->blocks; *at != b; at = &(*at)->next)
			;
		*at = b->next;
		free((void *)b->mem.gpa);
		free(b);
	}
	pthread_mutex_unlock(&l->lock);
}

const struct transport transport_local = {
	.prefix = "local",
	.name = "local (no isolation)",
	.open = local_open,
	.close = local_close,
	.call = local_call,
	.call_new = local_call_new,
	.call_del = local_call_del,
	.mem_alloc = local_mem_alloc,
	.mem_free = local_mem_free,
};
