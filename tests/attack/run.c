/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs the attack table in the lab's host and judges each row from outside: what the attacker saw,
 * why its VM was killed if it was, and whether anything changed that must not.
 *
 *	attack-run [--table FILE] [--rows ci|all|ID,ID...] [--attacker NAME] [--victims A,B]
 *		   [--undisturbed SECONDS] [--prove-watch] [--red]
 *
 * "ok ID: outcome" or "not ok ID: ...", at the end counts. --prove-watch: changes bytes of trusted
 * memory, tables and lists from the host, and fails if that is not seen; a byte of each victim's
 * canary, too, which they have to count (scenario attack). --red: each row without the defences that
 * it names, which weak-host starts the host anew for; a row that is red is then what is wanted, and
 * one that is green fails. Rows that name none are left out.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"
#include "../vmx/harness.h"
#include "../vmx/tap.h"

#define TABLE		"/opt/elisa/libexec/tests/attack-table"
#define ROWS_MAX	400
#define WEAK_HOST	"/opt/elisa/libexec/tests/weak-host"

struct row {
	char *id, *group, *by, *must, *defence, *red, *run;
	bool ci, done;
	unsigned int seconds;
};

static struct row rows[ROWS_MAX];
static unsigned int row_count;

static const char *which = "ci";
static bool red, prove_watch;
static double undisturbed = 5;

/* Of their own instructions, in millions: what the victims' pace can be judged by. */
#define PACE_MIN	40
#define PACE_GOOD	0.9

static struct attacker attacker;
static struct watched watched[3];	/* victims a and b, the attacker */
static struct fingerprint without;	/* as it is without the attacker */
static struct fingerprint with;		/* ... with it, since it was attached */
static struct arena_print arena;	/* the switch's memory */
static struct pace first, last;	/* the victims as they began to be looked at, and at the last look */
static double calm;			/* their pace undisturbed */

static struct {
	unsigned int run, red, elsewhere, killed, changed, log_lines;
} tally;

/* ---- the table ---- */

static int read_table(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[1024];

	if (!f) {
		note("%s: %s", path, strerror(errno));
		return -errno;
	}
	while (row_count < ROWS_MAX && fgets(line, sizeof(line), f)) {
		struct row *r = &rows[row_count++];
		char *rest = strdup(line);

		rest[strcspn(rest, "\n")] = 0;
		r->id = strsep(&rest, "\t");
		r->group = strsep(&rest, "\t");
		r->by = strsep(&rest, "\t");
		r->must = strsep(&rest, "\t");
		r->defence = strsep(&rest, "\t");
		r->ci = atoi(strsep(&rest, "\t"));
		r->seconds = (unsigned int)atoi(strsep(&rest, "\t"));
		r->red = strsep(&rest, "\t");
		r->run = rest;
	}
	fclose(f);
	return 0;
}

/* Is `word` one of a list with commas? A list's entry may be a prefix up to a colon. */
static bool in_list(const char *list, const char *word, bool prefix)
{
	size_t len = strlen(word);

	for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
		size_t n = strcspn(p, ",");

		if (n == len && !strncmp(p, word, n))
			return true;
		if (prefix && n < len && !strncmp(p, word, n) && word[n] == ':')
			return true;
	}
	return false;
}

/* By a test program of its own. */
static bool elsewhere(const struct row *r)
{
	return !strcmp(r->by, "tinyvm") || !strcmp(r->by, "vmm");
}

static bool wanted(const struct row *r)
{
	if (!strcmp(which, "all"))
		return true;
	return !strcmp(which, "ci") ? r->ci : in_list(which, r->id, false);
}

/* ---- one row ---- */

/* "attack ID: OUTCOME text" to outcome and text. */
static void split_answer(const char *answer, char *outcome, size_t len, const char **text)
{
	const char *p = strstr(answer, ": ");
	size_t n = p ? strcspn(p + 2, " ") : 0;

	snprintf(outcome, len, "%.*s", (int)n, p ? p + 2 : "");
	*text = p ? p + 2 + n : "";
}

/* What its death was: the switch's doing, or its own. */
static void death(char *outcome, size_t len, char *text, size_t text_len)
{
	json_t *kill = attacker_kill(&attacker);
	const char *exit = json_string_value(json_object_get(kill, "exit"));

	if (kill) {
		tally.killed++;
		snprintf(outcome, len, "killed:%s%s%s",
			 json_string_value(json_object_get(kill, "reason")), exit ? ":" : "",
			 exit ? exit : "");
		snprintf(text, text_len, " in %s, code 0x%llx",
			 json_string_value(json_object_get(kill, "context")),
			 (unsigned long long)json_integer_value(json_object_get(kill, "code")));
	} else {
		snprintf(outcome, len, "fault");
		snprintf(text, text_len, " a triple fault of its own");
	}
	json_decref(kill);
}

static void run_on_host(const struct row *r, char *answer, size_t len)
{
	char line[256];
	FILE *p;

	answer[0] = 0;
	snprintf(line, sizeof(line), "%d", (int)attacker.pid);
	setenv("ATTACKER_PID", line, 1);
	setenv("ATTACKER", attacker.name, 1);
	p = popen(r->run, "re");
	while (p && fgets(line, sizeof(line), p)) {
		line[strcspn(line, "\n")] = 0;
		snprintf(answer, len, "%s", line);
	}
	if (p)
		pclose(p);
}

static int live(bool again)
{
	return attacker_live(&attacker, again) ?: watch_take(watched, 3, &with);
}

/* Counts of what changed that must not have. */
static unsigned int look(void)
{
	struct fingerprint after;
	struct arena_print arena_now;
	unsigned int n = attacker.attached ? 3 : 2, bad;

	arena_take(watched, &arena_now);
	if (watch_take(watched, n, &after)) {
		note("the trusted contexts cannot be looked at");
		return 1;
	}
	bad = watch_lists(watched, n, &after);
	bad += watch_compare(watched, n, attacker.attached ? &with : &without, &after,
			     !attacker.attached);
	bad += arena_compare(&arena, &arena_now);
	/* Each row answers for itself. */
	arena = arena_now;
	if (bad && attacker.attached)
		with = after;
	return bad;
}

/* Counts what the victims suffered since the last look; `text` gets their pace if it can be told. */
static unsigned int look_at_victims(char *text, size_t len)
{
	struct pace now;
	double pace;
	unsigned int bad = 0;

	text[0] = 0;
	if (pace_take(watched, &now)) {
		note("the victims' ports cannot be looked at");
		return 1;
	}
	for (unsigned int i = 0; i < 2; i++)
		bad += now.drops[i] != last.drops[i];
	pace = pace_instructions(&last, &now) >= PACE_MIN && calm > 0 ?
	       pace_rate(&last, &now) / calm : 1;
	if (pace_instructions(&last, &now) >= PACE_MIN)
		snprintf(text, len, "; victims %.0f %%", 100 * pace);
	last = now;
	return bad + (pace < PACE_GOOD);
}

/* What shows nothing, neither that an attack succeeds nor that it does not. */
static bool inconclusive(const char *outcome)
{
	return !*outcome || in_list("absent,failed,timeout,unarmed", outcome, false);
}

static void judge(const struct row *r, const char *outcome, const char *text, unsigned int changed,
		  int log_lines)
{
	char pace[32];
	unsigned int suffered = look_at_victims(pace, sizeof(pace));
	bool good = in_list(r->must, outcome, true) && !changed && !log_lines && !suffered;

	tally.run++;
	tally.red += !good && !(red && inconclusive(outcome));
	tally.changed += changed;
	tally.log_lines += (unsigned int)log_lines;
	printf("%sok %s: %s%s%s", good ? "" : "not ", r->id, *outcome ? outcome : "nothing", text,
	       pace);
	if (!in_list(r->must, outcome, true))
		printf("; must be %s", r->must);
	if (changed)
		printf("; %u things changed", changed);
	if (log_lines)
		printf("; %d lines in the kernel's log", log_lines);
	if (suffered)
		printf("; victims lost frames or pace");
	printf("\n");
	fflush(stdout);
}

static int run_row(const struct row *r)
{
	char answer[256] = "", outcome[64] = "", why[96];
	const char *text = "";
	int rc = attacker.alive ? 0 : live(true);

	if (rc) {
		note("%s: the attacker does not come back: %s", r->id, strerror(-rc));
		return rc;
	}
	kmsg_mark();
	if (!strcmp(r->by, "host")) {
		run_on_host(r, answer, sizeof(answer));
		rc = 0;
	} else {
		rc = attacker_run(&attacker, red && *r->red ? r->red : r->run, r->seconds, answer,
				  sizeof(answer));
	}
	split_answer(answer, outcome, sizeof(outcome), &text);
	if (rc == 1) {
		death(outcome, sizeof(outcome), why, sizeof(why));
		text = why;
	} else if (rc == 2) {
		snprintf(outcome, sizeof(outcome), "fault");
		text = " KVM cannot go on with it";
	} else if (rc) {
		snprintf(outcome, sizeof(outcome), "timeout");
		text = "";
	}
	judge(r, outcome, text, look(), kmsg_bad());
	return 0;
}

/* ---- before the attacks ---- */

/* Until they have found each other. */
static int wait_for_victims(void)
{
	int rc = pace_take(watched, &last);

	for (int i = 0; !rc && !(last.frames[0] && last.frames[1]); i++) {
		usleep(100000);
		rc = i < 100 ? pace_take(watched, &last) : -ETIMEDOUT;
	}
	return rc;
}

/* How the victims fare with nobody else there, and where they are then. */
static int calm_down(void)
{
	int rc = wait_for_victims();
	struct pace now;

	usleep((useconds_t)(undisturbed * 1e6));
	rc = rc ?: pace_take(watched, &now);
	if (rc) {
		note("the victims do not talk: %s", strerror(-rc));
		return rc;
	}
	calm = pace_rate(&last, &now);
	first = last;
	last = now;
	/* By now their queues are as they stay. */
	arena_take(watched, &arena);
	return rc;
}

/* ---- rows without their defences ---- */

/* The host anew without them, and what it looks like then. The attacker is not attached. */
static int weaken(const char *defences)
{
	char line[256];
	int rc;

	watch_close();
	snprintf(line, sizeof(line), WEAK_HOST " %s", defences);
	if (system(line)) {
		note("%s fails", line);
		return -EIO;
	}
	attacker.alive = attacker.attached = false;
	rc = watch_open() ?: watch_take(watched, 2, &without) ?: arena_open();
	if (!rc)
		arena_take(watched, &arena);
	/* weak-host has them talk then. */
	if (!rc && strstr(defences, "conf:"))
		return calm_down();
	return rc ?: pace_take(watched, &last);
}

/*
 * Runs it as --red says, and with it those later ones that are without the same defences, as each
 * new host takes its time.
 */
static int run_red(struct row *r)
{
	int rc;

	if (r->done)
		return 0;
	if (!*r->defence) {
		printf("-- %s: no defence of ours\n", r->id);
		tally.elsewhere++;
		return 0;
	}
	printf("# without %s\n", r->defence);
	rc = weaken(r->defence);
	for (struct row *next = r; !rc && next < rows + row_count; next++) {
		if (strcmp(next->defence, r->defence) || !wanted(next) || elsewhere(next))
			continue;
		next->done = true;
		rc = run_row(next);
	}
	return rc;
}

/* ---- the watching itself ---- */

static unsigned int see_flip(enum watch_flip what, const char *name)
{
	struct fingerprint before, after;
	unsigned int seen;

	if (watch_take(watched, 2, &before) || watch_flip(&watched[0], what) ||
	    watch_take(watched, 2, &after)) {
		printf("not ok watch: %s cannot be changed\n", name);
		return 1;
	}
	seen = watch_compare(watched, 2, &before, &after, false) + watch_lists(watched, 2, &after);
	watch_flip(&watched[0], what);
	if (watch_take(watched, 2, &after) || watch_compare(watched, 2, &before, &after, false) ||
	    watch_lists(watched, 2, &after)) {
		printf("not ok watch: %s is not back as it was\n", name);
		return 1;
	}
	printf("%sok watch: a change of %s is seen\n", seen ? "" : "not ", name);
	return !seen;
}

/* Whether the victims see it they tell at their end. */
static unsigned int flip_canaries(void)
{
	unsigned int bad = 0;

	for (unsigned int i = 0; prove_watch && i < 2; i++)
		bad += !!canary_flip(&watched[i]);
	printf("bytes of each victim's canary changed from the host: %u\n", prove_watch && !bad);
	return bad;
}

static unsigned int see_arena_flip(void)
{
	struct arena_print before, between, after;
	bool seen;

	arena_take(watched, &before);
	arena_flip();
	arena_take(watched, &between);
	arena_flip();
	arena_take(watched, &after);
	seen = arena_compare(&before, &between) == 1 && !arena_compare(&before, &after);
	printf("%sok watch: a change of the switch's memory is seen\n", seen ? "" : "not ");
	return !seen;
}

static unsigned int see_flips(void)
{
	return see_flip(WATCH_FLIP_CODE, "a byte of trusted code") +
	       see_flip(WATCH_FLIP_TABLE, "a page-table entry") +
	       see_flip(WATCH_FLIP_SLOT, "a slot of an EPTP list") +
	       see_flip(WATCH_FLIP_EPT, "an EPT entry") + see_arena_flip();
}

/* ---- all ---- */

static int set_up(const char *name, char *victims)
{
	const char *a = strsep(&victims, ","), *b = victims;
	int rc = watch_vm(&watched[0], a) ?: watch_vm(&watched[1], b) ?: watch_vm(&watched[2], name);

	if (rc) {
		note("QEMU's descriptor of a VM cannot be had: %s", strerror(-rc));
		return rc;
	}
	rc = attacker_open(&attacker, name) ?: attacker_save(&attacker);
	if (rc) {
		note("%s: its state cannot be saved: %s", name, strerror(-rc));
		return rc;
	}
	if (red)
		return 0;
	rc = watch_open();
	if (rc) {
		note("/dev/attack-watch: %s: insmod attack-watch.ko", strerror(-rc));
		return rc;
	}
	rc = arena_open();
	if (rc) {
		note("the daemon's memory cannot be looked at: %s", strerror(-rc));
		return rc;
	}
	rc = watch_take(watched, 2, &without) ?: live(false);
	if (rc)
		note("the trusted contexts of %s, %s and %s cannot be looked at: %s", a, b, name,
		     strerror(-rc));
	return rc;
}

static void report_rows(double took)
{
	const unsigned int again = attacker.lives ? attacker.lives - 1 : 0;

	printf("%u rows, %u red, %u elsewhere; %u kills, %u rebirths of %.1f s each; %.0f s in all\n",
	       tally.run, tally.red, tally.elsewhere, tally.killed, again,
	       again ? attacker.seconds / again : 0, took);
	printf("%u things changed in trusted memory, tables and lists; %u lines in the kernel's log\n",
	       tally.changed, tally.log_lines);
}

static unsigned int report_victims(const struct pace *quiet)
{
	struct pace end;
	uint64_t drops;
	double during;

	if (pace_take(watched, &end))
		return 1;
	during = pace_rate(quiet, &end);
	drops = end.drops[0] + end.drops[1] - first.drops[0] - first.drops[1];
	printf("victims: %lu frames, %lu dropped; %.1f frames per million instructions undisturbed, "
	       "%.1f during the attacks: %.0f %%\n",
	       end.frames[0] + end.frames[1] - first.frames[0] - first.frames[1], drops, calm,
	       during, calm > 0 ? 100 * during / calm : 0);
	return (drops != 0) + (during < PACE_GOOD * calm || calm <= 0);
}

static void parse(int argc, char **argv, const char **table, const char **name, char **victims)
{
	static const struct option options[] = {
		{ "table", required_argument, NULL, 't' },
		{ "rows", required_argument, NULL, 'r' },
		{ "attacker", required_argument, NULL, 'a' },
		{ "victims", required_argument, NULL, 'v' },
		{ "undisturbed", required_argument, NULL, 'u' },
		{ "red", no_argument, NULL, 'x' },
		{ "prove-watch", no_argument, NULL, 'w' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't': *table = optarg; break;
		case 'r': which = optarg; break;
		case 'a': *name = optarg; break;
		case 'v': *victims = optarg; break;
		case 'u': undisturbed = atof(optarg); break;
		case 'x': red = true; break;
		case 'w': prove_watch = true; break;
		default: exit(2);
		}
	}
}

/* 0; or 1: those after it were not run. */
static unsigned int run_rows(void)
{
	for (unsigned int i = 0; i < row_count; i++) {
		struct row *r = &rows[i];

		if (!wanted(r))
			continue;
		if (elsewhere(r)) {
			printf("-- %s: by %s\n", r->id, r->run);
			tally.elsewhere++;
		} else if (red ? run_red(r) : run_row(r)) {
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *table = TABLE, *name = "m";
	char victims_default[] = "a,b", *victims = victims_default;
	struct pace quiet;
	unsigned int failed = 0;
	double start = seconds();

	parse(argc, argv, &table, &name, &victims);
	if (read_table(table) || set_up(name, victims))
		return 1;
	if (!red && calm_down())
		return 1;
	quiet = last;
	failed += flip_canaries() + (prove_watch ? see_flips() : 0);
	failed += run_rows();
	report_rows(seconds() - start);
	failed += red ? tally.run - tally.red : tally.red + report_victims(&quiet);
	attacker_close(&attacker);
	printf("%s: %u failures\n", failed || !tally.run ? "FAILED" : "passed", failed);
	return failed || !tally.run;
}
