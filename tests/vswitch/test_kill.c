/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VM is stopped after each instruction of a call, for a while or for good; the library is the one
 * that ships. At each instruction that changed memory which others see:
 *
 * stopped: The others exchange frames. Each of their calls returns, with its work done, after as many
 * instructions as ever but for MORE_MAX. Then the stopped one goes on, and its own frames arrive.
 *
 * killed: As the daemon does it when a VM has died: all of the VM goes, and it comes back. Or a single
 * vCPU goes, and its siblings stay. Each with and without an exchange of the others before that.
 *
 * What the others sent to each other arrives: all, once, in order, and whole. Of the stopped one's
 * frames those arrive that it had sent, likewise. No slot of a ring is lost, no grace period stays
 * open, all goes on for more than a round of each ring.
 *
 * What is right is taken from two runs that nobody disturbs: the stopped one's call alone, and the
 * others' exchange alone.
 *
 *	test_kill [--all] [--paths LIBRARY] [--only SCENARIO] [--must-find]
 */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include "kill.h"
#include "scenarios.h"

/* In instructions. Others look up anew what changed, or hash for who wants that. */
#define MORE_MAX 1000
#define MORE_NIC 20000 /* the same, with frames of his to be handed to a NIC's driver */
#define SINKS	 (KILL_GUESTS * 2 + 2)
#define WIRE	 (KILL_GUESTS * 2) /* what NICs sent out */
#define FRAMES	 64
#define CALLS	 32

/* What arrived somewhere, or is to arrive: a number for each frame. */
struct list {
	unsigned int count;
	uint64_t frame[FRAMES];
};
struct lists {
	struct list at[SINKS];
};

/* One exchange of the others, undisturbed. */
struct reference {
	struct lists come;
	unsigned int calls;
	int64_t result[CALLS];
	uint64_t instructions[CALLS];
};

/* Undisturbed calls of those who are stopped. */
struct golden {
	struct lists come;
	uint64_t drops[KILL_GUESTS], aborted[KILL_GUESTS]; /* aborted: slots of bad buffers */
	int64_t result;
};

struct world *w;
static const struct scenario *now;
static struct k_caller stopped[2];
static struct golden golden[2];
/* [1]: one more is stopped, and not of the others. */
static struct reference reference[2][2];

/* What is judged. */
static struct {
	unsigned int stopped;	/* how many are */
	struct lists got, want; /* want: of the others */
	uint64_t aborted[KILL_GUESTS];
	const char *what;
} judged;
/* Before the scenario's call. */
static uint64_t drops_before[KILL_GUESTS];

static struct {
	uint64_t instructions, states, kills, stops, behind, pairs, lost_in_nic, again, counted,
		calls;
	uint64_t more_max, call_max;
	unsigned int paths;
} sum;

/* ---- findings ---- */

static uint64_t at_instruction[2];

static void __attribute__((noreturn, format(printf, 1, 2))) found(const char *fmt, ...)
{
	va_list ap;

	printf("FOUND: %s, %s", now->name, judged.what);
	for (unsigned int i = 0; i < judged.stopped; i++) {
		char where[128];

		k_where(&stopped[i], where, sizeof(where));
		printf(", %s after %lu instructions at %s", i ? "second" : "stopped",
		       at_instruction[i], where);
	}
	printf(": ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

#define MUST(x, ...)                        \
	do {                                \
		if (!(x))                   \
			found(__VA_ARGS__); \
	} while (0)

/* ---- what arrives ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
	return (hash ^ value) * 0x100000001b3ull;
}

static uint64_t number_of(const struct t_frame *f)
{
	uint64_t hash = mix(0xcbf29ce484222325ull, f->len);

	for (uint32_t i = 0; i < f->len; i++)
		hash = mix(hash, f->data[i]);
	return hash;
}

static void add(struct list *l, uint64_t number)
{
	CHECK(l->count < FRAMES);
	l->frame[l->count++] = number;
}

static struct t_frame frame;

static void take_queue(struct lists *l, unsigned int guest, unsigned int queue)
{
	struct t_guest *g = &w->t.guest[guest];
	struct t_queue *q = &g->q[queue];

	while (q->handle > 0 && q->rx_size) {
		uint32_t first = q->rx_next;
		struct elisa_rxc c = q->comp[first % q->rx_size];

		if (!t_receive(g, queue, &frame))
			break;
		for (; frame.aborted && first != q->rx_next; first++)
			judged.aborted[guest] +=
				!!(q->comp[first % q->rx_size].flags & ELISA_RXC_ABORTED);
		if (!frame.aborted)
			add(&l->at[guest * 2 + queue],
			    mix(mix(number_of(&frame), (uint64_t)c.flags << 32 | c.hash),
				(uint64_t)c.csum_start << 16 | c.gso_size));
	}
}

static void drain(struct lists *l)
{
	for (unsigned int g = 0; g < KILL_GUESTS; g++)
		for (unsigned int q = 0; q < 2; q++)
			take_queue(l, g, q);
	for (unsigned int i = 0; i < w->nics; i++)
		while (t_wire_out(&w->nic[i], 0, &frame))
			add(&l->at[WIRE + i], number_of(&frame));
}

/* Frames that did not get to a guest, but for aborted ones. */
static uint64_t rx_drops(unsigned int guest, uint64_t *aborted)
{
	struct elisa_port_counters c;
	uint64_t drops = 0;

	CHECK(vs_port_counters(w->t.vs, w->t.guest[guest].port, &c) == 0);
	for (unsigned int d = ELISA_DROP_RX_LINK_DOWN; d < ELISA_DROP_COUNT; d++)
		if (d != ELISA_DROP_RX_ABORTED)
			drops += c.drops[d];
	*aborted = c.drops[ELISA_DROP_RX_ABORTED];
	return drops;
}

/* ---- the others' exchange ---- */

#define KNOWN 4096
static struct {
	uint64_t path, instructions;
} known[KNOWN];

static uint64_t *count_of(uint64_t path)
{
	unsigned int i = (unsigned int)(path % KNOWN);

	while (known[i].path && known[i].path != path)
		i = (i + 1) % KNOWN;
	if (!known[i].path)
		CHECK(sum.paths++ < KNOWN / 2);
	known[i].path = path;
	return &known[i].instructions;
}

typedef int64_t entry_fn(void *cookie, uint64_t op, uint64_t a1, uint64_t x, uint64_t a2,
			 uint64_t y);
/* Tells which way a call takes; ways that were taken before need not be counted again. */
static entry_fn *paths_entry;

enum how { PLAIN, PATHS, COUNT };
static enum how how;

struct made {
	unsigned int calls;
	bool unknown; /* some way was not taken before */
	int64_t result[CALLS];
	uint64_t path[CALLS], instructions[CALLS];
};
static struct made *made;

int64_t k_call(struct t_guest *g, uint64_t op, uint64_t a1, uint64_t a2)
{
	unsigned int n = made ? made->calls++ : 0;
	int64_t result = 0;

	if (!made || how == PLAIN)
		return t_call(g, op, a1, a2);
	CHECK(n < CALLS);
	if (how == PATHS) {
		k_path = 1;
		result = paths_entry(g->caller[0], op, a1, 0xdead, a2, 0xbeef);
		made->path[n] = k_path;
		made->instructions[n] = *count_of(k_path);
		made->unknown |= !made->instructions[n];
	} else {
		made->instructions[n] = k_count(g->caller[0], op, a1, a2, &result);
		sum.counted++;
		if (paths_entry)
			*count_of(made->path[n]) = made->instructions[n];
	}
	made->result[n] = result;
	return result;
}

/* All of it, counted; `level` is what memory is now. */
static void exchange_counted(unsigned int round, unsigned int but, unsigned int level,
			     struct made *m)
{
	memset(m, 0, sizeof(*m));
	made = m;
	how = paths_entry ? PATHS : COUNT;
	scenario_exchange(now, round, but);
	if (m->unknown) {
		k_restore(level);
		m->calls = 0;
		how = COUNT;
		scenario_exchange(now, round, but);
	}
	how = PLAIN;
	made = NULL;
}

static void exchange(unsigned int round)
{
	const struct reference *r = &reference[judged.stopped - 1][round];

	scenario_exchange(now, round, judged.stopped - 1);
	for (unsigned int s = 0; s < SINKS; s++)
		for (unsigned int i = 0; i < r->come.at[s].count; i++)
			add(&judged.want.at[s], r->come.at[s].frame[i]);
}

/* The others while somebody stands inside. */
static void exchange_bounded(unsigned int level)
{
	const struct reference *r = &reference[judged.stopped - 1][0];
	struct made m;

	exchange_counted(0, judged.stopped - 1, level, &m);
	sum.calls += m.calls;
	MUST(m.calls == r->calls, "others made %u calls instead of %u", m.calls, r->calls);
	for (unsigned int i = 0; i < m.calls; i++) {
		uint64_t more = m.instructions[i] > r->instructions[i]
					? m.instructions[i] - r->instructions[i]
					: 0;

		MUST(more <= (now->nics ? MORE_NIC : MORE_MAX),
		     "call %u of the others took %lu instructions instead of %lu", i,
		     m.instructions[i], r->instructions[i]);
		if (!now->nics)
			MUST(!((m.result[i] ^ r->result[i]) & ~(int64_t)ELISA_TX_BELL),
			     "call %u of the others returned %ld instead of %ld", i, m.result[i],
			     r->result[i]);
		sum.more_max = more > sum.more_max ? more : sum.more_max;
		sum.call_max = m.instructions[i] > sum.call_max ? m.instructions[i] : sum.call_max;
	}
	for (unsigned int s = 0; s < SINKS; s++)
		for (unsigned int i = 0; i < r->come.at[s].count; i++)
			add(&judged.want.at[s], r->come.at[s].frame[i]);
}

/* ---- judging ---- */

static void judge_begin(const char *what, unsigned int how_many)
{
	memset(&judged, 0, sizeof(judged));
	judged.what = what;
	judged.stopped = how_many;
}

/*
 * Frames at one place: the others' in their order, all if `all`; and, in theirs, those of who was
 * stopped. Returns how many are missing of the others', and how many came of the stopped ones'.
 */
static unsigned int judge_sink(unsigned int s, unsigned int *of_stopped)
{
	const struct list *got = &judged.got.at[s], *want = &judged.want.at[s];
	unsigned int next = 0, at[2] = {0, 0}, missing = 0;

	*of_stopped = 0;
	for (unsigned int i = 0; i < got->count; i++) {
		unsigned int k, from = next;
		bool is = false;

		while (from < want->count && want->frame[from] != got->frame[i])
			from++;
		if (from < want->count) {
			missing += from - next;
			next = from + 1;
			continue;
		}
		for (k = 0; k < judged.stopped && !is; k++) {
			const struct list *of = &golden[k].come.at[s];
			unsigned int n = at[k];

			while (n < of->count && of->frame[n] != got->frame[i])
				n++;
			is = n < of->count;
			if (is)
				at[k] = n + 1;
		}
		MUST(is, "frame %u at %u is nobody's, or is there twice, or out of order", i, s);
		++*of_stopped;
	}
	return missing + want->count - next;
}

/* Where it was to arrive is gone with who was killed. */
static bool is_stopped(unsigned int guest)
{
	return guest == 0 || (guest == 2 && judged.stopped > 1);
}

static unsigned int judge_one(unsigned int s, bool gone)
{
	unsigned int of_stopped, missing = judge_sink(s, &of_stopped);

	/* Returned is sent. */
	if (judged.stopped == 1 && stopped[0].over && s < WIRE && !now->may_overflow)
		MUST(of_stopped == golden[0].come.at[s].count,
		     "its call was over, and %u of its %u frames came at %u", of_stopped,
		     golden[0].come.at[s].count, s);
	if (s >= WIRE && gone) {
		sum.lost_in_nic += missing;
		return 0;
	}
	MUST(now->may_overflow || !missing, "%u frames of the others are missing at %u", missing,
	     s);
	return missing;
}

static void judge_arrivals(bool gone)
{
	for (unsigned int i = 0; i < w->nics; i++)
		judge_one(WIRE + i, gone);
	for (unsigned int g = 0; g < KILL_GUESTS; g++) {
		uint64_t aborted, drops, missing;

		if (is_stopped(g) && (gone || now->own_rings))
			continue;
		missing = judge_one(g * 2, gone) + judge_one(g * 2 + 1, gone);
		drops = rx_drops(g, &aborted) - drops_before[g];
		/* Bad buffers are aborted as well, and counted as such, once that is over. */
		MUST(aborted <= judged.aborted[g] &&
			     judged.aborted[g] <= aborted + golden[0].aborted[g],
		     "guest %u saw %lu slots aborted, counted are %lu", g, judged.aborted[g],
		     aborted);
		MUST(missing <= drops, "%lu frames are missing at guest %u, %lu counted", missing,
		     g, drops);
		MUST(now->may_overflow ||
			     drops <=
				     golden[0].drops[g] + golden[1].drops[g] * (judged.stopped > 1),
		     "%lu frames dropped at guest %u", drops, g);
	}
}

/* Everybody who was stopped went on to his end. */
static void judge_complete(void)
{
	judge_arrivals(false);
	for (unsigned int g = 0; g < KILL_GUESTS; g++) {
		uint64_t aborted, due = 0, came = 0, drops = rx_drops(g, &aborted);

		if (g == 0 && now->own_rings)
			continue;
		for (unsigned int s = g * 2; s < g * 2 + 2; s++) {
			for (unsigned int k = 0; k < judged.stopped; k++)
				due += golden[k].come.at[s].count;
			due += judged.want.at[s].count;
			came += judged.got.at[s].count;
		}
		for (unsigned int k = 0; k < judged.stopped; k++)
			due += golden[k].drops[g];
		came += drops - drops_before[g];
		MUST(came == due, "%lu frames for guest %u, of which %lu came or were counted", due,
		     g, came);
	}
}

static void no_slot_lost(bool gone)
{
	for (unsigned int g = 0; g < KILL_GUESTS; g++) {
		if (gone && is_stopped(g))
			continue;
		for (unsigned int q = 0; q < 2; q++) {
			struct vs_queue_info info;

			if (w->t.guest[g].q[q].handle <= 0)
				continue;
			CHECK(vs_port_queue(w->t.vs, w->t.guest[g].port, q, &info) == 0);
			MUST(info.rx_reserved == w->t.guest[g].q[q].rx_next,
			     "guest %u, queue %u: %u slots were taken and %u came", g, q,
			     info.rx_reserved, w->t.guest[g].q[q].rx_next);
		}
	}
	MUST(vs_grace_done(w->t.vs, vs_grace_begin(w->t.vs)), "a grace period does not end");
}

/* Addresses learned are counted as they are, at last. */
static void addresses_counted(void)
{
	uint32_t count[128] = {0};
	struct vs_fdb_entry e;
	uint64_t cursor = 0;

	for (unsigned int s = 1; s <= 3; s++)
		vs_tick(w->t.vs, s);
	while (vs_fdb_next(w->t.vs, &cursor, &e))
		count[e.port] += !e.is_static;
	for (unsigned int g = 0; g < w->t.guests; g++) {
		struct vs_port_info info;

		CHECK(vs_port_info(w->t.vs, w->t.guest[g].port, &info) == 0);
		MUST(info.macs == count[w->t.guest[g].port], "port %u: %u addresses counted of %u",
		     g, info.macs, count[w->t.guest[g].port]);
	}
}

/* Between those who live, for more than a round of their rings; each frame comes at once. */
static void goes_on(unsigned int from, unsigned int to)
{
	for (unsigned int i = 0; i < KILL_RING + 3; i++) {
		static struct lists l;
		unsigned int count = 0;

		memset(&l, 0, sizeof(l));
		vs_refill(w->t.vs, w->clock_us += 1000000);
		MUST(scenario_send(now, from, to, 5000 + i) == 1, "guest %u cannot send any more",
		     from);
		drain(&l);
		for (unsigned int s = 0; s < 2; s++)
			count += l.at[to * 2 + s].count;
		MUST(count == 1, "%u frames instead of one arrived at guest %u from %u", count, to,
		     from);
	}
}

/* ---- who is killed ---- */

static void nics_anew(void)
{
	for (unsigned int i = 0; i < w->nics; i++) {
		struct vs_nic_status st;

		CHECK(vs_nic_status(w->t.vs, w->nic[i].guest->port, &st) == 0);
		if (st.dirty)
			t_nic_start(&w->t, &w->nic[i], 0);
	}
}

static void set_up_anew(struct t_guest *g)
{
	MUST(t_setup(g, 0, KILL_RING, KILL_RING, T_BUF) > 0,
	     "its queue cannot be set up again: %ld", g->q[0].handle);
	t_post(&g->q[0], KILL_RING);
}

/* The VM is gone, and another one comes in its place. */
static void kill_vm(struct t_guest *g)
{
	MUST(vs_port_unbind(w->t.vs, g->port) == 0, "its port cannot be unbound");
	for (int i = 0; i < 4; i++)
		vs_caller_del(w->t.vs, g->caller[i]);
}

static void revive_vm(struct t_guest *g)
{
	struct vs_region region = {.gpa = T_GPA, .len = T_RAM, .addr = g->ram};

	MUST(vs_grace_done(w->t.vs, vs_grace_begin(w->t.vs)), "a grace period does not end");
	MUST(vs_guest_del(w->t.vs, g->id) == 0, "the VM cannot be deleted");
	g->id = vs_guest_add(w->t.vs, "again", &region, 1);
	MUST(g->id >= 0 && vs_port_bind(w->t.vs, g->port, g->id) == 0, "its port stays bound");
	for (int i = 0; i < 4; i++)
		MUST(vs_caller_add(w->t.vs, g->id, &g->caller[i]) == 0, "no caller is free");
	set_up_anew(g);
}

/* One vCPU is gone, by the time of `revive` it is back; its queue is its siblings'. */
static void kill_vcpu(struct t_guest *g)
{
	vs_caller_del(w->t.vs, g->caller[0]);
}

static void revive_vcpu(struct t_guest *g)
{
	int64_t result = vs_entry(g->caller[1], ELISA_NET_TX, (uint64_t)g->q[0].handle, 0, 0, 0);

	if (!now->own_rings)
		MUST(!(result & ~(int64_t)ELISA_TX_BELL), "its sibling cannot send: %ld", result);
	MUST(vs_caller_add(w->t.vs, g->id, &g->caller[0]) == 0, "no caller is free");
	set_up_anew(g);
}

/* Who sleeps over frames that a dead one left is rung for by the daemon. */
static void sleepers_found(void)
{
	uint32_t due[KILL_GUESTS];
	int count;

	vs_bells_due(w->t.vs, due, KILL_GUESTS);
	count = vs_bells_due(w->t.vs, due, KILL_GUESTS);
	for (unsigned int g = 0; g < KILL_GUESTS; g++) {
		const struct t_queue *q = &w->t.guest[g].q[0];
		bool rung = is_stopped(g) || !q->rx->event ||
			    q->comp[q->rx_next % q->rx_size].seq != q->rx_next + 1;

		for (int i = 0; i < count; i++)
			rung |= due[i] == KILL_BELL + g * 16;
		MUST(rung, "guest %u sleeps over frames, and nobody knows", g);
	}
}

static void killed(bool vm, bool before, unsigned int how_many, unsigned int first)
{
	static const char *const names[2][2] = {
		{"one vCPU dies", "one vCPU dies after others' calls"},
		{"the VM dies", "the VM dies after others' calls"}};

	judge_begin(names[vm][before], how_many);
	if (before) {
		exchange(0);
		drain(&judged.got);
	}
	for (unsigned int k = 0; k < how_many; k++)
		(vm ? kill_vm : kill_vcpu)(&w->t.guest[2 * (k ^ first)]);
	sleepers_found();
	drain(&judged.got);
	exchange(1);
	drain(&judged.got);
	judge_arrivals(true);
	no_slot_lost(true);
	for (unsigned int k = 0; k < how_many; k++)
		(vm ? revive_vm : revive_vcpu)(&w->t.guest[2 * k]);
	nics_anew();
	goes_on(3, 1);
	goes_on(1, 3);
	for (unsigned int k = 0; k < how_many; k++) {
		goes_on(2 * k, 1);
		goes_on(3, 2 * k);
	}
	addresses_counted();
	sum.kills++;
}

/* ---- who is stopped ---- */

static void paused(unsigned int how_many, unsigned int first, unsigned int level)
{
	bool behind = false;

	judge_begin(how_many > 1 ? "two pause" : "it pauses", how_many);
	for (unsigned int k = 0; k < how_many; k++)
		k_hold(&stopped[k]);
	exchange_bounded(level);
	drain(&judged.got);
	for (unsigned int s = now->own_rings ? 2 : 0; s < SINKS && !behind; s++) {
		unsigned int ignored;

		behind = judge_sink(s, &ignored) > 0;
	}
	sum.behind += behind;
	for (unsigned int k = 0; k < how_many; k++) {
		int64_t result = k_finish(&stopped[k ^ first]);

		if (!now->nics)
			MUST(!((result ^ golden[k ^ first].result) & ~(int64_t)ELISA_TX_BELL),
			     "its call returned %ld instead of %ld", result,
			     golden[k ^ first].result);
	}
	drain(&judged.got);
	judge_complete();
	no_slot_lost(now->own_rings);
	for (unsigned int k = 0; k < how_many; k++)
		k_back(&stopped[k]);
	sum.stops++;
}

static bool is_all(const uint8_t *at, size_t len, uint8_t value)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != value)
			return false;
	return true;
}

/*
 * Another one takes its queue down: it is told to ask again, at once, as long as the stopped one
 * may write there; and from when it was told that it may have its memory back nobody writes to it.
 */
static void taken_down(void)
{
	struct t_guest *g = &w->t.guest[4];
	size_t len = g->q[0].rx_size * sizeof(struct elisa_rxc);
	int64_t result;

	judge_begin("it pauses while another one resets its queue", 1);
	k_hold(&stopped[0]);
	result = t_call(g, ELISA_NET_QUEUE_RESET, 0, 0);
	MUST(!result || result == -ELISA_EAGAIN, "the other's reset returned %ld", result);
	if (!result)
		memset(g->q[0].comp, 0xee, len);
	sum.again += !!result;
	k_finish(&stopped[0]);
	MUST(result || is_all((uint8_t *)g->q[0].comp, len, 0xee),
	     "it wrote to memory that was given back");
	MUST(!t_call(g, ELISA_NET_QUEUE_RESET, 0, 0), "the other's reset does not end");
	set_up_anew(g);
	scenario_send(now, 3, 4, 7000);
	MUST(t_receive(g, 0, &frame), "the other's queue does not work any more");
	k_back(&stopped[0]);
}

static void judge_state(void)
{
	paused(1, 0, 1);
	k_restore(1);
	taken_down();
	k_restore(1);
	for (unsigned int v = 0; v < 4; v++) {
		killed(v & 1, v & 2, 1, 0);
		k_restore(1);
	}
	sum.states++;
}

/* ---- scenarios ---- */

static void begin(unsigned int k, struct call (*call)(void))
{
	struct call c = k ? scenario_second(now) : call();

	k_begin(&stopped[k], w->t.guest[2 * k].caller[0], c.op, c.a1, c.a2);
}

static void refer(unsigned int but, unsigned int round)
{
	struct reference *r = &reference[but][round];
	struct made m;

	memset(r, 0, sizeof(*r));
	judge_begin("nobody is stopped", 0);
	exchange_counted(round, but, 0, &m);
	drain(&r->come);
	r->calls = m.calls;
	memcpy(r->result, m.result, sizeof(m.result));
	memcpy(r->instructions, m.instructions, sizeof(m.instructions));
	k_restore(0);
}

static void run_golden(unsigned int k)
{
	uint64_t aborted;

	memset(&golden[k], 0, sizeof(golden[k]));
	judge_begin("it is not stopped", 0);
	begin(k, now->call);
	golden[k].result = k_finish(&stopped[k]);
	drain(&golden[k].come);
	for (unsigned int g = 0; g < KILL_GUESTS; g++) {
		golden[k].drops[g] = rx_drops(g, &aborted) - drops_before[g];
		golden[k].aborted[g] = judged.aborted[g];
	}
	if (!k)
		for (unsigned int s = 0; s < SINKS; s++)
			MUST(golden[0].come.at[s].count == now->come[s],
			     "%u frames at %u instead of %u", golden[0].come.at[s].count, s,
			     now->come[s]);
	no_slot_lost(now->own_rings);
	k_restore(0);
	if (k || !now->ideal)
		return;
	/* Who is dropped depends on who comes first: all are listed. */
	memset(&golden[0].come, 0, sizeof(golden[0].come));
	memset(golden[0].drops, 0, sizeof(golden[0].drops));
	begin(0, now->ideal);
	k_finish(&stopped[0]);
	drain(&golden[0].come);
	k_restore(0);
}

/* With the first where it is: each `stride`th state of the second's call. */
static void pairs(unsigned int stride)
{
	unsigned int state = 0;
	uint64_t n = 0;

	k_hold(&stopped[0]);
	begin(1, NULL);
	k_save(2);
	while (k_step(&stopped[1])) {
		at_instruction[1] = ++n;
		if (!k_changed(2))
			continue;
		k_save(2);
		if (state++ % stride)
			continue;
		paused(2, state & 1, 2);
		k_restore(2);
		killed(state & 2, state & 4, 2, state & 1);
		k_restore(2);
		sum.pairs++;
	}
	k_restore(1);
	k_back(&stopped[0]);
}

static void run(const struct scenario *s, bool all)
{
	uint64_t n = 0, states = sum.states, before = sum.instructions, paired = sum.pairs;
	unsigned int stride = all ? 4 : 64;
	uint64_t aborted;

	now = s;
	scenario_world(now);
	k_start(&stopped[0]);
	k_start(&stopped[1]);
	k_save(0);
	for (unsigned int g = 0; g < KILL_GUESTS; g++)
		drops_before[g] = rx_drops(g, &aborted);
	for (unsigned int i = 0; i < 4; i++)
		refer(i & 1, i >> 1);
	run_golden(0);
	run_golden(1);
	begin(0, now->call);
	do {
		at_instruction[0] = n;
		if (n && !k_changed(1))
			continue;
		k_save(1);
		judge_state();
		if (!s->nics && !s->own_rings && (sum.states - states) % stride == stride / 4)
			pairs(all ? 3 : 16);
	} while (k_step(&stopped[0]) && ++n);
	/* Its call is over: nothing of it is lost any more. */
	sum.instructions += n;
	k_save(1);
	judge_state();
	printf("%-22s %6lu instructions, %5lu states, %5lu pairs of states\n", s->name,
	       sum.instructions - before, sum.states - states, sum.pairs - paired);
	fflush(stdout);
	k_stop(&stopped[0]);
	k_stop(&stopped[1]);
	scenario_world_end();
}

static void run_all(const char *only, bool all)
{
	unsigned int count = 0;

	for (const struct scenario *s = scenarios; s->name; s++) {
		if (only && strcmp(only, s->name))
			continue;
		run(s, all);
		count++;
	}
	CHECK(count);
	printf("%u calls: %lu instructions to be stopped at, all of them; %lu left another memory "
	       "than the one before\n"
	       "before %u different instructions of the library\n"
	       "killed %lu times, stopped %lu times, two at once %lu times (%s)\n"
	       "others' calls meanwhile: %lu, by %u ways; the longest %lu instructions, at "
	       "most %lu more than undisturbed\n"
	       "somebody's later frames lay behind the stopped one's slots %lu times; a reset was "
	       "to be "
	       "asked for again %lu times\n"
	       "in the ring of a NIC whose driver had to be set up anew: %lu frames of others\n",
	       count, sum.instructions, sum.states, k_instructions, sum.kills, sum.stops, sum.pairs,
	       all ? "every 4th with every 3rd state" : "every 64th with every 16th; --all: more",
	       sum.calls, sum.paths, sum.call_max, sum.more_max, sum.behind, sum.again,
	       sum.lost_in_nic);
}

/* A library with one thing wrong: this test finds it. */
static int must_find(const char *only)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		run_all(only, false);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		return 77;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		return 0;
	printf("FAIL: nothing was found in a library that is wrong on purpose (status 0x%x)\n",
	       status);
	return 1;
}

static entry_fn *load_paths(const char *path)
{
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	entry_fn *entry = NULL;

	if (lib)
		*(void **)(void *)&entry = dlsym(lib, "vs_entry");
	if (!entry)
		fprintf(stderr, "%s: %s\n", path, dlerror());
	CHECK(entry);
	return entry;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"all", no_argument, NULL, 'a'},
						{"paths", required_argument, NULL, 'p'},
						{"only", required_argument, NULL, 'o'},
						{"must-find", no_argument, NULL, 'm'},
						{NULL, 0, NULL, 0}};
	const char *only = NULL;
	bool all = false, must = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (opt == 'a')
			all = true;
		else if (opt == 'p')
			paths_entry = load_paths(optarg);
		else if (opt == 'o')
			only = optarg;
		else if (opt == 'm')
			must = true;
		else
			return 2;
	}
	t_map_flags = MAP_SHARED;
	if (must)
		return must_find(only);
	run_all(only, all);
	return 0;
}
