/* SPDX-License-Identifier: BSD-3-Clause */
/* elisa-example: a guest's program that uses the example service. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include <elisa/guest.h>

#include "example.h"

static const struct command {
	const char *name;
	uint64_t op;
	int args;
} commands[] = {
	{"nop", ELISA_OP_NOP, 0},   {"count", EXAMPLE_OP_COUNT, 1}, {"echo", EXAMPLE_OP_ECHO, 1},
	{"put", EXAMPLE_OP_PUT, 2}, {"get", EXAMPLE_OP_GET, 1},	    {"who", EXAMPLE_OP_WHO, 0},
};

static int usage(void)
{
	fputs("usage: elisa-example [--transport SPEC] COMMAND\n"
	      "  nop | count N | echo N | put INDEX N | get INDEX | who: one call, prints its "
	      "result\n"
	      "  bench N: N empty calls in batches of 1000, and what one took in TSC ticks\n"
	      "  hammer N: N calls that count one up, each checked to be more than the last\n",
	      stderr);
	return 2;
}

/* In batches: the best one is free of interrupts. */
static int bench(const struct elisa_call *call, uint64_t n)
{
	const uint64_t batch = 1000;
	uint64_t i, j, start, ticks, sum = 0, best = UINT64_MAX,
				     batches = n / batch + !!(n % batch);

	for (i = 0; i < batches; i++) {
		start = __rdtsc();
		for (j = 0; j < batch; j++)
			if (elisa_call(call, ELISA_OP_NOP, 0, 0, 0))
				return 1;
		ticks = __rdtsc() - start;
		sum += ticks;
		if (ticks < best)
			best = ticks;
	}
	if (!batches)
		return usage();
	printf("{\"calls\": %llu, \"ticks_per_call\": %.2f, \"ticks_per_call_best\": %.2f}\n",
	       (unsigned long long)(batches * batch), (double)sum / (double)(batches * batch),
	       (double)best / (double)batch);
	return 0;
}

static int hammer(const struct elisa_call *call, uint64_t n)
{
	int64_t last = 0;
	uint64_t i;

	for (i = 0; i < n; i++) {
		int64_t r = elisa_call(call, EXAMPLE_OP_COUNT, 1, 0, 0);

		if (r <= last) {
			fprintf(stderr, "elisa-example: call %llu: %lld after %lld\n",
				(unsigned long long)i, (long long)r, (long long)last);
			return 1;
		}
		last = r;
	}
	printf("{\"calls\": %llu, \"counter\": %lld}\n", (unsigned long long)n, (long long)last);
	return 0;
}

static int one(const struct elisa_call *call, int argc, char **argv)
{
	uint64_t a[2] = {0, 0};
	int64_t r;
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(commands[i].name, argv[0]) && commands[i].args == argc - 1)
			break;
	if (i == sizeof(commands) / sizeof(*commands))
		return usage();
	if (argc > 1)
		a[0] = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		a[1] = strtoull(argv[2], NULL, 0);
	r = elisa_call(call, commands[i].op, a[0], a[1], 0);
	if (r < 0) {
		fprintf(stderr, "elisa-example: %s: %s\n", argv[0], strerror((int)-r));
		return 1;
	}
	printf("%lld\n", (long long)r);
	return 0;
}

int main(int argc, char **argv)
{
	struct elisa_guest *guest;
	struct elisa_call call;
	const char *spec = NULL;
	int rc;

	if (argc > 2 && !strcmp(argv[1], "--transport")) {
		spec = argv[2];
		argc -= 2;
		argv += 2;
	}
	if (argc < 2)
		return usage();
	rc = elisa_guest_open(spec, ELISA_SERVICE_EXAMPLE, &guest);
	if (rc == -ENOTCONN) {
		fputs("elisa-example: this VM is not attached to a service\n", stderr);
		return 3;
	}
	if (rc >= 0)
		rc = elisa_guest_call(guest, &call);
	if (rc < 0) {
		fprintf(stderr, "elisa-example: cannot reach the service: %s\n", strerror(-rc));
		return 1;
	}
	if (!strcmp(argv[1], "bench") && argc == 3)
		rc = bench(&call, strtoull(argv[2], NULL, 0));
	else if (!strcmp(argv[1], "hammer") && argc == 3)
		rc = hammer(&call, strtoull(argv[2], NULL, 0));
	else
		rc = one(&call, argc - 1, argv + 1);
	elisa_guest_close(guest);
	return rc;
}
