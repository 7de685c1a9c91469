/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Target: the files that outlive the daemon. The first byte says which one the rest is:
 * state.json, fdb, a domain's file, or saved.json. Each start must succeed in spite of it (with
 * saved.json, which is part of the configuration, it may be refused), and who cannot use a file names it.
 */
#include "fuzz.h"
#include "inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <jansson.h>

#define DOMAIN "domains/00000000-0000-0000-0000-000000000001.json"

static const char *const names[] = {"state.json", "fdb", DOMAIN, "saved.json"};

/* Not even what the file should be: then it must be said, by its name. */
static bool is_rubbish(const char *name, const uint8_t *data, size_t len)
{
	json_t *json;
	bool rubbish;

	if (!strcmp(name, "fdb"))
		return len < 8 || memcmp(data, "elisafdb", 8);
	json = json_loadb((const char *)data, len, 0, NULL);
	rubbish = !json;
	json_decref(json);
	return rubbish;
}

void fuzz_files(const uint8_t *data, size_t len)
{
	const char *name;
	int ret;

	if (!len)
		return;
	name = names[data[0] % 4];
	for (size_t i = 0; i < 4; i++)
		unlink(inside_path(names[i]));
	inside_write(name, data + 1, len - 1);
	inside_forget_log();
	ret = inside_start();
	if (ret && !(ret == EX_CONFIG && !strcmp(name, "saved.json"))) {
		fprintf(stderr, "%s: the daemon does not start: %d\n", name, ret);
		abort();
	}
	if (is_rubbish(name, data + 1, len - 1) && !inside_complained_of(name)) {
		fprintf(stderr, "%s: nothing is said of it\n", name);
		abort();
	}
	if (!ret)
		inside_work();
	inside_stop();
}
