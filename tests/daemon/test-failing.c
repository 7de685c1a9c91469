/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The daemon, in this process, without memory, descriptors or threads: the nth such call fails (and in
 * a second round all after it, too), for n = 1 until none is left, while it starts, while it does a
 * request of each kind, while it stops. It may refuse, with a sentence, or not start, with one; but
 * not crash, forget to free, or do half: what it refused it does when it is asked again.
 *
 *	test-failing [--all] [WHAT]	only steps whose name begins so
 *
 * Without --all: of the calls after the first few each fifth, others from step to step, as what most
 * requests begin with is the same.
 */
#include "../fuzz/inside.h"
#include "../vmx/tap.h"
#include "failing.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <sanitizer/lsan_interface.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NTH_MAX	   3000
#define NTH_FIRST  8
#define NTH_SAMPLE 5

void *__wrap_malloc(size_t n);

static unsigned long injected, refused;
static bool all;

/* ---- requests ---- */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

enum outcome { DONE, REFUSED, CUT_OFF, SILENT };

/* Asks and waits; `text` gets what an error says. */
static enum outcome ask(const char *request, char *text, size_t max)
{
	static char answer[1 << 20];
	uint64_t end = now_ms() + 1500;
	enum outcome outcome = SILENT;
	int fd = inside_client();
	size_t len = 0;
	ssize_t n = -1;
	json_t *json;

	text[0] = 0;
	send(fd, request, strlen(request), MSG_NOSIGNAL);
	while (!memchr(answer, '\n', len) && n && now_ms() < end) {
		failing_pause(false);
		inside_work();
		failing_pause(true);
		n = recv(fd, answer + len, sizeof(answer) - len, MSG_DONTWAIT);
		len += n > 0 ? (size_t)n : 0;
		if (n < 0)
			usleep(200);
	}
	close(fd);
	if (!n)
		outcome = CUT_OFF;
	json = json_loadb(answer, len, JSON_DISABLE_EOF_CHECK, NULL);
	if (json_object_get(json, "result"))
		outcome = DONE;
	if (json_object_get(json, "error")) {
		outcome = REFUSED;
		snprintf(text, max, "%s", json_string_value(json_object_get(
			json_object_get(json, "error"), "message")) ?: "");
	}
	json_decref(json);
	memset(answer, 0, len);
	return outcome;
}

/* ---- steps ---- */

#define R(method, params) \
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"" method "\",\"params\":{" params "}}\n"
#define UUID	  "\"00000000-0000-0000-0000-000000000001\""
#define ADD_Q	  R("port.add", "\"name\":\"q\",\"vm\":\"late\",\"vlan\":{\"mode\":\"access\",\"pvid\":5}")
#define ADD_MAC	  R("fdb.add", "\"mac\":\"02:00:00:00:00:bb\",\"port\":\"a\"")
#define ADD_COPY  R("mirror.add", "\"port\":\"a\",\"to\":\"c\"")
#define DEFINE	  R("vm.define", "\"name\":\"dom\",\"uuid\":" UUID ",\"ports\":[{},{\"mtu\":1400}]")
#define ATTACH	  R("attach", "\"pid\":%d,\"name\":\"web\"")

/* `before` is done without failures; "%d" in a request is this process, which plays a VM. */
static const struct step {
	const char *name, *before, *request;
	bool twice;	/* refused if it is done already: that tells whether it was */
} steps[] = {
	{"status", ATTACH, R("status", ""), false},
	{"port.list", NULL, R("port.list", ""), false},
	{"port.add", NULL, ADD_Q, true},
	{"port.add --save", NULL, R("port.add", "\"name\":\"q\",\"save\":true"), true},
	{"port.set", NULL, R("port.set", "\"name\":\"a\",\"mtu\":9000,\"groups\":[3]"), false},
	{"port.set --save", NULL, R("port.set", "\"name\":\"a\",\"mtu\":9000,\"save\":true"), false},
	{"port.del", ADD_Q, R("port.del", "\"name\":\"q\""), true},
	{"fdb.add", NULL, ADD_MAC, false},
	{"fdb.list", ADD_MAC, R("fdb.list", ""), false},
	{"fdb.del", ADD_MAC, R("fdb.del", "\"mac\":\"02:00:00:00:00:bb\""), true},
	{"mirror.add", NULL, ADD_COPY, true},
	{"mirror.list", ADD_COPY, R("mirror.list", ""), false},
	{"mirror.del", ADD_COPY, R("mirror.del", "\"port\":\"a\",\"to\":\"c\""), true},
	{"attach", NULL, ATTACH, true},
	{"detach", ATTACH, R("detach", "\"name\":\"web\""), false},
	{"vm.define", NULL, DEFINE, false},
	{"vm.undefine", DEFINE, R("vm.undefine", "\"uuid\":" UUID), false},
	{"capture", ATTACH, R("capture", "\"ports\":[\"a\"]"), false},
	{"stats", ATTACH, R("stats", ""), false},
	{"metrics", ATTACH, R("metrics", ""), false},
	{"doctor", ATTACH, R("doctor", ""), false},
	{"saved.show", NULL, R("saved.show", ""), false},
	{"reload", ATTACH, R("reload", ""), false},
};

static const char other_config[] =
	"switch = { fdb_capacity = 1024; max_ports = 24; max_vms = 8; max_callers = 32; };\n"
	"ports = ( { name = \"a\"; vm = \"web\"; mtu = 9000; }, { name = \"new\"; groups = [2]; } );\n"
	"mirrors = ( { port = \"a\"; to = \"new\"; } );\n"
	"fdb = ( { mac = \"02:00:00:00:00:cc\"; port = \"new\"; } );\n"
	"vms = ( { name = \"web\"; }, { name = \"more\"; auto_attach = false; } );\n";

static void fresh(void)
{
	static const char *const left[] = {"state.json", "saved.json", "fdb", "state.json.new",
		"domains/00000000-0000-0000-0000-000000000001.json"};

	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++)
		unlink(inside_path(left[i]));
	inside_config(NULL);
	inside_forget_log();
}

static bool wrong(const char *name, unsigned int nth, bool rest, const char *what)
{
	note("%s, call %u%s: %s", name, nth, rest ? " and all after it" : "", what);
	return false;
}

/* One n of one step; *more: a call failed, so that there may be a next one. */
static bool one(const struct step *s, unsigned int nth, bool rest, bool *more)
{
	char text[1024], request[512], before[512];
	enum outcome first, again;
	bool good = true;

	fresh();
	if (inside_start())
		return wrong(s->name, nth, rest, "no start at all");
	inside_work();
	snprintf(before, sizeof(before), s->before ? s->before : "%.0d", (int)getpid());
	snprintf(request, sizeof(request), s->request, (int)getpid());
	if (s->before && ask(before, text, sizeof(text)) != DONE)
		good = wrong(s->name, nth, rest, text);
	if (!strcmp(s->name, "reload"))
		inside_config(other_config);
	failing_begin(nth, rest);
	failing_pause(true);
	first = ask(request, text, sizeof(text));
	*more = failing_end();
	injected += *more;
	refused += first == REFUSED;
	inside_work();
	if (first == REFUSED && strlen(text) < 5)
		good = wrong(s->name, nth, rest, "refused without a sentence");
	if (first == SILENT && !rest)	/* which may be not to accept it */
		good = wrong(s->name, nth, rest, "no answer");
	if (strstr(text, "is so now"))	/* but was not saved: half of it, and it says so */
		first = DONE;
	again = ask(request, text, sizeof(text));
	if (again != DONE && !(s->twice && first != REFUSED))
		good = wrong(s->name, nth, rest, text[0] ? text : "again: no answer");
	if (s->twice && first == DONE && again == DONE)
		good = wrong(s->name, nth, rest, "it said that it was done, but it was not");
	inside_stop();
	return good;
}

static bool one_start(const struct step *s, unsigned int nth, bool rest, bool *more)
{
	bool good = true;
	char text[1024];
	int status;

	fresh();
	failing_begin(nth, rest);
	status = inside_start();
	*more = failing_end();
	injected += *more;
	refused += status != 0;
	if (status && !inside_complaints)
		good = wrong(s->name, nth, rest, "does not start, and says nothing");
	if (!status && ask(R("port.list", ""), text, sizeof(text)) != DONE)
		good = wrong(s->name, nth, rest, "started, but does not answer");
	inside_stop();
	return good;
}

static bool one_stop(const struct step *s, unsigned int nth, bool rest, bool *more)
{
	char text[1024], request[512];
	bool good = true;

	fresh();
	if (inside_start())
		return wrong(s->name, nth, rest, "no start at all");
	snprintf(request, sizeof(request), ATTACH, (int)getpid());
	if (ask(request, text, sizeof(text)) != DONE)
		good = wrong(s->name, nth, rest, text);
	failing_begin(nth, rest);
	inside_stop();
	*more = failing_end();
	injected += *more;
	/* Who comes next finds the VM again. */
	if (inside_start() || ask(R("status", ""), text, sizeof(text)) != DONE)
		good = wrong(s->name, nth, rest, "the next one does not start");
	inside_stop();
	return good;
}

static void test(const struct step *s,
		 bool (*trial)(const struct step *, unsigned int, bool, bool *))
{
	static unsigned int phase;
	unsigned int nth = 0, bad = 0, last = 0;
	unsigned long before = injected, refused_before = refused;

	for (int rest = 0; rest < 2; rest++) {
		bool more = true;

		for (nth = 1; more && nth < NTH_MAX; nth++)
			if (all || nth <= NTH_FIRST || nth % NTH_SAMPLE == phase % NTH_SAMPLE) {
				bad += !trial(s, nth, rest, &more);
				last = more && nth > last ? nth : last;
			}
		phase++;
		if (__lsan_do_recoverable_leak_check())
			bad++;
	}
	ok(!bad && last && nth < NTH_MAX, "%s: %lu tries among %u calls that can fail, %lu refused",
	   s->name, injected - before, last, refused - refused_before);
}

int main(int argc, char **argv)
{
	const struct step start = {"start", NULL, NULL, false}, stop = {"stop", NULL, NULL, false};
	const char *only;

	all = argc > 1 && !strcmp(argv[1], "--all");
	only = argc > 1 + all ? argv[1 + all] : "";
	json_set_alloc_funcs(__wrap_malloc, free);
	inside_prepare();
	if (!strncmp(only, "start", strlen(only)))
		test(&start, one_start);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (!strncmp(only, steps[i].name, strlen(only)))
			test(&steps[i], one);
	if (!strncmp(only, "stop", strlen(only)))
		test(&stop, one_stop);
	ok(injected > 20, "%lu calls failed, %lu times the daemon refused", injected, refused);
	return tap_done();
}
