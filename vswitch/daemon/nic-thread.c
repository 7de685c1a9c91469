/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread of a NIC. It owns the device, and the port's queues:
 *
 *	start the device -> who may serve it (nic-grant.c) -> set the queues up -> release the port
 *	-> serve, until it ends, or a caller died with a half of it, or the device fails
 *	-> hold the port -> queues down -> stop the device -> from the beginning
 *
 * "serve: daemon": it polls without pause while frames come, and sleeps longer and longer when none
 * do. "serve: guest": each millisecond it looks whether guests have done so, and does it if not.
 */
#include "nic.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define VIEW_US	     (100 * MSEC) /* link, statistics */
#define PASS_US	     MSEC	  /* "serve: guest" */
#define PASSES_IDLE  8		  /* ... that may be left out when guests do the work */
#define ROUNDS_BUSY  4		  /* that move nothing, before it sleeps */
#define SLEEP_US_MIN 5
#define HOLD_US	     SEC /* until a guest that keeps a half is named */
#define RETRY_US     (5 * SEC)
#define BEAT_US	     (3 * SEC)	 /* it shows itself at least so often, but for... */
#define DEVICE_US    (120 * SEC) /* ... a device's start or stop, and the check of its driver */

/* It promises to be back within `us`: see nics_late(). */
static void beat(struct nic_port *n, uint64_t us)
{
	__atomic_store_n(&n->beat, now_us() + us, __ATOMIC_RELAXED);
}

void nic_state(struct nic_port *n, enum nic_state state, const char *fmt, ...)
{
	char note[NIC_WHY_LEN];
	bool said;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(note, sizeof(note), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&n->lock);
	said = n->view.state == state && !strcmp(n->view.note, note);
	n->view.state = state;
	snprintf(n->view.note, sizeof(n->view.note), "%s", note);
	if (state != NIC_UP)
		n->view.link.up = false;
	pthread_mutex_unlock(&n->lock);
	if (state == NIC_FAILED && !said)
		nic_say(n, SD_ERR, "failed", "NIC %s: %s", n->set->port.vs.name, note);
	nic_poke(n->all->news);
}

static bool stopping(struct nic_port *n)
{
	bool stop;

	pthread_mutex_lock(&n->lock);
	stop = n->stop;
	pthread_mutex_unlock(&n->lock);
	return stop;
}

/* No guest is inside any more, or comes again. */
static bool alone(struct nic_port *n)
{
	bool yes;

	pthread_mutex_lock(&n->lock);
	yes = n->alone;
	pthread_mutex_unlock(&n->lock);
	return yes;
}

/* Until poked, at most `us`. */
static void rest(struct nic_port *n, uint64_t us)
{
	struct timespec t = {.tv_sec = (time_t)(us / SEC), .tv_nsec = (long)(us % SEC) * 1000};
	struct pollfd wake = {.fd = n->wake, .events = POLLIN};
	uint64_t count;

	if (ppoll(&wake, 1, &t, NULL) == 1 && read(n->wake, &count, sizeof(count)) < 0)
		return;
}

/* ---- hold and release ---- */

static void name_holder(struct nic_port *n, uint32_t owner)
{
	char name[VS_NAME_LEN];

	nic_say(n, SD_WARNING, "kept",
		"NIC %s: %s has stopped inside and keeps it: resume it, or detach it with --force",
		n->set->port.vs.name, nic_owner(n->all, owner, name));
}

/* Of some half: 0 if nobody has any (any more). */
static uint32_t holder(struct nic_port *n)
{
	struct vs_nic_status st;
	uint32_t owner = 0;

	if (vs_nic_status(n->all->daemon->vs, n->port->id, &st))
		return 0;
	for (unsigned int q = 0; q < st.queues && !owner; q++)
		owner = st.queue[q].rx.owner_guest ? st.queue[q].rx.owner_guest
						   : st.queue[q].tx.owner_guest;
	return owner;
}

/* Gives up only when nobody is left who could give it back. */
static void hold(struct nic_port *n)
{
	uint64_t since = now_us();
	uint32_t owner = 0;

	while (vs_nic_hold(n->all->daemon->vs, n->port->id) == -EAGAIN) {
		beat(n, BEAT_US);
		if (!owner && now_us() - since > HOLD_US && (owner = holder(n)) != 0)
			name_holder(n, owner);
		if (alone(n) && now_us() - since > HOLD_US)
			break;
		usleep(20);
	}
	beat(n, DEVICE_US);
}

/* Asks again while others are still in the rings. */
static int64_t call(struct nic_port *n, uint64_t op, uint64_t a1)
{
	uint64_t since = now_us();
	int64_t ret;

	while ((ret = vs_entry(n->caller, op, a1, 0, 0, 0)) == -ELISA_EAGAIN) {
		beat(n, DEVICE_US);
		if (alone(n) && now_us() - since > HOLD_US)
			break;
		usleep(20);
	}
	return ret;
}

static void queues_down(struct nic_port *n)
{
	for (unsigned int q = 0; n->set_up && q < n->port->set.vs.queues; q++)
		call(n, ELISA_NET_QUEUE_RESET, q);
	n->set_up = false;
}

static int queue_up(struct nic_port *n, unsigned int q)
{
	void *rxq, *txq;
	int ret = n->all->lib->queue(n->dev, q, n->setup, &rxq, &txq);

	if (ret)
		return ret;
	n->setup->revision = ELISA_NET_REVISION;
	n->setup->port = 0;
	n->setup->queue = (uint16_t)q;
	n->handle[q] = call(n, ELISA_NET_QUEUE_SETUP, (uint64_t)n->setup);
	if (n->handle[q] < 0)
		return (int)n->handle[q];
	return vs_nic_queue(n->all->daemon->vs, n->port->id, q, rxq, txq);
}

/* ---- the view of it, and what the event loop wants ---- */

static uint64_t lost_buffers(struct nic_port *n)
{
	struct nic_stats stats;

	return n->all->lib->stats(n->dev, &stats) ? 0 : stats.lost_buffers;
}

static void view_update(struct nic_port *n)
{
	const struct nic_lib *lib = n->all->lib;
	struct nic_link link = {.active = -1};
	struct nic_stats stats = {0};
	struct vs_nic_status status;
	uint32_t owner;
	bool news;

	lib->link(n->dev, &link);
	lib->stats(n->dev, &stats);
	if (vs_nic_status(n->all->daemon->vs, n->port->id, &status))
		memset(&status, 0, sizeof(status));
	owner = nic_watch_stopped(&n->watch, &status, now_us(), HOLD_US);
	if (owner)
		name_holder(n, owner);
	pthread_mutex_lock(&n->lock);
	news = memcmp(&n->view.link, &link, sizeof(link));
	n->again = n->again || (n->wants_link && link.up);
	n->view.link = link;
	n->view.stats = stats;
	n->view.status = status;
	pthread_mutex_unlock(&n->lock);
	if (news)
		nic_poke(n->all->news);
}

static void macs_tell(struct nic_port *n)
{
	struct nic_macs macs;
	bool new;
	int ret;

	pthread_mutex_lock(&n->lock);
	new = n->macs_new;
	n->macs_new = false;
	if (new)
		macs = n->macs;
	pthread_mutex_unlock(&n->lock);
	if (!new)
		return;
	ret = n->all->lib->macs(n->dev, (const uint8_t(*)[6])macs.mac, macs.queue, macs.count);
	if (ret >= 0 && (unsigned int)ret < macs.count && !n->set->promiscuous)
		nic_say(n, SD_INFO, "promiscuous",
			"NIC %s: it has filters for %d of %u addresses: promiscuous",
			n->set->port.vs.name, ret, macs.count);
	pthread_mutex_lock(&n->lock);
	n->view.filters = ret;
	n->view.addresses = macs.count;
	pthread_mutex_unlock(&n->lock);
}

/* ---- serving ---- */

/* What waits to be rung: the event loop does it. */
static void bells_take(struct nic_port *n, unsigned int q)
{
	int64_t bell;
	bool any = false;

	while ((bell = vs_entry(n->caller, ELISA_NET_BELL, (uint64_t)n->handle[q], 0, 0, 0)) > 0) {
		any = true;
		pthread_mutex_lock(&n->lock);
		/* No room: the event loop looks for sleepers by itself, too (vs_bells_due). */
		if (n->bell_count < NIC_BELLS)
			n->bells[n->bell_count++] = (uint32_t)bell;
		pthread_mutex_unlock(&n->lock);
	}
	if (any)
		nic_poke(n->all->news);
}

/* One round of queue q. Returns frames that came, or -errno. */
static int64_t serve_queue(struct nic_port *n, unsigned int q)
{
	int64_t ret = vs_entry(n->caller, ELISA_NET_POLL, (uint64_t)n->handle[q], 0, 0, 0);

	if (ret < 0)
		return ret == -ELISA_EBUSY ? 0 : ret;
	if (ret & ELISA_TX_BELL)
		bells_take(n, q);
	return ret & ELISA_TX_TAKEN;
}

/* Frames that the daemon has moved, both ways. */
static uint64_t moved(const struct vs_nic_status *st)
{
	uint64_t sum = 0;

	for (unsigned int q = 0; q < st->queues; q++)
		sum += st->queue[q].rx.frames_host + st->queue[q].tx.frames_host;
	return sum;
}

enum why_left { LEFT_STOP, LEFT_DIRTY, LEFT_AGAIN, LEFT_ERROR };

/* Looks at what may end the serving. `st` is filled. */
static bool left(struct nic_port *n, struct vs_nic_status *st, enum why_left *why)
{
	bool stop, again;

	beat(n, BEAT_US);
	pthread_mutex_lock(&n->lock);
	stop = n->stop;
	again = n->again;
	pthread_mutex_unlock(&n->lock);
	if (vs_nic_status(n->all->daemon->vs, n->port->id, st))
		memset(st, 0, sizeof(*st));
	*why = stop ? LEFT_STOP : st->dirty ? LEFT_DIRTY : again ? LEFT_AGAIN : LEFT_ERROR;
	return *why != LEFT_ERROR;
}

/* Now and then, while it is served. */
static void look_after(struct nic_port *n, uint64_t *last)
{
	uint64_t now = now_us();

	if (now - *last < VIEW_US)
		return;
	*last = now;
	macs_tell(n);
	view_update(n);
}

/* "serve: daemon" */
static enum why_left serve_by_host(struct nic_port *n)
{
	uint64_t view = 0, before = 0, sleep_us = SLEEP_US_MIN;
	unsigned int queues = n->port->set.vs.queues;
	struct vs_nic_status st;
	enum why_left why;

	for (unsigned int round = 1;; round++) {
		for (unsigned int q = 0; q < queues; q++)
			if (serve_queue(n, q) < 0)
				return LEFT_ERROR;
		if (round % ROUNDS_BUSY)
			continue;
		if (left(n, &st, &why))
			return why;
		look_after(n, &view);
		if (moved(&st) != before) {
			before = moved(&st);
			sleep_us = SLEEP_US_MIN;
		} else if (n->set->idle_us) {
			rest(n, sleep_us);
			sleep_us = sleep_us * 2 < n->set->idle_us ? sleep_us * 2 : n->set->idle_us;
		}
	}
}

/* A pass over the queues that guests did not look after since the last one. */
static bool housekeep(struct nic_port *n, const struct vs_nic_status *st, bool all)
{
	int64_t ret;

	for (unsigned int q = 0; q < st->queues; q++) {
		bool served = nic_watch_served(&n->watch, st, q);

		for (unsigned int i = 0; (!served || all) && i < NIC_PASS_ROUNDS; i++) {
			ret = serve_queue(n, q);
			if (ret < 0)
				return false;
			if (!ret)
				break;
		}
	}
	return true;
}

/* "serve: guest" */
static enum why_left serve_by_guests(struct nic_port *n)
{
	uint64_t view = 0;
	struct vs_nic_status st;
	enum why_left why;

	for (unsigned int pass = 0;; pass++) {
		if (left(n, &st, &why))
			return why;
		if (!housekeep(n, &st, pass % PASSES_IDLE == 0))
			return LEFT_ERROR;
		look_after(n, &view);
		rest(n, PASS_US);
	}
}

/* ---- up and down ---- */

static int bring_up(struct nic_port *n)
{
	struct daemon *d = n->all->daemon;
	char why[NIC_WHY_LEN] = "";
	unsigned int q = 0;
	struct nic_info info = {.queues = 0};
	int ret;

	beat(n, DEVICE_US);
	ret = n->all->lib->start(n->dev, why);
	if (ret) {
		nic_state(n, NIC_FAILED, "it does not start: %.400s",
			  why[0] ? why : strerror(-ret));
		return ret;
	}
	if (nic_decide(n)) {
		ret = n->all->lib->start(n->dev, why);
		if (ret) {
			nic_state(n, NIC_FAILED, "it does not start after the check: %.400s", why);
			return ret;
		}
	}
	n->all->lib->info(n->dev, &info);
	while ((ret = heap_ready(n->all, why)) == -EAGAIN && !stopping(n)) {
		beat(n, DEVICE_US);
		rest(n, 10 * MSEC);
	}
	if (ret) {
		nic_state(n, NIC_FAILED, "%s", why);
		return ret;
	}
	n->set_up = true;
	for (; q < n->port->set.vs.queues && !ret; q++)
		ret = queue_up(n, q);
	if (!ret)
		ret = vs_nic_release(d->vs, n->port->id);
	if (ret) {
		nic_state(n, NIC_FAILED, "queue %u was not set up: %s", q ? q - 1 : 0,
			  strerror(-ret));
		return ret;
	}
	pthread_mutex_lock(&n->lock);
	n->view.info = info;
	n->macs_new = true; /* the device may have forgotten */
	pthread_mutex_unlock(&n->lock);
	nic_state(n, NIC_UP, "%s", "");
	return 0;
}

static void bring_down(struct nic_port *n)
{
	hold(n);
	queues_down(n);
	n->all->lib->stop(n->dev);
}

/* From a dirty half to a clean port. */
static int reset(struct nic_port *n)
{
	uint64_t since = now_us(), us, lost = lost_buffers(n);
	char dead[VS_NAME_LEN];
	int ret;

	pthread_mutex_lock(&n->all->heap_lock);
	snprintf(dead, sizeof(dead), "%s", n->all->last_gone);
	pthread_mutex_unlock(&n->all->heap_lock);
	nic_state(n, NIC_RESETTING, "%s died with it", dead);
	bring_down(n);
	ret = bring_up(n);
	lost = lost_buffers(n) - lost;
	us = now_us() - since;
	pthread_mutex_lock(&n->lock);
	n->view.resets++;
	n->view.last_reset_us = us;
	pthread_mutex_unlock(&n->lock);
	if (!ret)
		nic_say(n, SD_WARNING, "reset",
			"NIC %s: VM %s died with it: reset in %llu.%llu ms, %llu buffers lost",
			n->set->port.vs.name, dead, (unsigned long long)us / 1000,
			(unsigned long long)us % 1000 / 100, (unsigned long long)lost);
	return ret;
}

static enum why_left serve(struct nic_port *n)
{
	enum vs_nic_serve served;

	pthread_mutex_lock(&n->lock);
	served = n->view.served;
	pthread_mutex_unlock(&n->lock);
	return served == VS_NIC_BY_GUESTS ? serve_by_guests(n) : serve_by_host(n);
}

static void *nic_main(void *arg)
{
	struct nic_port *n = arg;
	enum why_left why = LEFT_AGAIN;
	char name[16];
	int ret;

	snprintf(name, sizeof(name), "nic-%.11s", n->set->port.vs.name);
	prctl(PR_SET_NAME, name);
	prctl(PR_SET_TIMERSLACK, 1000ul);
	ret = bring_up(n);
	while (!stopping(n)) {
		if (ret) {
			bring_down(n);
			beat(n, RETRY_US + BEAT_US);
			rest(n, RETRY_US);
			if (!stopping(n))
				ret = bring_up(n);
			continue;
		}
		why = serve(n);
		if (why == LEFT_STOP)
			break;
		if (why == LEFT_ERROR)
			nic_say(n, SD_ERR, "queues-gone",
				"NIC %s: its queues are gone: it is set up anew",
				n->set->port.vs.name);
		if (why == LEFT_DIRTY) {
			ret = reset(n);
			continue;
		}
		bring_down(n);
		ret = bring_up(n);
	}
	bring_down(n);
	nic_state(n, NIC_STOPPED, "the daemon is stopping");
	return NULL;
}

int nic_thread_start(struct nic_port *n)
{
	int ret;

	beat(n, DEVICE_US);
	ret = -pthread_create(&n->thread, NULL, nic_main, n);
	n->running = !ret;
	return ret;
}
