/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef ELISACTL_H
#define ELISACTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum exit_status {
	CTL_OK = 0,
	CTL_REFUSED = 1, /* by the daemon; its sentence is on stderr */
	CTL_USAGE = 2,
	CTL_UNREACHABLE = 3, /* no daemon, or none that answers */
};

/* ---- client.c ---- */

/*
 * One request, one answer. Takes `params`. On CTL_OK *result is the caller's; with `as_json` an
 * error is printed as the JSON object that it is, on stdout, besides the sentence on stderr.
 */
int ctl_call(const char *socket, const char *method, json_t *params, bool as_json, json_t **result);

/* The same in two steps, for what asks more than once; *in is closed with fclose(). */
int ctl_connect(const char *socket, FILE **in);
int ctl_ask(FILE *in, const char *socket, const char *method, json_t *params, bool as_json,
	    json_t **result);

/* ... and in its parts. `line` NULL: none came. */
void ctl_send(int fd, const char *method, json_t *params);
int ctl_answer(const char *socket, const char *line, bool as_json, json_t **result);

/* ---- commands that are more than a request and its printed result; they take `params` ---- */

int run_events(const char *socket, bool as_json, json_t *params);
int run_top(const char *socket, bool as_json, json_t *params);
int run_drops(const char *socket, bool as_json, json_t *params);
/* drops.c: of an enum elisa_drop; "?" past the last. */
const char *drop_name(unsigned int reason);
int run_capture(const char *socket, bool as_json, json_t *params);

/* ---- table.c: columns as wide as their widest cell ---- */

struct table;
/* `heads`: separated by '|'; one that begins with '>' is aligned right. Bold when on a terminal. */
struct table *table_new(const char *heads);
/* As many cells as there are heads. Takes nothing. */
void table_row(struct table *table, ...);
/* Prints and frees. */
void table_print(struct table *table);
/* A short-lived string of a printf, good for the row that is being built (32 at a time). */
__attribute__((format(printf, 1, 2))) const char *cell(const char *fmt, ...);

/* ---- print.c: results for people ---- */

void print_status(json_t *result);
void print_attach(json_t *result);
void print_detach(json_t *result);
void print_ports(json_t *result);
void print_port(json_t *result);
void print_deleted(json_t *result);
void print_fdb(json_t *result);
void print_flushed(json_t *result);
void print_mirrors(json_t *result);
void print_reload(json_t *result);
void print_saved(json_t *result);
void print_forgotten(json_t *result);
void print_nothing(json_t *result);
void print_stats(json_t *result);
void print_doctor(json_t *result);
void print_metrics(json_t *result);

/* ---- print-nic.c ---- */

void print_nics(json_t *result);
void print_nic(json_t *result);
void print_nic_check(json_t *result);
/* One line for each, for `status`. */
void print_nics_short(json_t *nics);

/* ---- fields of a result: one that is missing is nothing or zero ---- */

static inline const char *str(json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : "";
}

static inline long long num(json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static inline bool is(json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static inline const char *or_dash(const char *text)
{
	return *text ? text : "-";
}

/* "a, b" of an array of strings or numbers. */
const char *joined(json_t *list);

#endif
