/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs a script through libvswitch, and compares what came out with what the kernel's bridge did.
 *
 *	compare FILE SEED FIRST COUNT CLASSES
 *
 * What the bridge cannot know is made as different as it can be: frames go many to a call, in one
 * piece or in several. Exit status 0: all the same; 1: not, and the first difference is shown; 2:
 *no comparison.
 */
#include <errno.h>
#include "../vswitch/harness.h"
#include "results.h"
#include "script.h"

#define RING  256
#define BATCH 32

struct totals {
	uint32_t topologies, frames, deliveries, changes;
};

static struct totals totals[S_CLASSES];
static struct t_switch t;
static struct r_result pending[BATCH];
static struct s_op sent[BATCH];
static unsigned int batch, batch_size;
static uint64_t noise; /* for what the script does not say */
static FILE *bridge;

static uint32_t random_below(uint32_t n)
{
	noise = noise * 6364136223846793005 + 1442695040888963407; /* Knuth's MMIX */
	return (uint32_t)(noise >> 33) % n;
}

static void setup(const struct script *s)
{
	t_create(&t, 1024);
	for (unsigned int i = 0; i < s->ports; i++) {
		struct t_guest *g = t_guest(&t, false);

		CHECK(t_setup(g, 0, RING, RING, T_BUF) > 0);
		t_post(&g->q[0], RING);
	}
}

/* ---- frames ---- */

/* In one piece, or in two or three. */
static unsigned int put(struct t_guest *g, const struct s_op *op)
{
	struct t_queue *q = &g->q[0];
	uint64_t at = q->tx_buffers + (uint64_t)(q->tx_next % q->tx_size) * (T_BUF + 64);
	uint32_t pieces = random_below(8) ? 1 : 2 + random_below(2), done = 0;

	memcpy(t_at(g, at), op->frame, op->len);
	for (uint32_t i = 0; i < pieces; i++) {
		uint32_t len = op->len - done;

		if (i + 1 < pieces)
			len = 1 + random_below(len - (pieces - i - 1));
		t_desc(q, at + done, (uint16_t)len, i + 1 < pieces ? ELISA_NET_MORE : 0);
		done += len;
	}
	return pieces;
}

static void collect(unsigned int port)
{
	static struct t_frame frame;

	while (t_receive(&t.guest[port], 0, &frame)) {
		uint32_t number;

		CHECK(!frame.aborted && frame.len >= 4);
		memcpy(&number, frame.data + frame.len - 4, 4);
		number -= pending[0].frame.number;
		CHECK(number < batch);
		CHECK(r_add(&pending[number], port, frame.data, frame.len) == 0);
	}
}

static void print_header(const uint8_t *at, unsigned int len)
{
	for (unsigned int i = 0; i < len; i++)
		printf("%02x%s", at[i], i == 5 || i == 11 || i == 15 || i == 19 ? " " : "");
}

static void print_result(const char *who, const struct r_result *r)
{
	printf("  %s: %u deliveries\n", who, r->frame.count);
	for (uint32_t i = 0; i < r->frame.count; i++) {
		const struct r_delivery *d = &r->delivery[i];

		printf("    port %u, %u bytes: ", d->port, d->len);
		print_header(d->head, sizeof(d->head));
		printf("... hash %016llx\n", (unsigned long long)d->hash);
	}
}

static bool same(const struct r_result *a, const struct r_result *b)
{
	return !memcmp(&a->frame, &b->frame, sizeof(a->frame)) &&
	       !memcmp(a->delivery, b->delivery, a->frame.count * sizeof(a->delivery[0]));
}

/* The bridge's result of the next frame. */
static bool read_bridge(struct r_result *r)
{
	return fread(&r->frame, sizeof(r->frame), 1, bridge) == 1 && r->frame.count <= R_MAX &&
	       fread(r->delivery, sizeof(r->delivery[0]), r->frame.count, bridge) == r->frame.count;
}

static int compare(const struct script *s, unsigned int i)
{
	static struct r_result theirs;

	if (!read_bridge(&theirs)) {
		printf("compare: the bridge's results end early\n");
		return 2;
	}
	totals[s->class].frames++;
	totals[s->class].deliveries += theirs.frame.count;
	if (same(&theirs, &pending[i]))
		return 0;
	printf("DIFFERENCE at frame %u from port %u, %u bytes: ", sent[i].number, sent[i].port,
	       sent[i].len);
	print_header(sent[i].frame, 28);
	printf("...\n");
	print_result("the bridge", &theirs);
	print_result("libvswitch", &pending[i]);
	script_print(s);
	return 1;
}

/* Sends the batch. */
static int flush(const struct script *s)
{
	struct t_guest *g = &t.guest[sent[0].port];
	unsigned int descs = 0;
	int result = 0;

	for (unsigned int i = 0; i < batch; i++) {
		descs += put(g, &sent[i]);
		pending[i].frame = (struct r_frame){s->topology, sent[i].number, 0};
	}
	while (descs) {
		int64_t taken = t_send(g, 0, descs);

		CHECK(taken > 0);
		descs -= (unsigned int)taken;
	}
	for (unsigned int i = 0; batch && i < s->ports; i++)
		collect(i);
	for (unsigned int i = 0; i < batch && !result; i++)
		result = compare(s, i);
	batch = 0;
	batch_size = 1 + random_below(BATCH);
	return result;
}

/* ---- changes ---- */

static void set_port(unsigned int i, const struct s_port *set)
{
	struct t_guest *g = &t.guest[i];
	struct vs_port_config cfg = t_port_config(&t, g);

	cfg.up = set->up;
	/* With whoever is not isolated there is a group in common. */
	cfg.groups = set->isolated ? 1ull << i : ~0ull;
	cfg.flood_off = set->flood_off;
	cfg.vlan = (struct vs_vlan){
		.mode = set->mode, .pvid = set->pvid, .native_tagged = set->native_tagged};
	for (unsigned int v = 0; v < set->vids; v++)
		cfg.vlan.allowed[set->vid[v] / 64] |= 1ull << set->vid[v] % 64;
	for (unsigned int b = 0; b < VS_BUCKETS; b++)
		cfg.rate[b] = (struct vs_rate){set->burst[b] ? S_RATE_PER_S : 0, set->burst[b]};
	t_port_set(&t, g, &cfg);
}

static void apply(const struct s_op *op)
{
	uint8_t what = op->what;

	switch (op->kind) {
	case S_SET:
		set_port(op->port, &op->set);
		break;
	case S_FDB_ADD:
		CHECK(vs_fdb_add(t.vs, op->mac, op->vid, t.guest[op->port].port) == 0);
		break;
	case S_FDB_DEL:
		CHECK(vs_fdb_del(t.vs, op->mac, op->vid) == 0);
		break;
	case S_FLUSH:
		CHECK(vs_fdb_flush(t.vs, t.guest[op->port].port) >= 0);
		break;
	case S_MIRROR_ADD:
		/* The kernel's mirror of what comes in is before anything that could drop it. */
		if (op->what & VS_MIRROR_TX)
			what |= VS_MIRROR_DROPS;
		CHECK(vs_mirror_add(
			      t.vs, t.guest[op->port].port,
			      &(struct vs_mirror){.to = t.guest[op->to].port, .what = what}) == 0);
		break;
	case S_MIRROR_DEL:
		CHECK(vs_mirror_del(t.vs, t.guest[op->port].port, t.guest[op->to].port) == 0);
		break;
	case S_SEND:
		break;
	}
}

static bool joins(const struct s_op *op)
{
	return op->kind == S_SEND && batch < batch_size && op->port == sent[0].port;
}

static int topology(struct script *s)
{
	static struct s_op op;
	int result = 0;

	setup(s);
	totals[s->class].topologies++;
	while (!result && script_next(s, &op)) {
		/* The script's state runs ahead of the batch: changes come after it. */
		if (batch && !joins(&op))
			result = flush(s);
		if (op.kind == S_SEND)
			sent[batch++] = op;
		else
			apply(&op);
		totals[s->class].changes += op.kind != S_SEND;
	}
	if (!result && batch)
		result = flush(s);
	t_destroy(&t);
	return result;
}

static void report(void)
{
	struct totals all = {0};

	printf("%-10s %10s %8s %8s %10s\n", "", "topologies", "changes", "frames", "deliveries");
	for (unsigned int i = 0; i < S_CLASSES; i++) {
		const struct totals *c = &totals[i];

		printf("%-10s %10u %8u %8u %10u\n", s_class_name[i], c->topologies, c->changes,
		       c->frames, c->deliveries);
		all.topologies += c->topologies;
		all.changes += c->changes;
		all.frames += c->frames;
		all.deliveries += c->deliveries;
	}
	printf("%-10s %10u %8u %8u %10u\n", "all", all.topologies, all.changes, all.frames,
	       all.deliveries);
}

int main(int argc, char **argv)
{
	struct script s;
	uint64_t seed;
	unsigned int first, count, classes;
	int result = 0;

	if (argc < 6) {
		fprintf(stderr, "usage: compare FILE SEED FIRST COUNT CLASSES\n");
		return 2;
	}
	seed = strtoull(argv[2], NULL, 0);
	first = (unsigned int)strtoul(argv[3], NULL, 0);
	count = (unsigned int)strtoul(argv[4], NULL, 0);
	classes = (unsigned int)strtoul(argv[5], NULL, 0);
	noise = seed;
	bridge = fopen(argv[1], "re");
	if (!bridge) {
		fprintf(stderr, "compare: %s: %s\n", argv[1], strerror(errno));
		return 2;
	}
	for (unsigned int i = first; i < first + count && !result; i++) {
		script_begin(&s, seed, i, classes);
		result = topology(&s);
	}
	if (!result && fgetc(bridge) != EOF) {
		printf("compare: the bridge has more results than the script has frames\n");
		result = 2;
	}
	fclose(bridge);
	report();
	return result;
}
