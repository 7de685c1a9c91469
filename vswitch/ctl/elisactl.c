/* SPDX-License-Identifier: BSD-3-Clause */
/* elisactl: one subcommand, one request to elisa-vswitchd. */
#include "ctl.h"
#include "options.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SOCKET "/run/elisa/control.sock"

enum {
	OPT_PORT = 256,
	OPT_MTU,
	OPT_QUEUES,
	OPT_SPOOF,
	OPT_GROUPS,
	OPT_UP,
	OPT_DOWN,
	OPT_VM,
	OPT_LOCAL,
	OPT_MAC,
	OPT_UPLINK,
	OPT_FORCE,
	OPT_WAIT,
	OPT_PID,
	OPT_NAME,
	OPT_ONCE,
	OPT_INTERVAL,
	OPT_EXPLAIN,
	OPT_DIRECTION,
	OPT_DROPS,
	OPT_COUNT,
	OPT_SECONDS,
	OPT_END,
	OPT_COMPLETE,
};

static const struct command {
	const char *word, *sub, *method;
	unsigned int takes;
	void (*print)(json_t *result);
	int (*run)(const char *socket, bool as_json, json_t *params); /* instead of the others */
} commands[] = {
	{"status", NULL, "status", TAKES_NONE, print_status, NULL},
	{"attach", NULL, "attach", TAKES_NAME | OPTS_ATTACH, print_attach, NULL},
	{"detach", NULL, "detach", TAKES_NAME | OPTS_DETACH, print_detach, NULL},
	{"port", "list", "port.list", TAKES_NONE, print_ports, NULL},
	{"port", "show", "port.show", TAKES_NAME | NEEDS_ALL, print_port, NULL},
	{"port", "add", "port.add", TAKES_NAME | NEEDS_ALL | OPTS_PORT, print_port, NULL},
	{"port", "set", "port.set", TAKES_NAME | NEEDS_ALL | OPTS_PORT, print_port, NULL},
	{"port", "del", "port.del", TAKES_NAME | NEEDS_ALL | OPTS_SAVE, print_deleted, NULL},
	{"fdb", "list", "fdb.list", TAKES_PORT, print_fdb, NULL},
	{"fdb", "add", "fdb.add", TAKES_MAC | TAKES_PORT | NEEDS_ALL | OPTS_VID, print_nothing, NULL},
	{"fdb", "del", "fdb.del", TAKES_MAC | NEEDS_ALL | OPTS_VID, print_nothing, NULL},
	{"fdb", "flush", "fdb.flush", TAKES_PORT, print_flushed, NULL},
	{"mirror", "list", "mirror.list", TAKES_NONE, print_mirrors, NULL},
	{"mirror", "add", "mirror.add", TAKES_PORT | TAKES_TO | NEEDS_ALL | OPTS_MIRROR,
	 print_nothing, NULL},
	{"mirror", "del", "mirror.del", TAKES_PORT | TAKES_TO | NEEDS_ALL | OPTS_SAVE, print_nothing, NULL},
	{"nic", "list", "nic.list", TAKES_NONE, print_nics, NULL},
	{"nic", "show", "nic.show", TAKES_NAME | NEEDS_ALL, print_nic, NULL},
	{"nic", "check", "nic.check", TAKES_NAME | NEEDS_ALL, print_nic_check, NULL},
	{"stats", NULL, "stats", TAKES_PORT, print_stats, NULL},
	{"reload", NULL, "reload", OPTS_CHECK, print_reload, NULL},
	{"saved", "show", "saved.show", TAKES_NONE, print_saved, NULL},
	{"saved", "forget", "saved.forget", TAKES_NAME, print_forgotten, NULL},
	{"doctor", NULL, "doctor", TAKES_NONE, print_doctor, NULL},
	{"events", NULL, NULL, TAKES_NONE, NULL, run_events},
	{"capture", NULL, NULL, TAKES_PORT | NEEDS_ALL | OPTS_CAPTURE | TAKES_FILTER, NULL,
	 run_capture},
	{"top", NULL, NULL, OPTS_TOP, NULL, run_top},
	{"drops", NULL, NULL, TAKES_PORT | OPTS_DROPS, NULL, run_drops},
	{"metrics", NULL, "metrics", TAKES_NONE, print_metrics, NULL},
};

struct options {
	const char *socket;
	bool json;
	const struct command *command;
	const char *word;  /* of a command with subcommands */
	unsigned int used; /* of TAKES_* */
	json_t *params;
};

static const struct argp_option option_table[] = {
	{"socket", 's', "PATH", 0, "control socket (default " DEFAULT_SOCKET ")", 1},
	{"json", 'j', NULL, 0, "print the result as JSON (events, top: one object a line)", 1},
	{NULL, 0, NULL, 0, "attach, detach:", 2},
	{"pid", OPT_PID, "PID", 0, "process of the VM's QEMU", 2},
	{"name", OPT_NAME, "NAME", 0, "what to call the VM (default: QEMU's -name)", 2},
	{"port", OPT_PORT, "PORT", 0, "attach: give it this port too (repeatable)", 2},
	{"force", OPT_FORCE, NULL, 0,
	 "attach: in spite of a CPU open to L1TF, MDS or TAA; detach: kill "
	 "the VM if it is stopped inside",
	 2},
	{"wait", OPT_WAIT, "SECONDS", 0, "detach: how long to wait for it (default 5)", 2},
	{NULL, 0, NULL, 0, "port add, port set:", 3},
	{"mac", OPT_MAC, "MAC", 0, "address (default: made from the name)", 3},
	{"mtu", OPT_MTU, "BYTES", 0, "68 to 9216 (default 1500)", 3},
	{"queues", OPT_QUEUES, "N", 0, "1 to 16 (default 1); fixed once added", 3},
	{"anti-spoof", OPT_SPOOF, "on|off", 0, "only its own address as source (default on)", 3},
	{"groups", OPT_GROUPS, "N,N...", 0, "isolation groups, 0 to 63 (default 0)", 3},
	{"up", OPT_UP, NULL, 0, "switch on (default)", 3},
	{"down", OPT_DOWN, NULL, 0, "switch off", 3},
	{"vm", OPT_VM, "NAME", 0, "the VM that gets it; \"\": none", 3},
	{"uplink", OPT_UPLINK, "NIC", 0, "its guests see the link of this NIC; \"\": none", 3},
	{"local", OPT_LOCAL, NULL, 0, "for processes of this host (no isolation), not for VMs", 3},
	{NULL, 0, NULL, 0, "top, drops:", 4},
	{"once", OPT_ONCE, NULL, 0, "top: one interval, then end", 4},
	{"interval", OPT_INTERVAL, "SECONDS", 0, "top: 0.1 to 3600 (default 1)", 4},
	{"explain", OPT_EXPLAIN, NULL, 0, "drops: all reasons there are, and what they mean", 4},
	{NULL, 0, NULL, 0, "capture:", 5},
	{"write", 'w', "FILE", 0, "pcapng goes there; -: stdout, if it is no terminal (default)", 5},
	{"direction", OPT_DIRECTION, "WHICH", 0,
	 "tx: what the port's guest sends, rx: what it gets, both (default), none", 5},
	{"drops", OPT_DROPS, NULL, 0, "frames that were dropped, too, each with the reason", 5},
	{"count", OPT_COUNT, "N", 0, "end after so many frames", 5},
	{"seconds", OPT_SECONDS, "N", 0, "end after so long", 5},
	{"complete", OPT_COMPLETE, NULL, OPTION_HIDDEN, NULL, 0},
	{0},
};

static void set_number(struct argp_state *state, struct options *o, const char *key,
		       const char *text, long long scale)
{
	char *end;
	long long n = strtoll(text, &end, 10);

	if (end == text || *end || n < 0 || n > 1000000000)
		argp_error(state, "%s: \"%s\" is not a number", key, text);
	json_object_set_new(o->params, key, json_integer(n * scale));
}

static void set_interval(struct argp_state *state, struct options *o, const char *text)
{
	char *end;
	double s = strtod(text, &end);

	if (end == text || *end || !(s >= 0.1 && s <= 3600))
		argp_error(state, "interval: \"%s\" is not a number of seconds from 0.1 to 3600",
			   text);
	json_object_set_new(o->params, "interval_ms", json_integer((json_int_t)(s * 1000)));
}

static void set_groups(struct argp_state *state, struct options *o, const char *text)
{
	json_t *list = json_array();
	const char *p = text;
	char *end;

	for (;;) {
		long n = strtol(p, &end, 10);

		if (end == p || (*end && *end != ','))
			argp_error(state, "groups: \"%s\" is not a list of numbers, as in 0,3",
				   text);
		json_array_append_new(list, json_integer(n));
		if (!*end)
			break;
		p = end + 1;
	}
	json_object_set_new(o->params, "groups", list);
}

static void set_spoof(struct argp_state *state, struct options *o, const char *text)
{
	if (strcmp(text, "on") && strcmp(text, "off"))
		argp_error(state, "anti-spoof: \"%s\" is neither on nor off", text);
	json_object_set_new(o->params, "anti_spoof", json_boolean(!strcmp(text, "on")));
}

static void set_string(struct argp_state *state, struct options *o, const char *key,
		       const char *text)
{
	json_t *value = json_string(text);

	if (!value)
		argp_error(state, "%s: not UTF-8", key);
	json_object_set_new(o->params, key, value);
}

static void set_direction(struct argp_state *state, struct options *o, const char *text)
{
	if (strcmp(text, "tx") && strcmp(text, "rx") && strcmp(text, "both") &&
	    strcmp(text, "none"))
		argp_error(state, "direction: \"%s\" is none of tx, rx, both, none", text);
	set_string(state, o, "direction", text);
}

/* Words of a filter are one text, as if they had been quoted. */
static void add_filter(struct argp_state *state, struct options *o, const char *word)
{
	const char *before = json_string_value(json_object_get(o->params, "filter"));
	char *text;

	if (asprintf(&text, "%s%s%s", before ? before : "", before ? " " : "", word) < 0)
		argp_failure(state, CTL_REFUSED, 0, "out of memory");
	set_string(state, o, "filter", text);
	free(text);
}

/* Options of a kind that the subcommand has not. */
static unsigned int option_kind(int key)
{
	switch (key) {
	case OPT_PID:
	case OPT_FORCE:
		return OPTS_ATTACH | OPTS_DETACH;
	case OPT_NAME:
	case OPT_PORT:
		return OPTS_ATTACH;
	case OPT_WAIT:
		return OPTS_DETACH;
	case OPT_ONCE:
	case OPT_INTERVAL:
		return OPTS_TOP;
	case OPT_EXPLAIN:
		return OPTS_DROPS;
	case 'w':
	case OPT_DIRECTION:
	case OPT_DROPS:
	case OPT_COUNT:
	case OPT_SECONDS:
		return OPTS_CAPTURE;
	default:
		return OPTS_PORT;
	}
}

/* For the shell's completion: each command, its arguments by kind, its options. */
static void print_completion(void)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *c = &commands[i];

		printf("%s%s%s", c->word, c->sub ? " " : "", c->sub ? c->sub : "");
		if (c->takes & TAKES_NAME)
			printf(" %s", !strcmp(c->word, "port") || !strcmp(c->word, "saved") ? "PORT"
				      : !strcmp(c->word, "nic") ? "NIC"
								: "VM");
		if (c->takes & TAKES_MAC)
			printf(" MAC");
		if (c->takes & TAKES_PORT)
			printf(" PORT");
		if (c->takes & TAKES_TO)
			printf(" PORT");
		for (const struct argp_option *o = option_table; o->name || o->doc; o++)
			if (o->name && (o->key >= OPT_PORT || o->key == 'w') && o->key != OPT_COMPLETE &&
			    option_kind(o->key) & c->takes)
				printf(" --%s", o->name);
		switch_options_print(c->takes);
		putchar('\n');
	}
}

static void add_port(struct options *o, const char *name)
{
	json_t *ports = json_object_get(o->params, "ports");

	if (!ports) {
		ports = json_array();
		json_object_set_new(o->params, "ports", ports);
	}
	json_array_append_new(ports, json_string(name));
}

static void set_option(struct argp_state *state, struct options *o, int key, char *arg)
{
	switch (key) {
	case OPT_PID:
		set_number(state, o, "pid", arg, 1);
		break;
	case OPT_NAME:
		set_string(state, o, "name", arg);
		break;
	case OPT_PORT:
		add_port(o, arg);
		break;
	case OPT_FORCE:
		json_object_set_new(o->params, "force", json_true());
		break;
	case OPT_WAIT:
		set_number(state, o, "wait_ms", arg, 1000);
		break;
	case OPT_MAC:
		set_string(state, o, "mac", arg);
		break;
	case OPT_MTU:
		set_number(state, o, "mtu", arg, 1);
		break;
	case OPT_QUEUES:
		set_number(state, o, "queues", arg, 1);
		break;
	case OPT_SPOOF:
		set_spoof(state, o, arg);
		break;
	case OPT_GROUPS:
		set_groups(state, o, arg);
		break;
	case OPT_UP:
	case OPT_DOWN:
		json_object_set_new(o->params, "up", json_boolean(key == OPT_UP));
		break;
	case OPT_VM:
		set_string(state, o, "vm", arg);
		break;
	case OPT_UPLINK:
		set_string(state, o, "uplink", arg);
		break;
	case OPT_LOCAL:
		set_string(state, o, "transport", "local");
		break;
	case OPT_ONCE:
		json_object_set_new(o->params, "once", json_true());
		break;
	case OPT_INTERVAL:
		set_interval(state, o, arg);
		break;
	case OPT_EXPLAIN:
		json_object_set_new(o->params, "explain", json_true());
		break;
	case 'w':
		set_string(state, o, "file", arg);
		break;
	case OPT_DIRECTION:
		set_direction(state, o, arg);
		break;
	case OPT_DROPS:
		json_object_set_new(o->params, "drops", json_true());
		break;
	case OPT_COUNT:
		set_number(state, o, "count", arg, 1);
		break;
	case OPT_SECONDS:
		set_number(state, o, "seconds", arg, 1);
		break;
	}
}

static bool has_subs(const char *word)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (commands[i].sub && !strcmp(commands[i].word, word))
			return true;
	return false;
}

/* A word of the command line: first the command, then its subcommand, then its arguments. */
static void take_word(struct argp_state *state, struct options *o, char *arg)
{
	if (!o->command && !o->word && has_subs(arg)) {
		o->word = arg;
		return;
	}
	if (!o->command) {
		for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
			const struct command *c = &commands[i];

			if (o->word ? c->sub && !strcmp(c->word, o->word) && !strcmp(c->sub, arg)
				    : !c->sub && !strcmp(c->word, arg))
				o->command = c;
		}
		if (!o->command && o->word && !strcmp(o->word, "nic")) {
			static char show[] = "show"; /* "nic NAME" is short for it */

			take_word(state, o, show);
			take_word(state, o, arg);
			return;
		}
		if (!o->command)
			argp_error(state, "there is no command \"%s%s%s\"", o->word ? o->word : "",
				   o->word ? " " : "", arg);
		return;
	}
	for (unsigned int kind = TAKES_NAME; kind <= TAKES_TO; kind <<= 1) {
		/* an address comes before its port */
		unsigned int k = kind == TAKES_PORT && o->command->takes & ~o->used & TAKES_MAC
					 ? TAKES_MAC
					 : kind;

		if (!(o->command->takes & ~o->used & k))
			continue;
		o->used |= k;
		set_string(state, o,
			   k == TAKES_NAME   ? "name"
			   : k == TAKES_PORT ? "port"
			   : k == TAKES_TO   ? "to"
					     : "mac",
			   arg);
		return;
	}
	if (o->command->takes & TAKES_FILTER) {
		add_filter(state, o, arg);
		return;
	}
	argp_error(state, "unexpected argument \"%s\"", arg);
}

static void check_all(struct argp_state *state, struct options *o)
{
	unsigned int args = TAKES_NAME | TAKES_PORT | TAKES_MAC | TAKES_TO;

	if (!o->command && o->word) {	/* "port", "fdb" and "nic" alone show all there is */
		static char list[] = "list", show[] = "show";

		take_word(state, o, strcmp(o->word, "saved") ? list : show);
	}
	if (!o->command)
		argp_error(state, "no command given");
	if (o->command->takes & NEEDS_ALL && (o->command->takes & args) != o->used)
		argp_error(state, "%s %s needs %s", o->command->word,
			   o->command->sub ? o->command->sub : "",
			   o->command->takes & TAKES_TO ? "PORT and the one TO copy to"
			   : o->command->takes & TAKES_MAC
				   ? o->command->takes & TAKES_PORT ? "MAC and PORT" : "a MAC"
			   : o->command->takes & TAKES_PORT ? "a PORT"
							    : "a NAME");
	if (o->command->takes & (OPTS_ATTACH | OPTS_DETACH) &&
	    !json_object_get(o->params, "name") && !json_object_get(o->params, "pid"))
		argp_error(state, "%s which VM? Give its NAME or --pid", o->command->word);
}

/*
 * Options may stand before the command that they belong to: they are kept, and compared with it at
 * the end.
 */
static unsigned int kinds_seen;

void option_seen(struct argp_state *state, unsigned int kinds)
{
	kinds_seen = kinds_seen ? kinds_seen & kinds : kinds;
	if (!kinds_seen)
		argp_error(state, "these options do not belong together");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = o->params;
		return 0;
	case 's':
		o->socket = arg;
		return 0;
	case 'j':
		o->json = true;
		return 0;
	case OPT_COMPLETE:
		print_completion();
		exit(fflush(stdout) ? CTL_REFUSED : CTL_OK);
	case ARGP_KEY_ARG:
		take_word(state, o, arg);
		return 0;
	case ARGP_KEY_END:
		check_all(state, o);
		if (kinds_seen && !(kinds_seen & o->command->takes))
			argp_error(state, "an option does not belong to \"%s%s%s\"",
				   o->command->word, o->command->sub ? " " : "",
				   o->command->sub ? o->command->sub : "");
		return 0;
	}
	if (key != 'w' && (key < OPT_PORT || key >= OPT_END))
		return ARGP_ERR_UNKNOWN;
	option_seen(state, option_kind(key));
	set_option(state, o, key, arg);
	return 0;
}

const char *argp_program_version = "elisactl " ELISA_VERSION;

static struct argp_child children[2];
static const struct argp argp = {
	.children = children,
	.options = option_table,
	.parser = parse_option,
	.args_doc = "status\n"
		    "attach [NAME] --pid PID [--name NAME] [--port PORT]...\n"
		    "detach NAME\n"
		    "port [list]\nport show NAME\nport add NAME\nport set NAME\nport del NAME\n"
		    "fdb [list [PORT]]\nfdb add MAC PORT\nfdb del MAC\nfdb flush [PORT]\n"
		    "mirror [list]\nmirror add PORT TO\nmirror del PORT TO\n"
		    "nic [list]\nnic [show] NAME\nnic check NAME\n"
		    "stats [PORT]\n"
		    "reload [--check]\nsaved [show]\nsaved forget [NAME]\n"
		    "doctor\n"
		    "top\ndrops [PORT]\nevents\n"
		    "capture PORT[,PORT]...|any [FILTER...]\n"
		    "metrics",
	.doc = "Controls elisa-vswitchd.\v"
	       "Exit status: 0 done, 1 refused by the daemon (its reason is on stderr), 2 wrong "
	       "usage, "
	       "3 daemon not reachable.",
};

int main(int argc, char **argv)
{
	struct options o = {.socket = DEFAULT_SOCKET};
	json_t *result = NULL;
	int ret;

	argp_err_exit_status = CTL_USAGE;
	o.params = json_object();
	children[0].argp = switch_options();
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (o.command->run)
		return o.command->run(o.socket, o.json, o.params);
	ret = ctl_call(o.socket, o.command->method, o.params, o.json, &result);
	if (ret)
		return ret;
	if (o.json) {
		json_dumpf(result, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		o.command->print(result);
	}
	json_decref(result);
	return fflush(stdout) ? CTL_REFUSED : CTL_OK;
}
