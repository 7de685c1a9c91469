/* SPDX-License-Identifier: BSD-3-Clause */
/* Counters and states for Prometheus and its like: the values of `stats`, as text. */
#ifndef VSWITCHD_METRICS_H
#define VSWITCHD_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct daemon;
struct web;

struct metrics_setting {
	bool enable;
	char *socket;	/* HTTP is spoken there */
	gid_t gid;	/* (gid_t)-1: none */
	long long port; /* ... and at this TCP port of 127.0.0.1; 0: at none */
};

#define METRICS_TYPE_PROMETHEUS	 "text/plain; version=0.0.4; charset=utf-8"
#define METRICS_TYPE_OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* The text (free() it), its length in *len; NULL: no memory. */
char *metrics_text(struct daemon *d, bool openmetrics, size_t *len);

/* metrics-http.c: -errno after an error in the log. */
int web_open(struct daemon *d);
void web_close(struct daemon *d);

#endif
