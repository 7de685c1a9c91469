/* SPDX-License-Identifier: BSD-3-Clause */
/* Target: the configuration file, read into settings; a mistake is complained of. */
#include "../../vswitch/daemon/config.h"
#include "fuzz.h"
#include "inside.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned int complaints;

static void count(void *arg, const char *file, int line, const char *text)
{
	(void)arg;
	(void)line;
	if (!file || !text || !*text)
		abort();
	complaints++;
}

void fuzz_config(const uint8_t *data, size_t len)
{
	const struct sink sink = {count, NULL};
	struct settings s = {0};
	int ret;

	complaints = 0;
	inside_write("fuzz.conf", data, len);
	ret = settings_read(&s, inside_path("fuzz.conf"), inside_path("."), &sink);
	if (!ret != !complaints)
		abort();
	settings_free(&s);
}
