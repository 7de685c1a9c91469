/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Forwarding database: who is where.
 *
 * A slot is sixteen bytes, key and value, always read and changed as one. A free slot is zero. So a
 * reader never gets the port of another key, and whoever dies while changing the table leaves
 * either the old or the new entry. Four slots make a bucket, one cache line; a key may be in either
 * of two buckets, chosen by a hash with a secret seed, and goes into the emptier one. With at least
 * four slots for each address of the capacity, practically every table of that size fits:
 * two-choice hashing leaves the fraction of buckets with five keys doubly exponentially small.
 *
 * A race of two inserters may put a key in twice. All look in the same order and so agree on the
 * first; whoever learns the address next removes the others, and so does aging.
 */
#include "mem.h"

#define VS_FDB_WAYS   4
#define VS_FDB_STATIC (1ull << 16)
#define VS_FDB_TRIES  8
/* Buckets that are aged at a time. */
#define VS_FDB_AGE_MIN 1024
#define VS_FDB_AGE_MAX 65536

/* Value: port in bits 0-15, flags in 16-31, second it was seen last in 32-63. */
static uint64_t value_of(uint64_t port, uint64_t flags, uint32_t now)
{
	return port | flags | (uint64_t)now << 32;
}

static uint32_t bucket_count(uint32_t capacity)
{
	uint32_t buckets = VS_FDB_MIN;

	while (buckets < capacity)
		buckets *= 2;
	return buckets;
}

size_t vs_fdb_size(uint32_t capacity)
{
	return (size_t)bucket_count(capacity) * VS_FDB_WAYS * sizeof(struct vs_pair);
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull; /* splitmix64 by Vigna, public domain */
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

void vs_fdb_init(struct vs_fdb *fdb, void *slots, uint32_t capacity, uint64_t seed)
{
	fdb->slot = slots;
	fdb->mask = bucket_count(capacity) - 1;
	fdb->capacity = capacity;
	for (int i = 0; i < 3; i++)
		fdb->seed[i] = mix(seed += 0x9e3779b97f4a7c15ull);
	fdb->seed[1] |= 1;
	fdb->seed[2] |= 1;
}

struct vs_spot {
	struct vs_pair *bucket[2];
};

vs_inline struct vs_spot spot_of(const struct vs_fdb *fdb, uint64_t key)
{
	uint64_t h = (key ^ fdb->seed[0]) * fdb->seed[1];
	struct vs_spot spot;

	h = (h ^ h >> 32) * fdb->seed[2];
	h ^= h >> 29;
	spot.bucket[0] = fdb->slot + (h >> 20 & fdb->mask) * VS_FDB_WAYS;
	spot.bucket[1] = fdb->slot + (h >> 42 & fdb->mask) * VS_FDB_WAYS;
	return spot;
}

/* Port of `key`, or -1. Lock-free, bounded. */
int vs_fdb_find(const struct vs_fdb *fdb, uint64_t key)
{
	struct vs_spot spot = spot_of(fdb, key);

	for (int b = 0; b < 2; b++) {
		for (int i = 0; i < VS_FDB_WAYS; i++) {
			struct vs_pair e;

			if (vs_load(&spot.bucket[b][i].a) != key)
				continue;
			e = vs_load_pair(&spot.bucket[b][i]);
			if (e.a == key)
				return (uint16_t)e.b;
		}
	}
	return -1;
}

struct vs_search {
	struct vs_pair *at, was; /* the entry that counts, or at: NULL */
	struct vs_pair *room[2 * VS_FDB_WAYS];
	unsigned int rooms;
};

static bool is_static(struct vs_pair e)
{
	return e.b & VS_FDB_STATIC;
}

/*
 * How many addresses are learned at a port: vs_port.macs counts them, before they are put in, and
 * counts its own changes above. Whoever dies in between leaves it wrong until macs_recount().
 */
#define MACS_CHANGED (1ull << 32)

static bool macs_take(struct vs_port *port)
{
	uint32_t limit = vs_load(&port->mac_limit);
	uint64_t had = vs_fetch_add(&port->macs, MACS_CHANGED + 1);

	VS_STEP();
	if (!limit || (int32_t)had < (int64_t)limit)
		return true;
	vs_fetch_add(&port->macs, MACS_CHANGED - 1);
	return false;
}

/* One that had this value is gone. */
static void macs_give(struct vswitch *vs, uint64_t value)
{
	VS_STEP();
	if (!(value & VS_FDB_STATIC))
		vs_fetch_add(&vs->ports[(uint16_t)value].macs, MACS_CHANGED - 1);
}

static bool slot_free(struct vswitch *vs, struct vs_pair *at, struct vs_pair was)
{
	uint64_t value = was.b;

	if (!vs_cas_pair(at, &was, (struct vs_pair){0, 0}))
		return false;
	macs_give(vs, value);
	return true;
}

/* Finds `key`: the static entry if there is one, else the first; removes any other. */
static void search(struct vswitch *vs, uint64_t key, struct vs_search *s)
{
	const struct vs_fdb *fdb = &vs->fdb;
	struct vs_spot spot = spot_of(fdb, key);
	struct vs_pair *room[2][VS_FDB_WAYS];
	unsigned int rooms[2] = {0, 0}, ways = spot.bucket[0] == spot.bucket[1] ? 1 : 2;

	s->at = NULL;
	for (unsigned int b = 0; b < ways; b++) {
		for (int i = 0; i < VS_FDB_WAYS; i++) {
			struct vs_pair *at = &spot.bucket[b][i], e = vs_load_pair(at);

			if (!e.a) {
				room[b][rooms[b]++] = at;
			} else if (e.a == key) {
				if (!s->at) {
					s->at = at;
					s->was = e;
				} else if (is_static(e) && !is_static(s->was)) {
					slot_free(vs, s->at, s->was);
					s->at = at;
					s->was = e;
				} else {
					slot_free(vs, at, e);
				}
			}
		}
	}
	/* The emptier bucket first. */
	unsigned int first = rooms[1] > rooms[0];

	s->rooms = 0;
	for (unsigned int b = 0; b < 2; b++)
		for (unsigned int i = 0; i < rooms[b ^ first]; i++)
			s->room[s->rooms++] = room[b ^ first][i];
}

static bool insert(struct vs_search *s, uint64_t key, uint64_t value)
{
	for (unsigned int i = 0; i < s->rooms; i++) {
		struct vs_pair none = {0, 0};

		VS_STEP();
		if (vs_cas_pair(s->room[i], &none, (struct vs_pair){key, value}))
			return true;
	}
	return false;
}

/* A guest's own address is not outside, whoever says so there. */
static bool is_own(const struct vs_port *port, uint64_t key)
{
	return vs_load(&port->key) == (key & ~(uint64_t)UINT16_MAX) && vs_load(&port->guest);
}

/*
 * The address was seen at `port` now. On the data path, but once a second for each address. False:
 * the port has as many as it may have.
 */
vs_noinline bool vs_fdb_learn(struct vswitch *vs, uint64_t key, uint16_t port)
{
	struct vs_fdb *fdb = &vs->fdb;
	uint64_t value = value_of(port, 0, vs_load(&vs->now)), was;
	struct vs_search s;

	search(vs, key, &s);
	VS_STEP();
	if (s.at) {
		was = s.was.b;
		if (is_static(s.was) || was == value)
			return true;
		if ((uint16_t)was == port) {
			/* Lost to another change? Then that one counts; there is a next frame. */
			vs_cas_pair(s.at, &s.was, (struct vs_pair){key, value});
			return true;
		}
		if (vs->ports[port].nic && is_own(&vs->ports[(uint16_t)was], key))
			return true;
		if (!macs_take(&vs->ports[port]))
			return false;
		if (!vs_cas_pair(s.at, &s.was, (struct vs_pair){key, value})) {
			macs_give(vs, value);
			return true;
		}
		macs_give(vs, was);
		VS_STEP();
		vs_count(&fdb->moved, 1);
		vs_changed(vs);
		return true;
	}
	if (!macs_take(&vs->ports[port]))
		return false;
	if (!insert(&s, key, value)) {
		macs_give(vs, value);
		vs_count(&fdb->full, 1);
		return true;
	}
	VS_STEP();
	vs_count(&fdb->learned, 1);
	/* Somebody else may have put it in meanwhile. */
	search(vs, key, &s);
	return true;
}

static uint64_t slots(const struct vs_fdb *fdb)
{
	return (fdb->mask + 1) * VS_FDB_WAYS;
}

/*
 * Once for each way through the table: where nothing changed meanwhile, what was seen is what there
 * is.
 */
static void macs_recount(struct vswitch *vs)
{
	for (uint32_t i = 0; i < vs->ports_high; i++) {
		struct vs_port *port = &vs->ports[i];
		uint64_t before = port->macs_before;

		if ((uint32_t)before != port->macs_seen)
			vs_cas(&port->macs, &before, ((before >> 32) + 1) << 32 | port->macs_seen);
		port->macs_seen = 0;
		port->macs_before = vs_load(&port->macs);
	}
}

/*
 * Ages as much of the table as is due after `elapsed` seconds: all of it takes an eighth of the
 * age, so that a big one does not cost milliseconds each second.
 */
void vs_fdb_age(struct vswitch *vs, uint32_t elapsed)
{
	struct vs_fdb *fdb = &vs->fdb;
	uint32_t age = vs->config.fdb_age_s;
	uint64_t all = fdb->mask + 1, buckets = age ? all * elapsed * 8 / age : 0;

	if (buckets < VS_FDB_AGE_MIN)
		buckets = VS_FDB_AGE_MIN;
	if (buckets > VS_FDB_AGE_MAX)
		buckets = VS_FDB_AGE_MAX;
	if (buckets > all)
		buckets = all;
	for (uint64_t n = 0; n < buckets; n++) {
		struct vs_pair *bucket = fdb->slot + (fdb->cursor & fdb->mask) * VS_FDB_WAYS;

		if (!(fdb->cursor++ & fdb->mask))
			macs_recount(vs);
		for (int i = 0; i < VS_FDB_WAYS; i++) {
			struct vs_pair e = vs_load_pair(&bucket[i]);

			if (!e.a || is_static(e))
				continue;
			if (age && vs->now - (uint32_t)(e.b >> 32) > age) {
				if (slot_free(vs, &bucket[i], e))
					vs_count(&fdb->aged, 1);
			} else {
				vs->ports[(uint16_t)e.b].macs_seen++;
			}
		}
	}
}

/* Removes learned entries, or all, of one port or, with -1, of each. */
unsigned int vs_fdb_forget(struct vswitch *vs, int port, bool statics)
{
	unsigned int count = 0;

	for (uint64_t i = 0; i < slots(&vs->fdb); i++) {
		struct vs_pair e = vs_load_pair(&vs->fdb.slot[i]);

		if (!e.a || (is_static(e) && !statics) || (port >= 0 && (uint16_t)e.b != port))
			continue;
		count += slot_free(vs, &vs->fdb.slot[i], e);
	}
	vs_changed(vs);
	return count;
}

/* Learned entries of the port in VIDs that it is no member of. */
void vs_fdb_forget_left(struct vswitch *vs, const struct vs_port *port)
{
	for (uint64_t i = 0; i < slots(&vs->fdb); i++) {
		struct vs_pair e = vs_load_pair(&vs->fdb.slot[i]);

		if (e.a && !is_static(e) && (uint16_t)e.b == port->id &&
		    !vs_vlan_member(port, (uint16_t)e.a))
			slot_free(vs, &vs->fdb.slot[i], e);
	}
	vs_changed(vs);
}

int vs_fdb_flush(struct vswitch *vs, int port)
{
	if (port >= 0 && !vs_port_get(vs, port))
		return -ELISA_ENODEV;
	return (int)vs_fdb_forget(vs, port < 0 ? -1 : port, false);
}

static bool entry_valid(const struct vswitch *vs, const uint8_t mac[6], uint16_t vid, int port)
{
	uint64_t key = vs_mac_key(mac);

	return key && !(key & VS_KEY_MULTICAST) && vid <= VS_VID_HIDDEN && vs_port_get(vs, port);
}

/* What senders fill the table with gives way to what was set: the oldest of those in the way. */
static void evict(struct vswitch *vs, uint64_t key)
{
	struct vs_spot spot = spot_of(&vs->fdb, key);
	struct vs_pair *at = NULL, was = {0, 0};

	for (int b = 0; b < 2; b++) {
		for (int i = 0; i < VS_FDB_WAYS; i++) {
			struct vs_pair e = vs_load_pair(&spot.bucket[b][i]);

			if (!e.a || is_static(e) || (at && e.b >> 32 >= was.b >> 32))
				continue;
			at = &spot.bucket[b][i];
			was = e;
		}
	}
	if (at)
		slot_free(vs, at, was);
}

int vs_fdb_add(struct vswitch *vs, const uint8_t mac[6], uint16_t vid, int port)
{
	uint64_t key = vs_mac_key(mac) | vid, value = value_of((uint64_t)port, VS_FDB_STATIC, 0),
		 was;
	struct vs_search s;

	if (!entry_valid(vs, mac, vid, port))
		return -ELISA_EINVAL;
	for (int tries = 0; tries < VS_FDB_TRIES; tries++) {
		search(vs, key, &s);
		if (!s.at && !s.rooms) {
			evict(vs, key);
			search(vs, key, &s);
		}
		was = s.at ? s.was.b : VS_FDB_STATIC;
		if (s.at ? !vs_cas_pair(s.at, &s.was, (struct vs_pair){key, value})
			 : !insert(&s, key, value))
			continue;
		macs_give(vs, was);
		search(vs, key, &s);
		vs_changed(vs);
		return 0;
	}
	return -VS_ENOSPC;
}

int vs_fdb_restore(struct vswitch *vs, const struct vs_fdb_entry *entry)
{
	uint64_t key = vs_mac_key(entry->mac) | entry->vid;
	uint64_t value = value_of((uint64_t)entry->port, 0, vs_load(&vs->now) - entry->age_s);
	struct vs_search s;

	if (!entry_valid(vs, entry->mac, entry->vid, entry->port) || entry->is_static ||
	    !vs_vlan_member(&vs->ports[entry->port], entry->vid))
		return -ELISA_EINVAL;
	search(vs, key, &s);
	if (s.at)
		return -VS_EEXIST;
	if (!macs_take(&vs->ports[entry->port]))
		return -VS_ENOSPC;
	if (!insert(&s, key, value)) {
		macs_give(vs, value);
		return -VS_ENOSPC;
	}
	search(vs, key, &s);
	vs_changed(vs);
	return 0;
}

int vs_fdb_del(struct vswitch *vs, const uint8_t mac[6], uint16_t vid)
{
	uint64_t key = vs_mac_key(mac) | vid;
	struct vs_search s;
	int result = -ELISA_ENODEV;

	if (!key)
		return -ELISA_ENODEV;
	for (int tries = 0; tries < VS_FDB_TRIES; tries++) {
		search(vs, key, &s);
		if (!s.at)
			break;
		if (slot_free(vs, s.at, s.was))
			result = 0;
	}
	vs_changed(vs);
	return result;
}

int vs_fdb_next(const struct vswitch *vs, uint64_t *cursor, struct vs_fdb_entry *entry)
{
	const struct vs_fdb *fdb = &vs->fdb;

	while (*cursor < slots(fdb)) {
		struct vs_pair e = vs_load_pair(&fdb->slot[(*cursor)++]);

		if (!e.a)
			continue;
		*entry = (struct vs_fdb_entry){
			.vid = (uint16_t)e.a,
			.port = (uint16_t)e.b,
			.is_static = is_static(e),
			.age_s = is_static(e) ? 0 : vs_load(&vs->now) - (uint32_t)(e.b >> 32),
		};
		for (int i = 0; i < 6; i++)
			entry->mac[i] = (uint8_t)(e.a >> (16 + 8 * i));
		return 1;
	}
	return 0;
}

void vs_fdb_stats(const struct vswitch *vs, struct vs_fdb_stats *stats)
{
	const struct vs_fdb *fdb = &vs->fdb;

	*stats = (struct vs_fdb_stats){
		.capacity = fdb->capacity,
		.learned = vs_load(&fdb->learned),
		.moved = vs_load(&fdb->moved),
		.aged = vs_load(&fdb->aged),
		.full = vs_load(&fdb->full),
	};
	for (uint64_t i = 0; i < slots(fdb); i++) {
		struct vs_pair e = vs_load_pair(&fdb->slot[i]);

		stats->used += e.a != 0;
		stats->statics += e.a && is_static(e);
	}
}
