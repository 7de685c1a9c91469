/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * elisactl capture: frames of ports into a pcapng file. The daemon makes this process a guest of
 * the switch whose port gets copies of them; here the ring is read, filtered and written down.
 * Whoever is too slow at it misses frames, and nobody else does.
 *
 * There is no clock inside the switch: a frame's time is when it was seen here, some 1 ms late at
 * most while this process has a CPU. Their order is exact.
 */
#include "ctl.h"
#include "filter.h"
#include "pcapng.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <elisa/net.h>
#include <vswitch/vswitch.h>

#define FRAME_MAX     (ELISA_GSO_FRAME_MAX + 65536) /* and one buffer more */
#define INTERFACES    (1u << 10)		    /* VS_NOTE_PORT */
#define IDLE_MS	      1
#define POLLS_A_CLOCK 64 /* frames that share a look at the clock */

struct interface {
	bool used;
	char name[VS_NAME_LEN];
	uint32_t index; /* in the file */
	uint64_t seen, written;
};

struct capture {
	const char *socket;
	bool as_json;
	int sock;
	FILE *out;
	long long count, seconds, snap; /* 0: no limit */
	uint64_t written;

	uint8_t *mem;
	size_t size;
	uint32_t entries, buf_len;
	struct elisa_rx *rx;
	struct elisa_rxc *completions;
	uint8_t *buffers;
	uint32_t at; /* next completion */
	struct interface interface[INTERFACES];
	uint32_t interfaces;
	uint8_t frame[FRAME_MAX];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = 1;
}

/* ---- the connection ---- */

/* A line, and the descriptor that came with it. NULL: none. */
static char *receive_line(int sock, int *fd)
{
	char control[CMSG_SPACE(sizeof(int))], *line = NULL, *grown;
	size_t len = 0, size = 0;

	do {
		struct iovec vec;
		struct msghdr msg = {.msg_iov = &vec,
				     .msg_iovlen = 1,
				     .msg_control = control,
				     .msg_controllen = sizeof(control)};
		struct cmsghdr *c;
		ssize_t n;

		if (len + 1 >= size) {
			size += 65536;
			grown = realloc(line, size);
			if (!grown)
				break;
			line = grown;
		}
		vec = (struct iovec){line + len, size - len - 1};
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EINTR && !interrupted)
			continue;
		if (n <= 0)
			break;
		c = CMSG_FIRSTHDR(&msg);
		if (c && c->cmsg_type == SCM_RIGHTS && *fd < 0)
			memcpy(fd, CMSG_DATA(c), sizeof(*fd));
		len += (size_t)n;
		line[len] = '\0';
		if (line[len - 1] == '\n')
			return line;
	} while (1);
	free(line);
	return NULL;
}

static int ask(struct capture *c, const char *method, json_t *params, json_t **result, int *fd)
{
	char *line;
	int ret;

	ctl_send(c->sock, method, params);
	line = receive_line(c->sock, fd);
	ret = ctl_answer(c->socket, line, c->as_json, result);
	free(line);
	return ret;
}

/* Interfaces in the order of their names in the answer. */
static void take_ports(struct capture *c, json_t *ports)
{
	const char *id;
	json_t *name;

	json_object_foreach(ports, id, name)
	{
		unsigned long n = strtoul(id, NULL, 10);

		if (n >= INTERFACES || c->interface[n].used)
			continue;
		c->interface[n].used = true;
		c->interface[n].index = c->interfaces++;
		snprintf(c->interface[n].name, sizeof(c->interface[n].name), "%s",
			 json_string_value(name));
		pcapng_interface(c->out, c->interface[n].name, (uint32_t)c->snap);
	}
}

static int take_memory(struct capture *c, json_t *where, int fd)
{
	c->size = (size_t)num(where, "size");
	c->entries = (uint32_t)num(where, "entries");
	c->buf_len = (uint32_t)num(where, "buf_len");
	c->mem = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (c->mem == MAP_FAILED) {
		fprintf(stderr, "elisactl: capture: cannot map the ring: %s\n", strerror(errno));
		return CTL_REFUSED;
	}
	c->rx = (struct elisa_rx *)(void *)(c->mem + num(where, "rx"));
	c->completions = (struct elisa_rxc *)(void *)(c->mem + num(where, "completions"));
	c->buffers = c->mem + num(where, "buffers");
	/* All buffers are posted already, in the order of their addresses. */
	return CTL_OK;
}

/* ---- frames ---- */

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Of `len` bytes in c->frame. */
static void frame_write(struct capture *c, uint32_t note, uint32_t len, uint64_t time)
{
	struct interface *i = &c->interface[VS_NOTE_PORT(note)];
	uint32_t drop = VS_NOTE_DROP(note), whole = VS_NOTE_LEN(note);
	uint32_t length = whole > len ? whole : len;
	char comment[64];

	if (!i->used)
		return;
	i->seen++;
	if (!filter_takes(c->frame, len, length))
		return;
	snprintf(comment, sizeof(comment), "elisa: dropped: %s", drop ? drop_name(drop - 1) : "");
	pcapng_packet(c->out, &(struct pcapng_packet){
				      .interface = i->index,
				      .time = time,
				      .data = c->frame,
				      .captured = len,
				      .length = length,
				      .direction = VS_NOTE_RX(note) ? PCAPNG_IN : PCAPNG_OUT,
				      .comment = drop ? comment : NULL,
			      });
	i->written++;
	c->written++;
}

/* Completions of one frame that are all there; 0: not yet. */
static uint32_t frame_ready(const struct capture *c)
{
	for (uint32_t n = 0; n < c->entries; n++) {
		const struct elisa_rxc *done = &c->completions[(c->at + n) & (c->entries - 1)];

		if (__atomic_load_n(&done->seq, __ATOMIC_ACQUIRE) != c->at + n + 1)
			return 0;
		if (!(done->flags & ELISA_NET_MORE))
			return n + 1;
	}
	return 0;
}

static void frame_take(struct capture *c, uint32_t parts, uint64_t time)
{
	const struct elisa_rxc *first = &c->completions[c->at & (c->entries - 1)];
	const uint32_t note = first->hash;
	bool whole = first->flags & ELISA_RXC_HASH;
	uint32_t len = 0;

	for (uint32_t n = 0; n < parts; n++) {
		uint32_t slot = (c->at + n) & (c->entries - 1);
		const struct elisa_rxc *done = &c->completions[slot];

		whole = whole && !(done->flags & ELISA_RXC_ABORTED) && done->len <= c->buf_len &&
			len + done->len <= FRAME_MAX;
		if (!whole)
			continue;
		memcpy(c->frame + len, c->buffers + (size_t)slot * c->buf_len, done->len);
		len += done->len;
	}
	c->at += parts;
	__atomic_store_n(&c->rx->posted, c->at + c->entries, __ATOMIC_RELEASE);
	if (whole)
		frame_write(c, note, len, time);
}

static bool enough(const struct capture *c)
{
	return interrupted || ferror(c->out) || (c->count && c->written >= (uint64_t)c->count);
}

/* All that is there. */
static void take_frames(struct capture *c)
{
	uint64_t time = now_ns(CLOCK_REALTIME);
	uint32_t parts, n = 0;

	while ((!c->count || c->written < (uint64_t)c->count) && !ferror(c->out) &&
	       n < 2 * c->entries && (parts = frame_ready(c))) {
		frame_take(c, parts, time);
		if (++n % POLLS_A_CLOCK == 0)
			time = now_ns(CLOCK_REALTIME);
	}
}

static int capture_loop(struct capture *c)
{
	uint64_t end = now_ns(CLOCK_MONOTONIC) + (uint64_t)c->seconds * 1000000000;
	struct pollfd peer = {.fd = c->sock, .events = POLLIN};
	uint32_t before;

	while (!enough(c) && (!c->seconds || now_ns(CLOCK_MONOTONIC) < end)) {
		before = c->at;
		take_frames(c);
		if (c->at != before)
			continue;
		fflush(c->out);
		/* It says nothing unless asked: this is its end. */
		if (poll(&peer, 1, IDLE_MS) > 0) {
			take_frames(c);
			fprintf(stderr, "elisactl: %s: the daemon has ended\n", c->socket);
			return CTL_UNREACHABLE;
		}
	}
	take_frames(c);
	return CTL_OK;
}

/* ---- begin and end ---- */

static int finish(struct capture *c, int ret)
{
	json_t *result = NULL;
	uint64_t seen = 0, missed = 0, now = now_ns(CLOCK_REALTIME);
	int fd = -1;

	interrupted = 0;
	if (!ret && !ask(c, "capture.stats", json_object(), &result, &fd))
		missed = (uint64_t)num(result, "missed");
	json_decref(result);
	/* What was missed is not known by port. */
	for (uint32_t i = 0; i < INTERFACES; i++) {
		if (!c->interface[i].used)
			continue;
		seen += c->interface[i].seen;
		pcapng_statistics(c->out, c->interface[i].index, now, c->interface[i].seen,
				  c->interface[i].written, c->interface[i].index ? 0 : missed);
	}
	if (fflush(c->out) || ferror(c->out)) {
		fprintf(stderr, "elisactl: capture: the file was not written: %s\n",
			strerror(errno));
		ret = CTL_REFUSED;
	}
	fprintf(stderr, "elisactl: %llu frames written, %llu filtered out, %llu missed\n",
		(unsigned long long)c->written, (unsigned long long)(seen - c->written),
		(unsigned long long)missed);
	return ret;
}

static int open_out(struct capture *c, const char *path)
{
	int fd;

	if (!*path || !strcmp(path, "-")) {
		if (isatty(STDOUT_FILENO)) {
			fprintf(stderr, "elisactl: capture: give a file with -w, or a pipe: "
					"... | tcpdump -r -\n");
			return CTL_USAGE;
		}
		c->out = stdout;
		return CTL_OK;
	}
	/* Frames are others' secrets. */
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	c->out = fd < 0 ? NULL : fdopen(fd, "w");
	if (c->out)
		return CTL_OK;
	fprintf(stderr, "elisactl: capture: %s: %s\n", path, strerror(errno));
	return CTL_REFUSED;
}

static json_t *request_of(json_t *params)
{
	const char *direction = str(params, "direction"), *p = str(params, "port");
	json_t *request = json_object(), *what = json_array(), *ports = json_array();
	size_t len;

	if (strcmp(direction, "rx") && strcmp(direction, "none"))
		json_array_append_new(what, json_string("tx"));
	if (strcmp(direction, "tx") && strcmp(direction, "none"))
		json_array_append_new(what, json_string("rx"));
	if (is(params, "drops"))
		json_array_append_new(what, json_string("drops"));
	json_object_set_new(request, "what", what);
	for (; *p; p += len + (p[len] == ',')) {
		len = strcspn(p, ",");
		json_array_append_new(ports, json_stringn(p, len));
	}
	if (strcmp(str(params, "port"), "any"))
		json_object_set(request, "ports", ports);
	json_decref(ports);
	json_object_set_new(request, "snap", json_integer(num(params, "snap")));
	return request;
}

static int capture(struct capture *c, json_t *params)
{
	json_t *where = NULL;
	int fd = -1, ret = ask(c, "capture", request_of(params), &where, &fd);

	if (!ret && fd < 0) {
		fprintf(stderr, "elisactl: %s: no ring came with the answer\n", c->socket);
		ret = CTL_UNREACHABLE;
	}
	if (!ret) {
		pcapng_section(c->out, "elisactl " ELISA_VERSION);
		take_ports(c, json_object_get(where, "ports"));
		ret = take_memory(c, where, fd);
	}
	if (fd >= 0)
		close(fd);
	json_decref(where);
	if (ret)
		return ret;
	fflush(c->out);
	return finish(c, capture_loop(c));
}

int run_capture(const char *path, bool as_json, json_t *params)
{
	const struct sigaction action = {.sa_handler = on_signal};
	struct capture *c = calloc(1, sizeof(*c));
	FILE *sock = NULL;
	int ret = CTL_REFUSED;

	if (!c)
		goto out;
	c->socket = path;
	c->as_json = as_json;
	c->count = num(params, "count");
	c->seconds = num(params, "seconds");
	c->snap = num(params, "snap");
	ret = filter_compile(str(params, "filter"));
	if (!ret)
		ret = ctl_connect(path, &sock);
	if (!ret)
		ret = open_out(c, str(params, "file"));
	if (ret)
		goto out;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	c->sock = fileno(sock);
	ret = capture(c, params);
out:
	if (sock)
		fclose(sock);
	if (c && c->out && c->out != stdout && fclose(c->out))
		ret = CTL_REFUSED;
	filter_free();
	if (c && c->mem && c->mem != MAP_FAILED)
		munmap(c->mem, c->size);
	free(c);
	json_decref(params);
	return ret;
}
