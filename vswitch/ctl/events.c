/* SPDX-License-Identifier: BSD-3-Clause */
/* elisactl events: prints what happens, as it happens, until it is interrupted. */
#include "ctl.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

static void print_event(json_t *event)
{
	long long us = num(event, "time_us");
	time_t s = (time_t)(us / 1000000);
	char stamp[32] = "";
	struct tm tm;

	localtime_r(&s, &tm);
	strftime(stamp, sizeof(stamp), "%F %T", &tm);
	printf("%s.%03lld %-12s %s\n", stamp, us / 1000 % 1000, str(event, "event"),
	       str(event, "text"));
	if (num(event, "lost_before"))
		fprintf(stderr,
			"elisactl: %lld events before this one are missing: they were not read in "
			"time\n",
			num(event, "lost_before"));
}

static int read_events(FILE *in, bool as_json)
{
	const struct timeval for_ever = {0};
	char *line = NULL;
	size_t size = 0;
	json_t *message, *event;

	setsockopt(fileno(in), SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof(for_ever));
	while (!ferror(stdout) && getline(&line, &size, in) > 0) {
		message = json_loads(line, 0, NULL);
		event = json_object_get(message, "params");
		if (as_json && event) {
			json_dumpf(event, stdout, JSON_COMPACT);
			putchar('\n');
		} else if (event) {
			print_event(event);
		}
		fflush(stdout);
		json_decref(message);
	}
	free(line);
	return ferror(stdout) ? CTL_REFUSED : CTL_UNREACHABLE;
}

int run_events(const char *path, bool as_json, json_t *params)
{
	json_t *result = NULL;
	FILE *in = NULL;
	int ret = ctl_connect(path, &in);

	if (ret) {
		json_decref(params);
		return ret;
	}
	ret = ctl_ask(in, path, "events.subscribe", params, as_json, &result);
	if (!ret) {
		json_decref(result);
		ret = read_events(in, as_json);
		if (ret == CTL_UNREACHABLE)
			fprintf(stderr, "elisactl: %s: the daemon has ended\n", path);
	}
	fclose(in);
	return ret;
}
