/* SPDX-License-Identifier: BSD-3-Clause */
/* Options on what ports may do besides: each sets one member of the request, or of a group in it. */
#include "ctl.h"
#include "options.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum form {
	FORM_TEXT,
	FORM_NUMBER, /* with k, M, G, T for powers of 1000, Ki, Mi... of 1024 */
	FORM_ON_OFF,
	FORM_WORDS, /* "a,b" -> a list */
	FORM_FLAG,  /* no argument: true */
};

#define FIRST_KEY 1000
#define PORT	  (OPTS_PORT)

static const struct {
	const char *name, *arg, *help;
	const char *group, *member; /* `group` NULL: of the request itself */
	enum form form;
	unsigned int kinds;
} rows[] = {
	{"vlan", "MODE", "none, access, trunk or qinq; what else there was of VLANs goes", "vlan",
	 "mode", FORM_TEXT, PORT},
	{"pvid", "VID", "VLAN of untagged frames", "vlan", "pvid", FORM_NUMBER, PORT},
	{"allowed", "VIDS", "a trunk's VLANs, as 10,20-30", "vlan", "allowed", FORM_TEXT, PORT},
	{"native-tagged", "on|off", "a trunk's pvid is tagged, too", "vlan", "native_tagged",
	 FORM_ON_OFF, PORT},
	{"rate-tx", "N", "bytes per second from the guest (bytes, not bits); 0: no limit", "rate",
	 "tx_bytes", FORM_NUMBER, PORT},
	{"rate-rx", "N", "bytes per second to the guest", "rate", "rx_bytes", FORM_NUMBER, PORT},
	{"rate-tx-frames", "N", "frames per second from the guest", "rate", "tx_frames",
	 FORM_NUMBER, PORT},
	{"rate-rx-frames", "N", "frames per second to the guest", "rate", "rx_frames", FORM_NUMBER,
	 PORT},
	{"burst-tx", "N", "bytes that may come at once", "rate", "burst_tx_bytes", FORM_NUMBER,
	 PORT},
	{"burst-rx", "N", "likewise, to the guest", "rate", "burst_rx_bytes", FORM_NUMBER, PORT},
	{"burst-tx-frames", "N", "frames that may come at once", "rate", "burst_tx_frames",
	 FORM_NUMBER, PORT},
	{"burst-rx-frames", "N", "likewise, to the guest", "rate", "burst_rx_frames", FORM_NUMBER,
	 PORT},
	{"storm-broadcast", "N", "broadcast frames per second from the guest; 0: no limit", "storm",
	 "broadcast", FORM_NUMBER, PORT},
	{"storm-multicast", "N", "flooded multicast frames per second", "storm", "multicast",
	 FORM_NUMBER, PORT},
	{"storm-unknown", "N", "frames to unknown addresses per second", "storm", "unknown",
	 FORM_NUMBER, PORT},
	{"no-flood", "KINDS", "flooded frames that do not reach it: broadcast,multicast,unknown",
	 NULL, "no_flood", FORM_WORDS, PORT},
	{"mac-limit", "N", "addresses learned at a time; 0: no limit", "mac_limit", "addresses",
	 FORM_NUMBER, PORT},
	{"mac-limit-drop", "on|off", "drop frames from addresses above the limit", "mac_limit",
	 "drop", FORM_ON_OFF, PORT},
	{"vid", "VID", "fdb add, fdb del: the VLAN (default: of ports without VLANs)", NULL, "vid",
	 FORM_NUMBER, OPTS_VID},
	{"what", "KINDS", "mirror add: of tx,rx,drops (default tx,rx)", NULL, "what", FORM_WORDS,
	 OPTS_MIRROR},
	{"snap", "BYTES", "mirror add, capture: at most so many of each frame (default all)", NULL,
	 "snap", FORM_NUMBER, OPTS_MIRROR | OPTS_CAPTURE},
	{"save", NULL, "port, fdb, mirror: keep it also when the daemon ends", NULL, "save", FORM_FLAG,
	 OPTS_PORT | OPTS_VID | OPTS_MIRROR | OPTS_SAVE},
	{"check", NULL, "reload: only say what would change", NULL, "check", FORM_FLAG, OPTS_CHECK},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static json_t *number(struct argp_state *state, const char *name, const char *text)
{
	static const char units[] = "kMGT";
	unsigned long long scale = 1, n;
	const char *unit;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	unit = *end ? strchr(units, *end == 'K' ? 'k' : *end) : NULL;
	if (unit) {
		end++;
		for (long i = 0; i <= unit - units; i++)
			scale *= *end == 'i' ? 1024 : 1000;
		end += *end == 'i';
	}
	if (errno || *text < '0' || *text > '9' || *end || n > INT64_MAX / scale)
		argp_error(state, "%s: \"%s\" is not a number, as in 2000 or 2k", name, text);
	return json_integer((json_int_t)(n * scale));
}

static json_t *on_off(struct argp_state *state, const char *name, const char *text)
{
	if (strcmp(text, "on") && strcmp(text, "off"))
		argp_error(state, "%s: \"%s\" is neither on nor off", name, text);
	return json_boolean(!strcmp(text, "on"));
}

/* "" is an empty list. */
static json_t *words(const char *text)
{
	json_t *list = json_array();
	size_t len;

	for (const char *p = text; *p; p += len + (p[len] == ',')) {
		len = strcspn(p, ",");
		json_array_append_new(list, json_stringn(p, len));
	}
	return list;
}

static json_t *value_of(struct argp_state *state, size_t row, const char *text)
{
	switch (rows[row].form) {
	case FORM_NUMBER:
		return number(state, rows[row].name, text);
	case FORM_ON_OFF:
		return on_off(state, rows[row].name, text);
	case FORM_WORDS:
		return words(text);
	case FORM_FLAG:
		return json_true();
	default:
		return json_string(text);
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	size_t row = (size_t)(key - FIRST_KEY);
	json_t *params = state->input, *value;

	if (key < FIRST_KEY || row >= ROWS)
		return ARGP_ERR_UNKNOWN;
	option_seen(state, rows[row].kinds);
	value = value_of(state, row, arg);
	if (!value)
		argp_error(state, "%s: not UTF-8", rows[row].name);
	if (rows[row].group) {
		json_t *group = json_object_get(params, rows[row].group);

		if (!group) {
			group = json_object();
			json_object_set_new(params, rows[row].group, group);
		}
		params = group;
	}
	json_object_set_new(params, rows[row].member, value);
	return 0;
}

const struct argp *switch_options(void)
{
	static struct argp_option options[ROWS + 1];
	static const struct argp argp = {.options = options, .parser = parse};

	for (size_t i = 0; i < ROWS; i++)
		options[i] = (struct argp_option){.name = rows[i].name,
						  .key = FIRST_KEY + (int)i,
						  .arg = rows[i].arg,
						  .doc = rows[i].help,
						  .group = 4};
	return &argp;
}

void switch_options_print(unsigned int kinds)
{
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].kinds & kinds)
			printf(" --%s", rows[i].name);
}
