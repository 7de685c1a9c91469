/* SPDX-License-Identifier: BSD-3-Clause */
/* See run.h: what the victims did, and with how many instructions of their own. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "../vmx/tap.h"

/* CPU time of all threads of a process, in ns. */
static uint64_t cpu_time(int pid)
{
	char path[64];
	uint64_t sum = 0, ns;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", pid, e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%lu", &ns) == 1)
			sum += ns;
		fclose(f);
	}
	if (d)
		closedir(d);
	return sum;
}

int pace_take(const struct watched *victims, struct pace *p)
{
	json_t *stats = elisactl_json("stats"), *ports = json_object_get(stats, "ports");

	memset(p, 0, sizeof(*p));
	for (unsigned int i = 0; i < 2; i++) {
		char port[32];
		const char *reason;
		json_t *at, *drops;

		snprintf(port, sizeof(port), "%s0", victims[i].name);
		at = json_object_get(ports, port);
		if (!at) {
			json_decref(stats);
			return -ENOENT;
		}
		p->frames[i] = (uint64_t)json_integer_value(json_object_get(at, "tx_frames"));
		json_object_foreach(json_object_get(at, "drops"), reason, drops)
			p->drops[i] += (uint64_t)json_integer_value(drops);
		p->instructions[i] = (double)cpu_time(guest_pid(victims[i].name)) / 10 / 1e6;
	}
	json_decref(stats);
	return 0;
}

double pace_instructions(const struct pace *from, const struct pace *to)
{
	return to->instructions[0] - from->instructions[0] + to->instructions[1] -
	       from->instructions[1];
}

double pace_rate(const struct pace *from, const struct pace *to)
{
	const double instructions = pace_instructions(from, to);
	const uint64_t frames = to->frames[0] - from->frames[0] + to->frames[1] - from->frames[1];

	return instructions > 0 ? (double)frames / instructions : 0;
}
