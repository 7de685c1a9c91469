/* SPDX-License-Identifier: BSD-3-Clause */
/* DPDK's heap grows and shrinks: the daemon follows it in pieces that go as they came. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../vswitch/nic/nic.h"

#define SKIP	   77
#define PAGES_MIN  14
#define PIECES_MAX 64
#define NICS	   2
#define CHECK(x, ...)                                                                \
	do {                                                                         \
		if (!(x)) {                                                          \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #x);      \
			fprintf(stderr, __VA_ARGS__);                                \
			fputc('\n', stderr);                                         \
			exit(1);                                                     \
		}                                                                    \
	} while (0)

static struct nic_memory piece[PIECES_MAX];
static unsigned int pieces, came, went;

static void follow(const struct nic_memory *m, bool there, void *arg)
{
	unsigned int i = 0;

	if (there) {
		CHECK(pieces < PIECES_MAX, "%u pieces", pieces);
		piece[pieces++] = *m;
		came++;
		return;
	}
	while (i < pieces && (piece[i].addr != m->addr || piece[i].len != m->len))
		i++;
	CHECK(i < pieces, "%zu bytes at %p go that did not come so", m->len, m->addr);
	piece[i] = piece[--pieces];
	went++;
}

static unsigned long pages_free(void)
{
	unsigned long n = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "HugePages_Free: %lu", &n);
	if (f)
		fclose(f);
	return n;
}

int main(void)
{
	void *object = dlopen(getenv("NIC_LIB"), RTLD_NOW);
	const struct nic_lib *lib = object ? dlsym(object, "vs_nic_lib") : NULL;
	struct nic_env env = {.memory_mib = 2, .huge = true};
	char why[NIC_WHY_LEN] = "", name[32];
	struct nic *nic[NICS];
	unsigned int first;

	if (pages_free() < PAGES_MIN) {
		printf("skipped: %lu hugepages of 2 MiB are free, %d are needed\n", pages_free(),
		       PAGES_MIN);
		return SKIP;
	}
	CHECK(lib, "%s", dlerror());
	CHECK(!lib->open(&env, why), "%s", why);
	CHECK(!lib->memory(follow, NULL), "not followed");
	first = pieces;
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < NICS; i++) {
			struct nic_config cfg = {.device = {name}, .devices = 1, .queues = 1,
						 .mtu = 1500, .tx_ring = 64};

			cfg.rx_ring = round % 2 ? 64 : 1024;
			snprintf(name, sizeof(name), "net_null%d", i);
			strcpy(cfg.name, name);
			CHECK(!lib->add(&cfg, &nic[i], why) && !lib->start(nic[i], why), "%s", why);
		}
		/* Not always in the order in which they came. */
		for (int i = 0; i < NICS; i++)
			lib->remove(nic[(i + round) % NICS]);
	}
	CHECK(came > first && went, "it did not grow and shrink: %u came, %u went", came, went);
	CHECK(pieces - first <= 3, "%u pieces more than at first", pieces - first);
	lib->close();
	printf("%u pieces came, %u went\n", came, went);
	return 0;
}
