/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Group memory: addresses that are no RAM, or RAM that is not there any more, as whatever the switch
 * takes an address for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "user.h"

#define PLACES	128
#define LEN	128u	/* of a frame: more than the 64 bytes that a place at an end has left */

struct places {
	uint64_t at[PLACES];	/* multiples of 64 */
	unsigned int count;
};

static void add(struct places *p, uint64_t at)
{
	if (p->count < PLACES)
		p->at[p->count++] = at & ~63ull;
}

/* Devices, what lies between all that has a name, and the ends of RAM. False: not to be known. */
static bool from_iomem(struct places *p)
{
	FILE *f = fopen("/proc/iomem", "re");
	uint64_t from, to, before = 0;
	char line[128], name[64];

	while (f && fgets(line, sizeof(line), f)) {
		if (*line == ' ' || sscanf(line, "%lx-%lx : %63[^\n]", &from, &to, name) != 3)
			continue;
		if (from - before > 4096 && before) {
			add(p, before);
			add(p, before + (from - before) / 2);
			add(p, from - 64);
		}
		/* Below 1 MiB much of what is called reserved is the VM's RAM all the same. */
		if (strcmp(name, "System RAM") && from >= 0x100000) {
			add(p, from);
			add(p, to + 1 - 64);
		} else if (from >= 0x100000) {
			add(p, to + 1 - 64);
		}
		before = to + 1;
	}
	if (f)
		fclose(f);
	add(p, before);
	return before > 0x100000;
}

static bool find_places(struct places *p, uint64_t gpa)
{
	static const uint64_t known[] = {
		0xf0000,	/* firmware's ROM */
		0xffff0000,	/* the same */
		0xfec00000, 0xfee00000,	/* APICs */
		0xc0000000, 0xd0000000,	/* for devices */
		1ull << 32,
		1ull << 39,	/* the window, of a processor with 40 bits of address */
		(1ull << 39) + 0x40000000, (1ull << 40) - 64, 1ull << 40,
		0x5e117a000000,	/* what are addresses to the trusted context itself */
		0x680000000000,
		1ull << 46, 1ull << 52, 1ull << 63, -4096ull, -64ull,
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		add(p, known[i]);
	/* Our own, with bits that no address has. */
	for (int bit = 32; bit < 64; bit += 5)
		add(p, gpa | 1ull << bit);
	return from_iomem(p);
}

static uint64_t drops_of(struct user *u, unsigned int port, enum elisa_drop drop)
{
	struct elisa_port_counters c;

	return user_counters(u, port, &c) ? 0 : c.drops[drop];
}

/* As what is sent, as where it is received; each is dropped and counted. NULL: so it was. */
static const char *as_buffer(struct user *u, uint64_t at)
{
	uint64_t bad = drops_of(u, 0, ELISA_DROP_TX_BAD_ADDR);

	user_put(u, 0, 0, at, LEN, 0);
	if (user_send(u, 0, 1) != 1 || drops_of(u, 0, ELISA_DROP_TX_BAD_ADDR) != bad + 1)
		return "was sent from";
	bad = drops_of(u, 1, ELISA_DROP_RX_BAD_ADDR);
	for (uint32_t i = 0; i < USER_RING; i++)
		u->q[1].rx->addr[i] = at;
	user_put(u, 0, 0, user_frame(u, 0, u->q[1].mac, u->q[0].mac), LEN, 0);
	if (user_send(u, 0, 1) != 1 || drops_of(u, 1, ELISA_DROP_RX_BAD_ADDR) != bad + 1)
		return "was received at";
	user_take(u, 1, NULL, NULL);
	return NULL;
}

/* As each ring, and as each structure. */
static const char *as_ring(struct user *u, uint64_t at)
{
	struct elisa_queue_setup *s = (struct elisa_queue_setup *)(void *)(u->at + USER_SETUP);

	for (int i = 0; i < 3; i++) {
		user_setup_fill(u, 2, s);
		*(i == 0 ? &s->tx_ring : i == 1 ? &s->rx_ring : &s->rx_comp) = at;
		if (user_call(u, ELISA_NET_QUEUE_SETUP, u->gpa + USER_SETUP, 0) != -ELISA_EFAULT)
			return "is a ring";
	}
	/* 56 bytes, of which 48 would be there at an end. */
	if (user_call(u, ELISA_NET_QUEUE_SETUP, at + 16, 0) != -ELISA_EFAULT ||
	    user_call(u, ELISA_NET_PORT_INFO, 2, at) != -ELISA_EFAULT ||
	    user_call(u, ELISA_NET_COUNTERS, 2, at) != -ELISA_EFAULT ||
	    user_call(u, ELISA_NET_RX_MODE, 2, at) != -ELISA_EFAULT ||
	    user_call(u, ELISA_NET_RSS, 2, at) != -ELISA_EFAULT)
		return "is a structure";
	return NULL;
}

static int memory_places(struct attack_run *run)
{
	struct places places = { 0 };
	const char *wrong = NULL;
	unsigned int i;
	struct user u;
	int rc = user_open(&u, "attack");

	if (rc)
		return rc;
	if (!find_places(&places, u.gpa)) {
		attack_is(run, ATTACK_ABSENT, 0, "/proc/iomem does not say where RAM is");
		goto out;
	}
	for (i = 0; !wrong && i < places.count; i++)
		wrong = as_buffer(&u, places.at[i]) ?: as_ring(&u, places.at[i]);
	run->detail[0] = places.count;
	if (wrong)
		attack_is(run, ATTACK_BREACH, 0, "0x%lx %s", (unsigned long)places.at[i - 1], wrong);
	else
		user_verdict(&u, run, "%u places refused as buffer, ring and structure",
			     places.count);
out:
	user_close(&u);
	return 0;
}

/* ---- memory given back to the host ---- */

#define GIVEN	4u	/* huge pages */
#define HUGE	0x200000u

#define POOL	"/proc/sys/vm/nr_hugepages"
/*
 * Free pages of this order and up are reported, as long as there are 32 such more than the kernel wants
 * to have free itself: as they are usually, these numbers are too high for a small VM.
 */
#define KEPT	"/proc/sys/vm/min_free_kbytes"
#define ORDER	"/sys/module/page_reporting/parameters/page_reporting_order"

static bool set_number(const char *path, int n)
{
	FILE *f = fopen(path, "we");
	bool ok = f && fprintf(f, "%d\n", n) > 0;

	return f && !fclose(f) && ok;
}

static int get_number(const char *path)
{
	FILE *f = fopen(path, "re");
	int n;

	if (!f || fscanf(f, "%d", &n) != 1)
		n = -1;
	if (f)
		fclose(f);
	return n;
}

/* A byte of physical memory, as this VM's processor sees it; -1: cannot be read. */
static int physical(uint64_t gpa)
{
	/* The kernel's map of all memory, without KASLR (Documentation/x86/x86_64/mm.rst). */
	const uint64_t va = 0xffff888000000000 + gpa;
	uint64_t headers[8 + 7 * 64];	/* ELF header, then up to 64 program headers of 56 bytes */
	int fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC), found = -1;
	ssize_t n = fd < 0 ? -1 : read(fd, headers, sizeof(headers));
	const uint64_t *p = headers + 8;
	uint8_t byte;

	for (uint32_t i = 0; n >= 64 + 56 * (ssize_t)(i + 1) && i < (uint16_t)headers[7]; i++, p += 7)
		/* p_type PT_LOAD, p_offset, p_vaddr, p_memsz */
		if ((uint32_t)p[0] == 1 && va - p[2] < p[5] &&
		    pread(fd, &byte, 1, (off_t)(p[1] + va - p[2])) == 1)
			found = byte;
	if (fd >= 0)
		close(fd);
	return found;
}

/* Gives huge pages that were ours to the balloon; `gpa`: one that the host took. NULL, or why not. */
static const char *give_back(struct user *u, uint64_t *gpa)
{
	struct elisa_mem *mem;
	uint64_t given[GIVEN];

	if (system("modprobe -q virtio_balloon") || !set_number(ORDER, 5))
		return "no balloon driver";
	set_number(KEPT, 512);
	if (elisa_mem_alloc(u->guest, "attack-spare", GIVEN * HUGE, &mem))
		return "no huge pages left";
	memcpy(given, mem->gpa, sizeof(given));
	memset(mem->addr, 0x5a, GIVEN * HUGE);
	elisa_mem_free(u->guest, mem);
	/* What was freed last is let go first. */
	if (!set_number(POOL, get_number(POOL) - (int)GIVEN))
		return "vm.nr_hugepages cannot be changed";
	/* The kernel waits two seconds before it reports free pages, and keeps some for itself. */
	for (double end = user_seconds() + 10; user_seconds() < end; usleep(100000)) {
		for (unsigned int i = 0; i < GIVEN; i++) {
			*gpa = given[i];
			if (!physical(*gpa + 64) && !physical(*gpa + HUGE - 64))
				return NULL;
		}
	}
	return "free pages were not taken: QEMU's balloon wants free-page-reporting=on";
}

struct contents {
	unsigned int frames, old, zero;
};

static void look(const uint8_t *data, uint32_t len, void *arg)
{
	struct contents *c = arg;

	c->frames++;
	c->old += len == LEN && data[LEN - 1] == 0x5a;
	c->zero += len == LEN && !data[LEN - 1];
}

/*
 * Memory that was given back by free page reporting, so that QEMU made a hole of it, as buffers and
 * rings: the switch still holds what was there when the VM was attached, which is this VM's, and
 * nobody else's by now.
 */
static int memory_given_back(struct attack_run *run)
{
	struct contents c = { 0 };
	const char *wrong;
	uint64_t gpa;
	struct user u;
	int rc = user_open(&u, "attack");

	if (rc)
		return rc;
	wrong = give_back(&u, &gpa);
	if (wrong) {
		attack_is(run, ATTACK_ABSENT, 0, "%s", wrong);
		goto out;
	}
	user_take(&u, 1, NULL, NULL);
	for (uint32_t i = 0; i < 4096; i += 64) {
		/* The header is ours, what follows lies there. */
		for (uint32_t k = 0; k < 64; k += 2) {
			user_put(&u, 0, k, user_frame(&u, k, u.q[1].mac, u.q[0].mac), 14,
				 ELISA_NET_MORE);
			user_put(&u, 0, k + 1, gpa + (i + k) % 512 * 4096, LEN - 14, 0);
		}
		user_send(&u, 0, 64);
		user_take(&u, 1, look, &c);
	}
	for (uint32_t i = 0; i < USER_RING; i++)
		u.q[1].rx->addr[i] = gpa + i * 8192;
	for (uint32_t i = 0; i < USER_RING; i += 64) {
		for (uint32_t k = 0; k < 64; k++)
			user_put(&u, 0, k, user_frame(&u, k, u.q[1].mac, u.q[0].mac), LEN, 0);
		user_send(&u, 0, 64);
		user_take(&u, 1, NULL, NULL);
	}
	run->detail[0] = c.frames;
	if (c.old + c.zero != c.frames || !c.frames)
		attack_is(run, ATTACK_BREACH, 0, "%u of %u frames hold what was never there",
			  c.frames - c.old - c.zero, c.frames);
	else
		user_verdict(&u, run, "%u frames from there: %u with what was, %u with zeros",
			     c.frames, c.old, c.zero);
out:
	user_close(&u);
	return 0;
}

const struct user_attack memory_attacks[] = {
	{ "memory-places", memory_places },
	{ "memory-given-back", memory_given_back },
	{ 0 },
};
