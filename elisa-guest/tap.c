/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * elisa-tap: bridges a TAP interface of this VM to a port of the switch, so that any program uses
 * it.
 *
 * Roadmap of a round: frames of the RX rings are written to the TAP straight from their buffers;
 * then up to BURST frames are read from the TAP into TX buffers and sent by one call. After a round
 * without a frame it goes on looking at both sides for --spin microseconds. Then it sleeps on the
 * TAP's descriptor and on the doorbell's, which the sender of a frame rings. Without a doorbell an
 * arriving frame wakes nobody: sleeps double from the shorter to the longer time of --sleep. While
 * the link is down none arrives, and the CPU is left to who is to bring it up: it may be the same.
 *
 * A NIC of the switch is looked after as long as this program is awake: in each round and each look
 * without a frame, and in one of NIC_ROUNDS with some. While it sleeps the host does that, and
 * rings.
 *
 * Offloads: the TAP's frames have a header that says what is left to do for them, in both
 * directions; it goes into descriptors and comes from completions as it is.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <elisa/bell.h>

#include "tap-device.h"
#include "tap-offload.h"
#include "tool.h"

#define PROGRAM	   "elisa-tap"
#define BURST	   32
#define RX_BURST   64
#define SEGS	   (ELISA_RX_SEGS_MAX + 1)
#define POLL_US	   100000 /* between looks at the link */
#define DOWN_US	   20000  /* the same while it is down: nothing else can happen then */
#define NIC_ROUNDS 8
#define OFFLOADS   (ELISA_NET_F_CSUM | ELISA_NET_F_TSO4 | ELISA_NET_F_TSO6)
#define TX_LEN	   65535 /* of a TX buffer, with offloads: what a descriptor can say */

const char *argp_program_version = PROGRAM " " ELISA_VERSION;

struct options {
	const char *transport, *port, *mac, *stats_file, *pid_file, *log_file;
	const char *address[8];
	uint32_t addresses;
	char tap[IFNAMSIZ];
	uint64_t queues, spin_us, sleep_min_us, sleep_max_us, wait_s, rx_size, rx_buf_len;
	bool daemon, no_offload;
	enum { IDLE_AUTO, IDLE_POLL, IDLE_DOORBELL } idle;
};

struct stats {
	uint64_t to_switch_frames, to_switch_bytes; /* read from the TAP and taken */
	uint64_t to_tap_frames, to_tap_bytes;
	uint64_t tap_refused; /* frames that the TAP did not take */
	uint64_t not_sent;    /* read from the TAP, but the switch was away */
	uint64_t partial;     /* calls that took less than was put */
	uint64_t unsayable;   /* read from the TAP, with a request that the switch does not know */
	uint64_t rounds, sleeps, rung, downs, ups, resets, announced;
};

struct bridge {
	const struct options *options;
	struct elisa_guest *guest;
	struct elisa_port *port;
	struct tap tap;
	struct stats stats;
	bool up;
	bool tap_readable;	 /* perhaps */
	struct elisa_bell *bell; /* NULL: none to be woken by */
	bool armed_sleep;	 /* it can wake all our queues */
	uint32_t sleep_number;
	int sleep_fd; /* epoll on the TAP and the doorbell's eventfds */
};

static volatile sig_atomic_t stop_signal, stats_signal;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		stats_signal = 1;
	else
		stop_signal = sig;
}

/* ---- frames ---- */

static void write_frame(struct bridge *b, const struct elisa_rxq *q, const struct elisa_frame *f)
{
	const size_t header_len = b->tap.headers ? sizeof(struct virtio_net_hdr) : 0;
	uint32_t segs = f->segs < SEGS ? f->segs : SEGS;
	struct virtio_net_hdr header = tap_header_of(f);
	struct iovec iov[1 + SEGS];
	uint16_t len;
	ssize_t n;

	iov[0] = (struct iovec){&header, header_len};
	for (uint32_t i = 0; i < segs; i++) {
		iov[1 + i].iov_base = elisa_rx_seg(q, f, i, &len);
		iov[1 + i].iov_len = len;
	}
	n = writev(b->tap.fd, iov, (int)segs + 1);
	if (n == (ssize_t)(header_len + f->len)) {
		b->stats.to_tap_frames++;
		b->stats.to_tap_bytes += f->len;
	} else {
		b->stats.tap_refused++;
	}
}

static uint32_t switch_to_tap(struct bridge *b)
{
	struct elisa_frame frames[RX_BURST];
	uint32_t total = 0, n;

	for (uint32_t i = 0; i < b->options->queues; i++) {
		struct elisa_rxq *q = elisa_port_rxq(b->port, i);

		if (!elisa_rx_ready(q))
			continue;
		n = elisa_rx_burst(q, frames, RX_BURST);
		for (uint32_t k = 0; k < n; k++)
			write_frame(b, q, &frames[k]);
		elisa_rx_release(q);
		total += n;
	}
	return total;
}

/* Frames of a NIC, which may be for somebody else. */
static uint32_t nic_to_tap(struct bridge *b)
{
	return elisa_nic_poll(elisa_port_txq(b->port, 0)) ? switch_to_tap(b) : 0;
}

/* Sends what was put; asks again while some of it is taken. Returns the frames taken. */
static uint32_t send_all(struct bridge *b, struct elisa_txq *q, uint32_t n)
{
	uint32_t left = n;
	int idle = 0;

	while (left && idle < 3) {
		int64_t taken = elisa_tx_push(q, left);

		if (taken < 0)
			break;
		if (taken < left)
			b->stats.partial++;
		idle = taken ? 0 : idle + 1;
		left -= (uint32_t)taken;
	}
	b->stats.not_sent += left;
	return n - left;
}

/* One frame and what is left to do for it. False: none there. */
static bool read_frame(struct bridge *b, void *to, size_t room, size_t *len,
		       struct virtio_net_hdr *header)
{
	struct iovec iov[2] = {{header, sizeof(*header)}, {to, room}};
	const int first = b->tap.headers ? 0 : 1;
	ssize_t n = readv(b->tap.fd, iov + first, 2 - first);

	if (n <= 0)
		return false;
	if (!b->tap.headers)
		*header = (struct virtio_net_hdr){.gso_type = VIRTIO_NET_HDR_GSO_NONE};
	else
		n -= (ssize_t)sizeof(*header);
	*len = n < 0 ? 0 : (size_t)n;
	return true;
}

/* Puts it as number n. False: it cannot be sent. */
static bool put_frame(struct bridge *b, struct elisa_txq *q, uint32_t n, size_t len,
		      const struct virtio_net_hdr *header)
{
	struct tap_request r;

	if (len < ELISA_FRAME_MIN)
		return false;
	/* One that fills such a buffer was cut off. */
	if (!tap_request_of(header, &r) || (b->tap.headers && len >= TX_LEN)) {
		b->stats.unsayable++;
		return false;
	}
	elisa_tx_put_offload(q, n, q->buf_gpa[n], (uint16_t)len, r.flags, r.csum_start, r.gso_size);
	return true;
}

static uint32_t tap_to_switch(struct bridge *b)
{
	struct elisa_txq *q = elisa_port_txq(b->port, 0);
	const uint32_t room = q->bufs < BURST ? q->bufs : BURST;
	uint32_t lens[BURST], n = 0, taken;

	/* As the last read or sleep told, or somebody may have answered since. */
	if (!b->tap_readable)
		return 0;
	while (n < room) {
		struct virtio_net_hdr header;
		size_t len;

		if (!read_frame(b, q->buf[n], q->buf_len, &len, &header)) {
			b->tap_readable = false;
			break;
		}
		if (put_frame(b, q, n, len, &header))
			lens[n++] = (uint32_t)len;
	}
	if (!n)
		return 0;
	if (!b->up) {
		b->stats.not_sent += n;
		return n;
	}
	taken = send_all(b, q, n);
	b->stats.to_switch_frames += taken;
	for (uint32_t i = 0; i < taken; i++)
		b->stats.to_switch_bytes += lens[i];
	return n;
}

/* ---- link ---- */

static void set_link(struct bridge *b, bool up)
{
	b->up = up;
	tap_carrier(&b->tap, up);
}

/*
 * After a pause: who asked for our address meanwhile would wait for a second before asking again, and
 * a new switch does not know where we are.
 */
static void announce(struct bridge *b)
{
	struct elisa_txq *q = elisa_port_txq(b->port, 0);
	size_t len = tap_announcement(&b->tap, q->buf[0]);

	if (!len)
		return;
	elisa_tx_put(q, 0, q->buf_gpa[0], (uint16_t)len, 0);
	if (send_all(b, q, 1))
		b->stats.announced++;
}

static int set_offloads(struct bridge *b)
{
	if (!b->tap.headers)
		return 0;
	return tap_offload(&b->tap, elisa_port_info(b->port)->features & OFFLOADS, TX_LEN);
}

/* ---- the doorbell ---- */

/* Before the port: who is to be woken says so when its queues are set up. */
static int take_bell(struct bridge *b)
{
	const char *transport = b->options->transport;
	int rc;

	/* Without a VM there is none, but who asks for it may know better. */
	if (b->options->idle == IDLE_POLL ||
	    (b->options->idle == IDLE_AUTO && transport && strncmp(transport, "vmfunc", 6)))
		return 0;
	rc = elisa_bell_open(NULL, true, &b->bell);
	if (!rc)
		return 0;
	b->bell = NULL;
	/* Few VMs have one. If there is one that we cannot use, its owner wants to know. */
	if (rc != -ENODEV || b->options->idle == IDLE_DOORBELL)
		fprintf(stderr, PROGRAM ": %s: %s\n",
			b->options->idle == IDLE_DOORBELL ? "no doorbell" : "polling",
			elisa_bell_error());
	return b->options->idle == IDLE_DOORBELL ? rc : 0;
}

static bool sleep_on(struct bridge *b, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	return fd >= 0 && !epoll_ctl(b->sleep_fd, EPOLL_CTL_ADD, fd, &event);
}

/*
 * At each set-up of the port: does what the switch says to ring reach us? The eventfds are never
 * read: edge-triggered, each ring is an event of its own.
 */
static void match_bell(struct bridge *b)
{
	const uint32_t ring = elisa_port_info(b->port)->bell;

	if (b->sleep_fd >= 0)
		close(b->sleep_fd);
	b->sleep_fd = epoll_create1(EPOLL_CLOEXEC);
	b->armed_sleep = b->bell && ring && ring >> 16 == elisa_bell_id(b->bell) &&
			 sleep_on(b, b->tap.fd, EPOLLIN);
	for (uint32_t i = 0; b->armed_sleep && i < b->options->queues; i++) {
		struct elisa_txq *tx = elisa_port_txq(b->port, i);

		b->armed_sleep = sleep_on(b, elisa_bell_eventfd(b->bell, (ring & 0xffff) + i),
					  EPOLLIN | EPOLLET);
		/* It rings, too: nobody else can while we have it. */
		if (!tx->bell)
			tx->bell = b->bell;
	}
	if (b->bell && !b->armed_sleep)
		fprintf(stderr, PROGRAM ": %s: polling: the switch rings another doorbell\n",
			b->tap.name);
}

static void arm(struct bridge *b, bool on)
{
	for (uint32_t i = 0; i < b->options->queues; i++)
		__atomic_store_n(&elisa_port_rxq(b->port, i)->ring->event, on ? b->sleep_number : 0,
				 __ATOMIC_RELAXED);
	/* Pairs with the sender's barrier: it sees the number, or we see its frame. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void look_after(struct bridge *b)
{
	const struct elisa_port_info *info = elisa_port_info(b->port);
	int events = elisa_port_poll(b->port);

	if (events & ELISA_PORT_RESET) {
		b->stats.resets++;
		set_offloads(b);
		match_bell(b);
	}
	if (events & ELISA_PORT_CHANGED && !b->options->mac)
		tap_configure(&b->tap, info->mac, info->mtu);
	if (events & ELISA_PORT_DOWN) {
		b->stats.downs++;
		fprintf(stderr, PROGRAM ": %s: down: %s\n", b->tap.name,
			elisa_port_state_text(elisa_port_state(b->port)));
		set_link(b, false);
	}
	if (events & ELISA_PORT_UP) {
		b->stats.ups++;
		fprintf(stderr, PROGRAM ": %s: up\n", b->tap.name);
		set_link(b, true);
		announce(b);
	}
}

/* ---- statistics ---- */

static void print_stats(struct bridge *b, FILE *out)
{
	const struct elisa_port_info *info = elisa_port_info(b->port);
	const struct stats *s = &b->stats;
	struct elisa_port_counters counters;
	uint64_t calls = 0, aborted = 0, polls = 0, polled = 0;
	char mac[MAC_TEXT];

	for (uint32_t i = 0; i < b->options->queues; i++) {
		calls += elisa_port_txq(b->port, i)->calls;
		polls += elisa_port_txq(b->port, i)->polls;
		polled += elisa_port_txq(b->port, i)->polled;
		aborted += elisa_port_rxq(b->port, i)->aborted;
	}
	fprintf(out, "{\"tap\": \"%s\", \"port\": ", b->tap.name);
	tool_json_string(out, info->name);
	fprintf(out,
		", \"mac\": \"%s\", \"mtu\": %u, \"transport\": \"%s\", \"state\": \"%s\", "
		"\"calls\": %lu, \"partial\": %lu, \"to_switch_frames\": %lu, "
		"\"to_switch_bytes\": %lu, \"not_sent\": %lu, \"unsayable\": %lu, "
		"\"to_tap_frames\": %lu, "
		"\"to_tap_bytes\": %lu, \"tap_refused\": %lu, \"aborted\": %lu, \"rounds\": %lu, "
		"\"sleeps\": %lu, \"rung\": %lu, \"nic_polls\": %lu, \"nic_frames\": %lu, "
		"\"downs\": %lu, \"ups\": %lu, \"resets\": %lu, \"announced\": %lu",
		tool_mac_text(info->mac, mac), info->mtu, elisa_guest_transport(b->guest),
		elisa_port_state_text(elisa_port_state(b->port)), calls, s->partial,
		s->to_switch_frames, s->to_switch_bytes, s->not_sent, s->unsayable,
		s->to_tap_frames, s->to_tap_bytes, s->tap_refused, aborted, s->rounds, s->sleeps,
		s->rung, polls, polled, s->downs, s->ups, s->resets, s->announced);
	if (!elisa_port_counters(b->port, &counters)) {
		fprintf(out, ", \"switch\": {");
		tool_json_counters(out, &counters);
		fprintf(out, "}");
	}
	fprintf(out, "}\n");
	fflush(out);
}

/* To the file, which a reader never sees half-written, or to standard error. */
static void report(struct bridge *b)
{
	char name[4096];
	FILE *out;

	if (!b->options->stats_file) {
		print_stats(b, stderr);
		return;
	}
	snprintf(name, sizeof(name), "%s.new", b->options->stats_file);
	out = fopen(name, "we");
	if (!out) {
		fprintf(stderr, PROGRAM ": cannot write %s: %s\n", name, strerror(errno));
		return;
	}
	print_stats(b, out);
	if (fclose(out) || rename(name, b->options->stats_file))
		fprintf(stderr, PROGRAM ": cannot write %s: %s\n", b->options->stats_file,
			strerror(errno));
}

/* ---- the loop ---- */

static bool any_rx(struct bridge *b)
{
	for (uint32_t i = 0; i < b->options->queues; i++)
		if (elisa_rx_ready(elisa_port_rxq(b->port, i)))
			return true;
	return false;
}

static void tap_event(struct bridge *b, uint32_t events)
{
	b->tap_readable = true;
	if (events & (POLLERR | POLLHUP | POLLNVAL)) {
		fprintf(stderr, PROGRAM ": the interface %s was removed\n", b->tap.name);
		stop_signal = SIGTERM;
	}
}

/* Without a doorbell. */
static void sleep_for(struct bridge *b, uint64_t us)
{
	const struct timespec timeout = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
	struct pollfd fd = {.fd = b->tap.fd, .events = POLLIN};

	b->stats.sleeps++;
	if (ppoll(&fd, 1, &timeout, NULL) > 0)
		tap_event(b, (uint32_t)fd.revents);
}

/* Until a frame comes from either side, or it is time to look at the link. */
static void sleep_armed(struct bridge *b)
{
	struct epoll_event events[1 + ELISA_QUEUES_MAX];
	int n = 0;

	if (!++b->sleep_number)
		b->sleep_number = 1;
	arm(b, true);
	if (!any_rx(b)) {
		b->stats.sleeps++;
		n = epoll_wait(b->sleep_fd, events, 1 + ELISA_QUEUES_MAX, POLL_US / 1000);
	}
	arm(b, false);
	for (int i = 0; i < n; i++) {
		if (events[i].data.fd == b->tap.fd)
			tap_event(b, events[i].events);
		else
			b->stats.rung++;
	}
}

/*
 * Lets others have the CPU, and looks what came of it: a program that was sent something has its
 * answer on the TAP now. Without this each answer would cost a sleep, which ends at once.
 */
static bool spin(struct bridge *b)
{
	const uint64_t end = tool_now_us() + b->options->spin_us;

	do {
		sched_yield();
		b->tap_readable = true;
		if (any_rx(b) || tap_to_switch(b) || nic_to_tap(b))
			return true;
	} while (tool_now_us() < end);
	return false;
}

static void bridge_run(struct bridge *b)
{
	const struct options *o = b->options;
	uint64_t sleep_us = o->sleep_min_us, next_poll = 0;
	uint32_t work;

	while (!stop_signal) {
		uint64_t now = tool_now_us();

		if (now >= next_poll) {
			look_after(b);
			next_poll = now + (b->up ? POLL_US : DOWN_US);
		}
		if (stats_signal) {
			stats_signal = 0;
			report(b);
		}
		b->stats.rounds++;
		work = switch_to_tap(b);
		if (!work || b->stats.rounds % NIC_ROUNDS == 0)
			work += nic_to_tap(b);
		/* TCP may have acknowledged it already. */
		if (work)
			b->tap_readable = true;
		work += tap_to_switch(b);
		if (work) {
			sleep_us = o->sleep_min_us;
			continue;
		}
		if (!b->up) {
			sleep_for(b, DOWN_US);
			continue;
		}
		if (o->spin_us && spin(b))
			continue;
		if (b->armed_sleep) {
			sleep_armed(b);
			continue;
		}
		sleep_for(b, sleep_us);
		sleep_us = 2 * sleep_us < o->sleep_max_us ? 2 * sleep_us : o->sleep_max_us;
	}
}

/* ---- start and end ---- */

static int make_tap(struct bridge *b)
{
	const struct options *o = b->options;
	const struct elisa_port_info *info = elisa_port_info(b->port);
	uint8_t mac[6];
	int rc;

	memcpy(mac, info->mac, sizeof(mac));
	if (o->mac)
		tool_parse_mac(o->mac, mac);
	memcpy(b->tap.name, o->tap, IFNAMSIZ);
	b->tap.headers = !o->no_offload;
	rc = tap_open(&b->tap);
	if (!rc)
		rc = set_offloads(b);
	if (!rc)
		rc = tap_configure(&b->tap, mac, info->mtu);
	if (!rc)
		rc = tap_up(&b->tap);
	for (uint32_t i = 0; !rc && i < o->addresses; i++)
		rc = tap_add_address(&b->tap, o->address[i]);
	if (!rc)
		set_link(b, !elisa_port_state(b->port));
	return rc;
}

static void catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int write_pid(const char *path)
{
	FILE *f;

	if (!path)
		return 0;
	f = fopen(path, "we");
	if (!f || fprintf(f, "%d\n", (int)getpid()) < 0 || fclose(f)) {
		fprintf(stderr, PROGRAM ": cannot write %s: %s\n", path, strerror(errno));
		return -errno;
	}
	return 0;
}

static int bridge_start(struct bridge *b)
{
	const struct options *o = b->options;
	struct elisa_port_params params = {.queues = (uint32_t)o->queues,
					   .tx_bufs = BURST,
					   .tx_buf_len = o->no_offload ? 0 : TX_LEN,
					   .rx_size = (uint32_t)o->rx_size,
					   .rx_buf_len = (uint32_t)o->rx_buf_len,
					   .features = o->no_offload ? 0 : OFFLOADS};
	char mac[MAC_TEXT];
	int rc;

	b->tap.fd = -1;
	rc = tool_open_guest(PROGRAM, o->transport, o->wait_s, &b->guest);
	if (!rc)
		rc = take_bell(b);
	if (b->bell)
		params.features |= ELISA_NET_F_EVENT;
	if (!rc)
		rc = tool_open_port(PROGRAM, b->guest, o->port, &params, o->wait_s, &b->port);
	if (!rc)
		rc = make_tap(b);
	if (!rc)
		match_bell(b);
	if (!rc)
		rc = write_pid(o->pid_file);
	if (!rc)
		fprintf(stderr, PROGRAM ": %s is port %s, MAC %s, MTU %u, by %s, %s\n", b->tap.name,
			elisa_port_info(b->port)->name,
			tool_mac_text(elisa_port_info(b->port)->mac, mac),
			elisa_port_info(b->port)->mtu, elisa_guest_transport(b->guest),
			b->armed_sleep ? "woken by a doorbell" : "polling");
	return rc;
}

static void bridge_end(struct bridge *b)
{
	if (b->port && b->tap.fd >= 0)
		report(b);
	if (b->sleep_fd >= 0)
		close(b->sleep_fd);
	tap_close(&b->tap);
	elisa_port_close(b->port);
	elisa_bell_close(b->bell);
	elisa_guest_close(b->guest);
	if (b->options->pid_file)
		unlink(b->options->pid_file);
}

/* The parent waits until the child is at work or has failed, and exits accordingly. */
static int go_background(void)
{
	int pipe_fds[2];
	char status = 1;
	pid_t child;

	if (pipe2(pipe_fds, O_CLOEXEC))
		return -errno;
	child = fork();
	if (child < 0)
		return -errno;
	if (child) {
		close(pipe_fds[1]);
		if (read(pipe_fds[0], &status, 1) != 1)
			status = 1;
		_exit(status);
	}
	close(pipe_fds[0]);
	setsid();
	return pipe_fds[1];
}

/* From here on nobody's pipe is kept open; messages go to the log file, if there is one. */
static void tell_parent(int fd, char status, const char *log_file)
{
	int null, log;

	if (fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	log = log_file ? open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : null;
	if (log < 0)
		fprintf(stderr, PROGRAM ": cannot write %s: %s\n", log_file, strerror(errno));
	if (null >= 0) {
		dup2(null, 0);
		dup2(log >= 0 ? log : null, 1);
		dup2(log >= 0 ? log : null, 2);
	}
	if (write(fd, &status, 1) != 1)
		fprintf(stderr, PROGRAM ": the parent is gone\n");
	close(fd);
}

static int run(const struct options *o)
{
	struct bridge b = {.options = o, .tap.fd = -1, .sleep_fd = -1};
	int parent = -1, rc;

	if (o->daemon) {
		parent = go_background();
		if (parent < 0) {
			fprintf(stderr, PROGRAM ": cannot go to the background: %s\n",
				strerror(-parent));
			return 1;
		}
	}
	catch_signals();
	rc = bridge_start(&b);
	tell_parent(parent, rc ? 1 : 0, o->log_file);
	if (!rc)
		bridge_run(&b);
	bridge_end(&b);
	return rc ? 1 : 0;
}

/* ---- command line ---- */

enum {
	KEY_SPIN = 256,
	KEY_SLEEP,
	KEY_WAIT,
	KEY_STATS,
	KEY_PID,
	KEY_LOG,
	KEY_MAC,
	KEY_RX_SIZE,
	KEY_RX_BUF,
	KEY_OFFLOAD,
	KEY_IDLE
};

static const struct argp_option option_list[] = {
	{"port", 'p', "NAME|INDEX", 0, "Port of the switch (the first)", 0},
	{"transport", 't', "SPEC", 0, "vmfunc (default) or local:SOCKET[,OPTIONS] (no isolation)",
	 0},
	{"tap", 'i', "NAME", 0, "Name of the TAP interface (elisa%d)", 0},
	{"ip", 'a', "ADDR/LEN", 0, "Address to give it; up to eight times", 0},
	{"mac", KEY_MAC, "auto|MAC", 0, "Its MAC address (auto: the port's)", 0},
	{"queues", 'q', "N", 0, "Queue pairs of the port to serve (1)", 0},
	{"rx-size", KEY_RX_SIZE, "N", 0, "RX buffers of a queue, a power of two (512)", 0},
	{"rx-buffer", KEY_RX_BUF, "BYTES", 0, "Length of one (2048)", 0},
	{"offload", KEY_OFFLOAD, "on|off", 0,
	 "Checksums and TCP segmentation left to the other end, if it can, or the switch (on)", 0},
	{"idle", KEY_IDLE, "auto|poll|doorbell", 0,
	 "How to wait for frames: poll memory, be woken by the VM's doorbell device, or (auto) the "
	 "latter if it can be used",
	 0},
	{"spin", KEY_SPIN, "US", 0, "Look for frames this long before sleeping (20)", 0},
	{"sleep", KEY_SLEEP, "MIN:MAX", 0, "Sleep that long when idle, in microseconds (50:1000)",
	 0},
	{"wait", KEY_WAIT, "SECONDS", 0, "Wait for the switch at start (0)", 0},
	{"stats-file", KEY_STATS, "FILE", 0, "Where SIGUSR1 and the end write counters (stderr)",
	 0},
	{"pid-file", KEY_PID, "FILE", 0, "Write the process id there", 0},
	{"daemon", 'd', NULL, 0, "Go to the background once at work", 0},
	{"log-file", KEY_LOG, "FILE", 0, "With --daemon: where messages go then (nowhere)", 0},
	{0}};

static bool parse_sleep(struct options *o, const char *arg)
{
	char copy[64], *colon;

	snprintf(copy, sizeof(copy), "%s", arg);
	colon = strchr(copy, ':');
	if (!colon)
		return false;
	*colon = '\0';
	return tool_parse_number(copy, 1, 1000000, &o->sleep_min_us) &&
	       tool_parse_number(colon + 1, o->sleep_min_us, 1000000, &o->sleep_max_us);
}

/* False: a bad value. */
static bool parse_value(int key, const char *arg, struct options *o)
{
	switch (key) {
	case 'q':
		return tool_parse_number(arg, 1, ELISA_QUEUES_MAX, &o->queues);
	case KEY_RX_SIZE:
		return tool_parse_number(arg, ELISA_RING_MIN, ELISA_RING_MAX, &o->rx_size) &&
		       !(o->rx_size & (o->rx_size - 1));
	case KEY_RX_BUF:
		return tool_parse_number(arg, ELISA_RX_BUF_MIN, 65535, &o->rx_buf_len);
	case KEY_SPIN:
		return tool_parse_number(arg, 0, 1000000, &o->spin_us);
	case KEY_SLEEP:
		return parse_sleep(o, arg);
	case KEY_OFFLOAD:
		o->no_offload = !strcmp(arg, "off");
		return o->no_offload || !strcmp(arg, "on");
	case KEY_IDLE:
		o->idle = !strcmp(arg, "poll")	     ? IDLE_POLL
			  : !strcmp(arg, "doorbell") ? IDLE_DOORBELL
						     : IDLE_AUTO;
		return o->idle != IDLE_AUTO || !strcmp(arg, "auto");
	default:
		return tool_parse_number(arg, 0, 86400, &o->wait_s);
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	uint8_t mac[6];

	switch (key) {
	case 'p':
		o->port = arg;
		return 0;
	case 't':
		o->transport = arg;
		return 0;
	case 'i':
		if ((size_t)snprintf(o->tap, IFNAMSIZ, "%s", arg) >= IFNAMSIZ)
			argp_error(state, "\"%s...\": an interface's name has up to 15 bytes",
				   o->tap);
		return 0;
	case 'a':
		if (o->addresses == 8)
			argp_error(state, "\"%s\" is the ninth address", arg);
		o->address[o->addresses++] = arg;
		return 0;
	case KEY_MAC:
		o->mac = strcmp(arg, "auto") ? arg : NULL;
		if (o->mac && !tool_parse_mac(arg, mac))
			argp_error(state, "\"%s\" is no MAC address", arg);
		return 0;
	case KEY_STATS:
		o->stats_file = arg;
		return 0;
	case KEY_LOG:
		o->log_file = arg;
		return 0;
	case KEY_PID:
		o->pid_file = arg;
		return 0;
	case 'd':
		o->daemon = true;
		return 0;
	case 'q':
	case KEY_RX_SIZE:
	case KEY_RX_BUF:
	case KEY_SPIN:
	case KEY_SLEEP:
	case KEY_OFFLOAD:
	case KEY_IDLE:
	case KEY_WAIT:
		if (!parse_value(key, arg, o))
			argp_error(state, "\"%s\" is not a value for this option", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		option_list, parse,
		NULL,	     "Bridges a TAP interface of this VM to a port of its ELISA switch.",
		NULL,	     NULL,
		NULL};
	struct options o = {.tap = "elisa%d",
			    .queues = 1,
			    .spin_us = 20,
			    .sleep_min_us = 50,
			    .sleep_max_us = 1000};

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	return run(&o);
}
