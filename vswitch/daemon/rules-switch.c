/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rules for VLANs, rates, storms, floods, addresses and mirrors: groups of values, as JSON, be they
 * from the configuration file (config-switch.c makes JSON of them) or the control socket.
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BURST_FRAMES 32 /* by default, or a hundredth of a second */
#define BURST_LARGE  10 /* of the largest frames, for bytes */
#define FRAME_EXTRA  18 /* header and one tag, besides the MTU */

static const char *const modes[] = {"none", "access", "trunk", "qinq"};
static const char *const floods[] = {"broadcast", "multicast", "unknown"};
static const char *const mirror_kinds[] = {"tx", "rx", "drops"};
static const char *const buckets[VS_BUCKETS] = {
	[VS_TX_BYTES] = "tx_bytes",	   [VS_TX_FRAMES] = "tx_frames",
	[VS_RX_BYTES] = "rx_bytes",	   [VS_RX_FRAMES] = "rx_frames",
	[VS_STORM_BROADCAST] = "broadcast", [VS_STORM_MULTICAST] = "multicast",
	[VS_STORM_UNKNOWN] = "unknown",
};

__attribute__((format(printf, 2, 3))) static int bad(struct wrong *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->why, sizeof(w->why), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- members of a group; what is not there stays as it is ---- */

static json_t *member(json_t *group, const char *key, struct wrong *w)
{
	snprintf(w->key, sizeof(w->key), "%s", key);
	return json_object_get(group, key);
}

static int get_int(json_t *group, const char *key, long long min, long long max, long long *out,
		   struct wrong *w)
{
	json_t *value = member(group, key, w);

	if (!value)
		return 0;
	if (!json_is_integer(value))
		return bad(w, "must be a whole number");
	if (json_integer_value(value) < min || json_integer_value(value) > max)
		return bad(w, "%lld is out of range: use %lld to %lld",
			   (long long)json_integer_value(value), min, max);
	*out = json_integer_value(value);
	return 0;
}

static int get_bool(json_t *group, const char *key, bool *out, struct wrong *w)
{
	json_t *value = member(group, key, w);

	if (value && !json_is_boolean(value))
		return bad(w, "must be true or false");
	if (value)
		*out = json_is_true(value);
	return 0;
}

static int get_string(json_t *group, const char *key, const char **out, struct wrong *w)
{
	json_t *value = member(group, key, w);

	*out = json_string_value(value);
	return *out || !value ? 0 : bad(w, "must be text");
}

static int find_word(const char *const words[], unsigned int count, const char *word)
{
	for (unsigned int i = 0; i < count; i++)
		if (word && !strcmp(words[i], word))
			return (int)i;
	return -1;
}

static int get_words(json_t *list, const char *const words[], unsigned int count, uint8_t *bits,
		     struct wrong *w)
{
	uint8_t all = 0;
	json_t *e;
	size_t i;

	if (!json_is_array(list))
		return bad(w, "must be a list of names, as [\"%s\", \"%s\"]", words[0], words[1]);
	json_array_foreach(list, i, e)
	{
		int word = find_word(words, count, json_string_value(e));

		if (word < 0)
			return bad(w, "\"%.40s\" is not known: use \"%s\", \"%s\", \"%s\"",
				   json_is_string(e) ? json_string_value(e) : "?", words[0],
				   words[1], words[2]);
		all |= (uint8_t)(1 << word);
	}
	*bits = all;
	return 0;
}

/* `known`: NULL at the end. */
static int check_known(json_t *group, const char *const known[], struct wrong *w)
{
	const char *key;
	json_t *value;
	size_t len;

	w->key[0] = '\0';
	if (!json_is_object(group))
		return bad(w, "must be a group { ... }");
	json_object_foreach(group, key, value)
	{
		unsigned int k = 0;

		while (known[k] && strcmp(known[k], key))
			k++;
		if (known[k])
			continue;
		member(group, key, w);
		bad(w, "unknown key: known are");
		for (k = 0; known[k]; k++) {
			len = strlen(w->why);
			snprintf(w->why + len, sizeof(w->why) - len, "%s %s", k ? "," : "",
				 known[k]);
		}
		return -EINVAL;
	}
	return 0;
}

/* ---- VLANs ---- */

/* "10,20-30"; "" is nothing. */
static int parse_vids(const char *text, uint64_t allowed[64], struct wrong *w)
{
	const char *p = text;

	memset(allowed, 0, 64 * sizeof(*allowed));
	while (*p) {
		unsigned long first, last;
		char *end;

		first = last = strtoul(p, &end, 10);
		if (end != p && *end == '-') {
			p = end + 1;
			last = strtoul(p, &end, 10);
		}
		if (end == p || strspn(p, "0123456789") == 0 || (*end && (*end != ',' || !end[1])))
			return bad(w, "\"%.60s\" is not a list of VLANs: write it as \"10,20-30\"",
				   text);
		if (!first || last > VS_VID_MAX || first > last)
			return bad(w, "\"%.60s\": %lu-%lu is not of 1 to %d, in that order", text,
				   first, last, VS_VID_MAX);
		for (; first <= last; first++)
			allowed[first / 64] |= UINT64_C(1) << first % 64;
		p = *end ? end + 1 : end;
	}
	return 0;
}

static bool vid_in(const uint64_t allowed[64], unsigned int vid)
{
	return vid <= VS_VID_MAX && allowed[vid / 64] >> vid % 64 & 1;
}

/* Free it. */
static char *format_vids(const uint64_t allowed[64])
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	for (unsigned int vid = 1; vid <= VS_VID_MAX; vid++) {
		unsigned int last = vid;

		if (!vid_in(allowed, vid))
			continue;
		while (vid_in(allowed, last + 1))
			last++;
		fprintf(f, "%s%u", ftell(f) ? "," : "", vid);
		if (last > vid)
			fprintf(f, "-%u", last);
		vid = last;
	}
	fclose(f);
	return text;
}

static bool vids_any(const uint64_t allowed[64])
{
	for (unsigned int i = 0; i < 64; i++)
		if (allowed[i])
			return true;
	return false;
}

/* What only all of it can tell. */
static int check_vlan(const struct vs_vlan *v, struct wrong *w)
{
	const char *mode = modes[v->mode];
	const bool trunk = v->mode == VS_VLAN_TRUNK;

	snprintf(w->key, sizeof(w->key), "pvid");
	if (v->mode == VS_VLAN_NONE && v->pvid)
		return bad(w, "mode \"none\" has no VLAN: add mode = \"access\", or another");
	if (!trunk && v->mode != VS_VLAN_NONE && !v->pvid)
		return bad(w, "mode \"%s\" needs it: the port's VLAN, 1 to %d", mode, VS_VID_MAX);
	snprintf(w->key, sizeof(w->key), "allowed");
	if (!trunk && vids_any(v->allowed))
		return bad(w, "is for mode \"trunk\", not \"%s\"", mode);
	if (trunk && !v->pvid && !vids_any(v->allowed))
		return bad(w, "a trunk needs it, or pvid: the port would be in no VLAN");
	snprintf(w->key, sizeof(w->key), "native_tagged");
	if (v->native_tagged && !trunk)
		return bad(w, "is for mode \"trunk\", not \"%s\"", mode);
	if (v->native_tagged && !v->pvid)
		return bad(w, "there is no pvid that could be tagged");
	return 0;
}

/* With a mode, all else begins anew. */
static int read_vlan(struct port_setting *port, json_t *group, struct wrong *w)
{
	static const char *const known[] = {"mode", "pvid", "allowed", "native_tagged", NULL};
	struct vs_vlan v = port->vs.vlan;
	const char *mode, *allowed;
	long long pvid;
	int n;

	if (check_known(group, known, w) || get_string(group, "mode", &mode, w))
		return -EINVAL;
	if (mode) {
		n = find_word(modes, 4, mode);
		if (n < 0)
			return bad(w, "\"%.40s\" is not known: use none, access, trunk or qinq",
				   mode);
		v = (struct vs_vlan){.mode = (uint8_t)n};
	}
	pvid = v.pvid;
	if (get_int(group, "pvid", 1, VS_VID_MAX, &pvid, w) ||
	    get_bool(group, "native_tagged", &v.native_tagged, w) ||
	    get_string(group, "allowed", &allowed, w) ||
	    (allowed && parse_vids(allowed, v.allowed, w)))
		return -EINVAL;
	v.pvid = (uint16_t)pvid;
	if (check_vlan(&v, w))
		return -EINVAL;
	port->vs.vlan = v;
	return 0;
}

static json_t *write_vlan(const struct vs_vlan *v)
{
	json_t *json = json_pack("{s:s}", "mode", modes[v->mode]);
	char *allowed;

	if (v->pvid)
		json_object_set_new(json, "pvid", json_integer(v->pvid));
	if (v->mode != VS_VLAN_TRUNK)
		return json;
	allowed = format_vids(v->allowed);
	json_object_set_new(json, "allowed", json_string(allowed ? allowed : ""));
	json_object_set_new(json, "native_tagged", json_boolean(v->native_tagged));
	free(allowed);
	return json;
}

/* ---- rates ---- */

/* Of buckets `first` to `end`; a rate of 0 takes the limit away. */
static int read_rates(struct port_setting *port, json_t *group, unsigned int first,
		      unsigned int end, struct wrong *w)
{
	const char *known[2 * VS_BUCKETS + 1] = {NULL};
	char bursts[VS_BUCKETS][32];
	unsigned int n = 0;

	for (unsigned int b = first; b < end; b++) {
		snprintf(bursts[b], sizeof(bursts[b]), "burst_%s", buckets[b]);
		known[n++] = buckets[b];
		known[n++] = bursts[b];
	}
	if (check_known(group, known, w))
		return -EINVAL;
	for (unsigned int b = first; b < end; b++) {
		struct vs_rate *rate = &port->vs.rate[b];
		long long per_s = (long long)rate->per_s, burst = (long long)rate->burst;

		if (get_int(group, buckets[b], 0, (long long)VS_RATE_MAX, &per_s, w))
			return -EINVAL;
		if (!per_s)
			burst = 0;
		if (get_int(group, bursts[b], 1, (long long)VS_RATE_MAX, &burst, w))
			return -EINVAL;
		if (burst && !per_s)
			return bad(w, "there is no %s that it could be the burst of", buckets[b]);
		*rate = (struct vs_rate){.per_s = (uint64_t)per_s, .burst = (uint64_t)burst};
	}
	return 0;
}

static int read_rate(struct port_setting *port, json_t *group, struct wrong *w)
{
	return read_rates(port, group, VS_TX_BYTES, VS_STORM_BROADCAST, w);
}

static int read_storm(struct port_setting *port, json_t *group, struct wrong *w)
{
	return read_rates(port, group, VS_STORM_BROADCAST, VS_BUCKETS, w);
}

static json_t *write_rates(const struct port_setting *port, unsigned int first, unsigned int end)
{
	json_t *json = json_object();
	char key[32];

	for (unsigned int b = first; b < end; b++) {
		const struct vs_rate *rate = &port->vs.rate[b];

		if (!rate->per_s)
			continue;
		json_object_set_new(json, buckets[b], json_integer((json_int_t)rate->per_s));
		if (!rate->burst)
			continue;
		snprintf(key, sizeof(key), "burst_%s", buckets[b]);
		json_object_set_new(json, key, json_integer((json_int_t)rate->burst));
	}
	return json;
}

static uint64_t burst_least(const struct port_setting *port, unsigned int bucket)
{
	uint64_t per_s = port->vs.rate[bucket].per_s;
	uint64_t frame = bucket == VS_TX_BYTES || bucket == VS_RX_BYTES ? port->vs.mtu + FRAME_EXTRA
									: 1;

	return per_s / 100 > frame ? per_s / 100 : frame;
}

/* ---- what a port floods, and how many addresses it may have ---- */

static int read_no_flood(struct port_setting *port, json_t *list, struct wrong *w)
{
	w->key[0] = '\0';
	return get_words(list, floods, 3, &port->vs.flood_off, w);
}

static json_t *write_words(uint8_t bits, const char *const words[])
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < 3; i++)
		if (bits >> i & 1)
			json_array_append_new(list, json_string(words[i]));
	return list;
}

static int read_mac_limit(struct port_setting *port, json_t *group, struct wrong *w)
{
	static const char *const known[] = {"addresses", "drop", NULL};
	long long addresses = port->vs.mac_limit;
	bool drop = port->vs.mac_limit_drop;

	if (check_known(group, known, w) ||
	    get_int(group, "addresses", 0, VS_FDB_MAX, &addresses, w))
		return -EINVAL;
	drop = drop && addresses;
	if (get_bool(group, "drop", &drop, w))
		return -EINVAL;
	if (drop && !addresses)
		return bad(w, "there is no limit, add addresses");
	port->vs.mac_limit = (uint32_t)addresses;
	port->vs.mac_limit_drop = drop;
	return 0;
}

/* ---- all of a port ---- */

static const struct {
	const char *name;
	int (*read)(struct port_setting *port, json_t *value, struct wrong *w);
} groups[] = {
	{"vlan", read_vlan},	   {"rate", read_rate},		  {"storm", read_storm},
	{"no_flood", read_no_flood}, {"mac_limit", read_mac_limit},
};

int port_group_read(struct port_setting *port, const char *name, json_t *value, struct wrong *w)
{
	*w = (struct wrong){.group = name};
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (!strcmp(groups[i].name, name))
			return value ? groups[i].read(port, value, w) : 0;
	return bad(w, "unknown");
}

int port_setting_whole(const struct port_setting *port, struct wrong *w)
{
	*w = (struct wrong){0};
	for (unsigned int b = 0; b < VS_BUCKETS; b++) {
		const struct vs_rate *rate = &port->vs.rate[b];

		if (!rate->per_s || !rate->burst || rate->burst >= burst_least(port, b))
			continue;
		w->group = b < VS_STORM_BROADCAST ? "rate" : "storm";
		snprintf(w->key, sizeof(w->key), "burst_%s", buckets[b]);
		return bad(w,
			   "%llu is too small: at least %llu, a hundredth of a second's and the "
			   "largest frame",
			   (unsigned long long)rate->burst,
			   (unsigned long long)burst_least(port, b));
	}
	return 0;
}

const char *wrong_text(const struct wrong *w, char text[WHY_LEN])
{
	snprintf(text, WHY_LEN, "%.40s%s%.40s%s%.160s", w->group ? w->group : "",
		 w->group && w->key[0] ? "." : "", w->key, w->group || w->key[0] ? ": " : "",
		 w->why);
	return text;
}

int port_groups_read(struct port_setting *port, json_t *params, char why[WHY_LEN])
{
	struct wrong w;

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if (port_group_read(port, groups[i].name, json_object_get(params, groups[i].name),
				    &w)) {
			wrong_text(&w, why);
			return -EINVAL;
		}
	}
	if (!port_setting_whole(port, &w))
		return 0;
	wrong_text(&w, why);
	return -EINVAL;
}

void port_groups_write(const struct port_setting *port, json_t *json)
{
	json_object_set_new(json, "vlan", write_vlan(&port->vs.vlan));
	json_object_set_new(json, "rate", write_rates(port, VS_TX_BYTES, VS_STORM_BROADCAST));
	json_object_set_new(json, "storm", write_rates(port, VS_STORM_BROADCAST, VS_BUCKETS));
	json_object_set_new(json, "no_flood", write_words(port->vs.flood_off, floods));
	json_object_set_new(json, "mac_limit",
			    json_pack("{s:i, s:b}", "addresses", (int)port->vs.mac_limit, "drop",
				      (int)port->vs.mac_limit_drop));
}

struct vs_port_config port_vs_config(const struct port_setting *port)
{
	struct vs_port_config vs = port->vs;

	for (unsigned int b = 0; b < VS_BUCKETS; b++) {
		uint64_t least = burst_least(port, b);
		bool bytes = b == VS_TX_BYTES || b == VS_RX_BYTES;
		uint64_t usual = bytes ? BURST_LARGE * (port->vs.mtu + FRAME_EXTRA) : BURST_FRAMES;

		if (vs.rate[b].per_s && !vs.rate[b].burst)
			vs.rate[b].burst = usual > least ? usual : least;
	}
	return vs;
}

/* ---- mirrors ---- */

static int get_port_name(json_t *group, const char *key, char out[VS_NAME_LEN], struct wrong *w)
{
	const char *name;
	char why[WHY_LEN];

	if (get_string(group, key, &name, w))
		return -EINVAL;
	if (!name)
		return bad(w, "is missing: add %s = \"...\", a port", key);
	if (check_name("port", name, why))
		return bad(w, "%s", why);
	snprintf(out, VS_NAME_LEN, "%s", name);
	return 0;
}

int mirror_setting_read(struct mirror_setting *m, json_t *group, struct wrong *w)
{
	static const char *const known[] = {"port", "to", "what", "snap", NULL};
	json_t *what;
	long long snap = 0;

	*m = (struct mirror_setting){.what = VS_MIRROR_TX | VS_MIRROR_RX};
	*w = (struct wrong){.group = "mirrors"};
	if (check_known(group, known, w) || get_port_name(group, "port", m->port, w) ||
	    get_port_name(group, "to", m->to, w))
		return -EINVAL;
	if (!strcmp(m->port, m->to))
		return bad(w, "\"%s\" would be mirrored to itself: name another port", m->to);
	what = member(group, "what", w);
	if (what && get_words(what, mirror_kinds, 3, &m->what, w))
		return -EINVAL;
	if (!m->what)
		return bad(w, "empty: name what to copy, of \"tx\", \"rx\" and \"drops\"");
	if (get_int(group, "snap", ELISA_FRAME_MIN, UINT16_MAX, &snap, w))
		return -EINVAL;
	m->snap = (uint16_t)snap;
	return 0;
}

json_t *mirror_setting_json(const struct mirror_setting *m)
{
	json_t *json = json_pack("{s:s, s:s, s:o}", "port", m->port, "to", m->to, "what",
				 write_words(m->what, mirror_kinds));

	if (m->snap)
		json_object_set_new(json, "snap", json_integer(m->snap));
	return json;
}

int mirror_fits(const struct mirror_setting *all, size_t count, const struct mirror_setting *m,
		struct wrong *w)
{
	unsigned int of_port = 1;

	*w = (struct wrong){.group = "mirrors", .key = "to"};
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(all[i].port, m->port) && !strcmp(all[i].to, m->to))
			return bad(w, "\"%s\" is mirrored to \"%s\" already", m->port, m->to);
		if (!strcmp(all[i].port, m->to))
			return bad(w,
				   "\"%s\" is mirrored itself, to \"%s\": a mirror of a mirror is "
				   "not possible",
				   m->to, all[i].to);
		if (!strcmp(all[i].to, m->port))
			return bad(w,
				   "\"%s\" is where \"%s\" is mirrored to: it cannot be mirrored "
				   "itself",
				   m->port, all[i].port);
		of_port += !strcmp(all[i].port, m->port);
	}
	if (of_port > VS_MIRRORS_MAX)
		return bad(w, "\"%s\" has %d mirrors already, the most possible", m->port,
			   VS_MIRRORS_MAX);
	return 0;
}
