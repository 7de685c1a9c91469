/* SPDX-License-Identifier: BSD-3-Clause */
/* libFuzzer's entry points, for the target that $FUZZ_TARGET names. See run. */
#include "fuzz.h"
#include "inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t max, unsigned int seed);

static const struct target {
	const char *name;
	void (*one)(const uint8_t *data, size_t len);
	size_t (*mutate)(uint8_t *data, size_t len, size_t max, unsigned int seed);
} targets[] = {
	{"config", fuzz_config, NULL},
	{"control", fuzz_control, fuzz_control_mutate},
	{"files", fuzz_files, NULL},
	{"hook", fuzz_hook, NULL},
};
static const struct target *target;

/* libconfig's own, at a text that ends inside of a string. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so";
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *name = getenv("FUZZ_TARGET");

	(void)argc;
	(void)argv;
	for (size_t i = 0; name && i < sizeof(targets) / sizeof(targets[0]); i++)
		if (!strcmp(targets[i].name, name))
			target = &targets[i];
	if (!target) {
		fprintf(stderr, "FUZZ_TARGET must be config, control, files or hook\n");
		exit(64);
	}
	inside_prepare();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	target->one(data, len);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t max, unsigned int seed)
{
	return target->mutate ? target->mutate(data, len, max, seed) : LLVMFuzzerMutate(data, len, max);
}
