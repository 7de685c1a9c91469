/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of methods*.c: reading parameters; false means that the request has been answered. */
#ifndef VSWITCHD_METHOD_H
#define VSWITCHD_METHOD_H

#include "daemon.h"

__attribute__((format(printf, 2, 3))) bool bad_params(struct request *req, const char *fmt, ...);
bool get_string(struct request *req, json_t *params, const char *key, bool needed, const char **out);
bool get_bool(struct request *req, json_t *params, const char *key, bool *out);
bool get_int(struct request *req, json_t *params, const char *key, long long min, long long max,
	     long long *out);
bool get_port(struct request *req, json_t *params, const char *key, struct port **port);
bool get_mac(struct request *req, json_t *params, uint8_t mac[6]);
json_t *err_data(int err);

/* ---- methods-switch.c ---- */

void do_fdb_list(struct request *req, json_t *params);
void do_fdb_add(struct request *req, json_t *params);
void do_fdb_del(struct request *req, json_t *params);
void do_fdb_flush(struct request *req, json_t *params);
void do_mirror_list(struct request *req, json_t *params);
void do_mirror_add(struct request *req, json_t *params);
void do_mirror_del(struct request *req, json_t *params);
void do_reload(struct request *req, json_t *params);
void do_saved_show(struct request *req, json_t *params);
void do_saved_forget(struct request *req, json_t *params);

#endif
