/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The watchdog. That the event loop turns says little: what the daemon is for is frames. So a guest
 * of the daemon's own sends frames from each of its two ports to the other, by the way that VMs'
 * frames take (vs_entry: descriptors, FDB, delivery), and looks at what arrives; and each NIC's
 * thread has to have shown itself. Only if all is well the service manager hears WATCHDOG=1,
 * three times in its time; one that hears none restarts the daemon.
 *
 * The two ports are in a VLAN that nobody else can be in, and in no list.
 */
#include "daemon.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define EVERY	  (10 * SEC) /* without a service manager that wants to know */
#define RING	  8
#define BUF_LEN	  2048
#define PORT_RAM  (64u << 10) /* each port's part of the guest's RAM, which begins at GPA 0 */
#define FRAME_MAX 1514u

/* What lies in a port's part. */
struct port_ram {
	struct elisa_queue_setup setup;
	struct elisa_txd tx[RING] __attribute__((aligned(64)));
	struct {
		struct elisa_rx ring;
		uint64_t addr[RING];
	} rx __attribute__((aligned(64)));
	struct elisa_rxc comp[RING] __attribute__((aligned(64)));
	uint8_t sent[BUF_LEN];
	uint8_t buf[RING][BUF_LEN];
};
_Static_assert(sizeof(struct port_ram) <= PORT_RAM, "port_ram");

struct side {
	int port;
	uint8_t mac[6];
	int64_t handle;
	struct port_ram *ram;
	uint32_t tx_next, rx_next;
};

struct watchdog {
	struct daemon *daemon;
	sd_event_source *timer;
	uint64_t every;
	bool notify; /* the service manager waits for it */
	void *ram;
	int guest;
	struct vs_caller *caller;
	struct side side[WATCHDOG_PORTS];
	unsigned int statics; /* addresses */
	uint64_t checks, failed;
	char note[WHY_LEN]; /* what failed last time; "": nothing */
};

__attribute__((format(printf, 2, 3))) static int fail(struct watchdog *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->note, sizeof(w->note), fmt, ap);
	va_end(ap);
	return -EIO;
}

static uint64_t gpa(const struct watchdog *w, const void *at)
{
	return (uint64_t)((const char *)at - (const char *)w->ram);
}

/* ---- the check ---- */

static void post(struct watchdog *w, struct side *s)
{
	struct elisa_rx *ring = &s->ram->rx.ring;
	uint32_t at = s->rx_next % RING;

	ring->addr[at] = gpa(w, s->ram->buf[at]);
	__atomic_store_n(&ring->posted, s->rx_next + RING, __ATOMIC_RELEASE);
}

/* Every byte of it says which frame it is. */
static void fill(struct watchdog *w, unsigned int from, uint32_t len)
{
	uint8_t *frame = w->side[from].ram->sent;

	memcpy(frame, w->side[!from].mac, 6);
	memcpy(frame + 6, w->side[from].mac, 6);
	/* IEEE's first local experimental EtherType. */
	frame[12] = 0x88;
	frame[13] = 0xb5;
	for (uint32_t i = 14; i < len; i++)
		frame[i] = (uint8_t)(w->checks * 31 + len + i * 7 + from);
}

/* Takes what has arrived at `s`; the last must be as `sent`. */
static int receive(struct watchdog *w, struct side *s, const uint8_t *sent, uint32_t len)
{
	unsigned int count = 0;
	bool good = false;

	for (; count <= RING; count++) {
		const struct elisa_rxc *c = &s->ram->comp[s->rx_next % RING];

		if (__atomic_load_n(&c->seq, __ATOMIC_ACQUIRE) != s->rx_next + 1)
			break;
		good = c->len == len && !(c->flags & (ELISA_NET_MORE | ELISA_RXC_ABORTED)) &&
		       !memcmp(s->ram->buf[s->rx_next % RING], sent, len);
		s->rx_next++;
		post(w, s);
	}
	if (!count)
		return fail(w, "a frame of its own did not arrive");
	if (count > 1)
		return fail(w, "%u frames arrived for one of its own", count);
	return good ? 0 : fail(w, "a frame of its own arrived changed");
}

static int pass(struct watchdog *w, unsigned int from, uint32_t len)
{
	struct side *s = &w->side[from];
	int64_t ret;

	fill(w, from, len);
	s->ram->tx[s->tx_next % RING] =
		(struct elisa_txd){.addr = gpa(w, s->ram->sent), .len = (uint16_t)len};
	ret = vs_entry(w->caller, ELISA_NET_TX, (uint64_t)s->handle, 0, 1, 0);
	if (ret < 0)
		return fail(w, "the switch refused to send: %s", strerror((int)-ret));
	if ((ret & ELISA_TX_TAKEN) != 1)
		return fail(w, "the switch did not take a frame");
	s->tx_next++;
	return receive(w, &w->side[!from], s->ram->sent, len);
}

static int check(struct watchdog *w)
{
	static const uint32_t lens[] = {60, FRAME_MAX};
	int ret = 0;

	w->checks++;
	for (unsigned int from = 0; from < WATCHDOG_PORTS && w->caller && !ret; from++)
		for (unsigned int i = 0; i < 2 && !ret; i++)
			ret = pass(w, from, lens[i]);
	if (!ret && nics_late(w->daemon, w->note))
		ret = -EIO;
	return ret;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
	struct watchdog *w = user;
	char was[WHY_LEN];
	int ret;

	snprintf(was, sizeof(was), "%s", w->note);
	w->note[0] = '\0';
	ret = check(w);
	if (ret) {
		w->failed++;
		if (strcmp(was, w->note))
			event_say_why(w->daemon, EVENT_WATCHDOG, SD_ERR, NULL, NULL, "failed",
				      "the switch's own test failed: %s%s", w->note,
				      w->notify ? "; unless it passes again, the service manager "
						  "will restart the daemon"
						: "");
	} else {
		if (*was)
			event_say_why(w->daemon, EVENT_WATCHDOG, SD_NOTICE, NULL, NULL, "passed",
				      "the switch's own test passes again");
		if (w->notify)
			sd_notify(0, "WATCHDOG=1");
	}
	sd_event_source_set_time(source, now_us() + w->every);
	return 0;
}

/* ---- begin and end ---- */

static int side_open(struct watchdog *w, unsigned int i)
{
	struct side *s = &w->side[i];
	struct vs_port_config cfg = {.mtu = 1500,
				     .queues = 1,
				     .up = true,
				     .anti_spoof = true,
				     .groups = VS_GROUPS_DEFAULT,
				     .vlan = {.mode = VS_VLAN_ACCESS, .pvid = VS_VID_HIDDEN}};
	int ret;

	/* Nobody else's name: the generation is random. So is the address, as in ports_open(). */
	snprintf(cfg.name, sizeof(cfg.name), "_watchdog.%08x.%u", w->daemon->generation, i);
	memcpy(s->mac, w->side[0].mac, 6);
	s->mac[5] ^= (uint8_t)i;
	memcpy(cfg.mac, s->mac, 6);
	s->port = vs_port_add(w->daemon->vs, &cfg);
	if (s->port < 0)
		return s->port;
	ret = vs_port_bind(w->daemon->vs, s->port, w->guest);
	if (!ret)
		ret = vs_fdb_add(w->daemon->vs, s->mac, VS_VID_HIDDEN, s->port);
	w->statics += !ret;
	return ret;
}

static int side_set_up(struct watchdog *w, unsigned int i)
{
	struct side *s = &w->side[i];

	s->ram = (struct port_ram *)((char *)w->ram + i * PORT_RAM);
	s->ram->setup = (struct elisa_queue_setup){.revision = ELISA_NET_REVISION,
						   .port = (uint16_t)i,
						   .tx_size = RING,
						   .rx_size = RING,
						   .rx_buf_len = BUF_LEN,
						   .tx_ring = gpa(w, s->ram->tx),
						   .rx_ring = gpa(w, &s->ram->rx),
						   .rx_comp = gpa(w, s->ram->comp)};
	s->handle = vs_entry(w->caller, ELISA_NET_QUEUE_SETUP, gpa(w, &s->ram->setup), 0, 0, 0);
	if (s->handle < 0)
		return (int)s->handle;
	for (uint32_t b = 0; b < RING; b++)
		s->ram->rx.ring.addr[b] = gpa(w, s->ram->buf[b]);
	post(w, s);
	return 0;
}

static int ports_open(struct watchdog *w)
{
	struct vswitch *vs = w->daemon->vs;
	struct vs_region region = {0, WATCHDOG_PORTS * PORT_RAM, w->ram};
	int ret;

	if (getrandom(w->side[0].mac, 6, 0) != 6)
		return -EIO;
	w->side[0].mac[0] = (w->side[0].mac[0] & 0xfc) | 2;
	w->guest = vs_guest_add(vs, "_watchdog", &region, 1);
	if (w->guest < 0)
		return w->guest;
	ret = side_open(w, 0);
	if (!ret)
		ret = side_open(w, 1);
	if (!ret)
		ret = vs_caller_add(vs, w->guest, &w->caller);
	if (!ret)
		ret = side_set_up(w, 0);
	if (!ret)
		ret = side_set_up(w, 1);
	return ret;
}

/* There is nothing to give back at the end: the arena goes as a whole. Not so if it fails. */
static void ports_undo(struct watchdog *w)
{
	struct vswitch *vs = w->daemon->vs;

	for (unsigned int i = 0; i < WATCHDOG_PORTS; i++)
		if (w->side[i].port >= 0)
			vs_port_unbind(vs, w->side[i].port);
	if (w->caller)
		vs_caller_del(vs, w->caller);
	w->caller = NULL;
	for (unsigned int i = 0; i < WATCHDOG_PORTS; i++)
		if (w->side[i].port >= 0)
			vs_port_del(vs, w->side[i].port);
	if (w->guest >= 0)
		vs_guest_del(vs, w->guest);
	w->statics = 0;
}

int watchdog_open(struct daemon *d)
{
	struct watchdog *w = calloc(1, sizeof(*w));
	uint64_t usec = 0;
	int ret;

	if (!w)
		return -ENOMEM;
	d->watchdog = w;
	w->daemon = d;
	w->guest = w->side[0].port = w->side[1].port = -1;
	w->notify = sd_watchdog_enabled(0, &usec) > 0 && usec;
	w->every = w->notify ? usec / 3 : EVERY;
	w->ram = mmap(NULL, WATCHDOG_PORTS * PORT_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (w->ram == MAP_FAILED) {
		w->ram = NULL;
		return -ENOMEM;
	}
	ret = ports_open(w);
	if (ret) {
		log_warning("the watchdog has no ports of its own (%s): it does not test whether "
			    "frames pass%s",
			    strerror(-ret),
			    ret == -ENOSPC ? ": lower switch.max_ports, max_vms or max_callers" : "");
		ports_undo(w);
	}
	ret = sd_event_add_time(d->event, &w->timer, CLOCK_MONOTONIC, now_us(), w->every / 20,
				on_timer, w);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(w->timer, SD_EVENT_ON);
	return ret < 0 ? ret : 0;
}

void watchdog_close(struct daemon *d)
{
	struct watchdog *w = d->watchdog;

	if (!w)
		return;
	d->watchdog = NULL;
	sd_event_source_disable_unref(w->timer);
	if (w->ram)
		munmap(w->ram, WATCHDOG_PORTS * PORT_RAM);
	free(w);
}

/* ---- what others see of it ---- */

void fdb_stats(struct daemon *d, struct vs_fdb_stats *stats)
{
	vs_fdb_stats(d->vs, stats);
	if (d->watchdog) {
		stats->used -= d->watchdog->statics;
		stats->statics -= d->watchdog->statics;
	}
}

json_t *watchdog_json(struct daemon *d)
{
	struct watchdog *w = d->watchdog;

	if (!w)
		return json_null();
	return json_pack("{s:b, s:s, s:b, s:I, s:I, s:b, s:I}", "ok", !w->note[0], "note", w->note,
			 "frames", (int)!!w->caller, "checks", (json_int_t)w->checks, "failed",
			 (json_int_t)w->failed, "notifies", (int)w->notify, "every_ms",
			 (json_int_t)(w->every / MSEC));
}
