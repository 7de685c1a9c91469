/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of elisactl.c and options-*.c: which options and words belong to which commands. */
#ifndef ELISACTL_OPTIONS_H
#define ELISACTL_OPTIONS_H

#include <argp.h>
#include <jansson.h>

/* What may stand behind a subcommand. */
enum takes {
	TAKES_NONE = 0,
	TAKES_NAME = 1 << 0, /* argument -> "name" */
	TAKES_PORT = 1 << 1, /* argument -> "port" */
	TAKES_MAC = 1 << 2,  /* argument -> "mac", before the port */
	TAKES_TO = 1 << 3,   /* argument -> "to", behind the port */
	NEEDS_ALL = 1 << 4,
	OPTS_ATTACH = 1 << 5,
	OPTS_DETACH = 1 << 6,
	OPTS_PORT = 1 << 7,
	OPTS_VID = 1 << 8,
	OPTS_MIRROR = 1 << 9,
	OPTS_SAVE = 1 << 10,
	OPTS_CHECK = 1 << 11,
	OPTS_TOP = 1 << 12,
	OPTS_DROPS = 1 << 13,
	OPTS_CAPTURE = 1 << 14,
	TAKES_FILTER = 1 << 15, /* all further arguments -> "filter" */
};

/* To be told by each option: of which kinds of commands it is. Ends the program if they do not go
 * together. */
void option_seen(struct argp_state *state, unsigned int kinds);
/* Its input is the request's parameters. */
const struct argp *switch_options(void);
/* Those of commands of these kinds, as " --name". */
void switch_options_print(unsigned int kinds);

#endif
