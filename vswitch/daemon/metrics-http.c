/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * HTTP/1.1 for scrapers: GET and HEAD of /metrics, one request a connection. As bounded as the
 * control socket: so many connections, so many bytes, so many seconds; nothing waits for anybody.
 * The 200 lines are ours because the libraries for it bring TLS, and seven more, into this process.
 */
#include "daemon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEERS_MAX   16
#define REQUEST_MAX 8192u
#define DRAIN_MAX   65536u /* thrown away after the answer, so that the answer arrives */
#define PEER_TIME   (5 * SEC)
#define CACHE_TIME  (100 * MSEC) /* scrapes cost at most ten texts a second */

struct peer {
	TAILQ_ENTRY(peer) link;
	struct web *web;
	int fd;
	sd_event_source *io, *timer;
	char in[REQUEST_MAX];
	size_t in_len, drained;
	char *out;
	size_t out_pos, out_len;
};

struct web {
	struct daemon *daemon;
	int fd[2]; /* Unix, TCP */
	sd_event_source *source[2];
	unsigned int count;
	TAILQ_HEAD(, peer) peers; /* oldest first */
	struct {
		char *text;
		size_t len;
		uint64_t made;
	} cache[2];
};

static void peer_free(struct peer *p)
{
	TAILQ_REMOVE(&p->web->peers, p, link);
	p->web->count--;
	sd_event_source_disable_unref(p->io);
	sd_event_source_disable_unref(p->timer);
	close(p->fd);
	free(p->out);
	free(p);
}

/* ---- the answer ---- */

static int answer(struct peer *p, const char *status, const char *type, const char *body,
		  size_t len, bool with_body)
{
	int n = asprintf(&p->out,
			 "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
			 "Connection: close\r\n\r\n",
			 status, type, len, *status == '4' ? "Allow: GET, HEAD\r\n" : "");
	char *whole;

	if (n < 0) {
		p->out = NULL;
		return -ENOMEM;
	}
	p->out_len = (size_t)n;
	if (!with_body)
		return 0;
	whole = realloc(p->out, p->out_len + len);
	if (!whole)
		return -ENOMEM;
	p->out = whole;
	memcpy(whole + p->out_len, body, len);
	p->out_len += len;
	return 0;
}

static int complain(struct peer *p, const char *status, const char *text)
{
	return answer(p, status, "text/plain; charset=utf-8", text, strlen(text), true);
}

static int metrics(struct peer *p, bool openmetrics, bool with_body)
{
	struct web *web = p->web;
	uint64_t now = now_us();

	if (!web->cache[openmetrics].text || now - web->cache[openmetrics].made > CACHE_TIME) {
		free(web->cache[openmetrics].text);
		web->cache[openmetrics].text =
			metrics_text(web->daemon, openmetrics, &web->cache[openmetrics].len);
		/* Not from when it was begun: a large switch's may take longer than it is kept. */
		web->cache[openmetrics].made = now_us();
	}
	if (!web->cache[openmetrics].text)
		return -ENOMEM;
	return answer(p, "200 OK", openmetrics ? METRICS_TYPE_OPENMETRICS : METRICS_TYPE_PROMETHEUS,
		      web->cache[openmetrics].text, web->cache[openmetrics].len, with_body);
}

/* `header` is terminated; lines end with "\n". */
static bool wants_openmetrics(const char *header)
{
	static const char name[] = "Accept:", type[] = "application/openmetrics-text";
	const char *line = header, *end, *found;

	while ((line = strchr(line, '\n'))) {
		line++;
		if (strncasecmp(line, name, sizeof(name) - 1))
			continue;
		end = strchrnul(line, '\n');
		found = strcasestr(line, type);
		if (found && found < end)
			return true;
	}
	return false;
}

static int request(struct peer *p)
{
	char method[8], target[256];
	int minor;

	if (sscanf(p->in, "%7s %255s HTTP/1.%1d", method, target, &minor) != 3)
		return complain(p, "400 Bad Request", "not a request of HTTP/1.1\n");
	if (strcmp(method, "GET") && strcmp(method, "HEAD"))
		return complain(p, "405 Method Not Allowed", "GET and HEAD only\n");
	target[strcspn(target, "?")] = '\0';
	if (strcmp(target, "/metrics"))
		return complain(p, "404 Not Found", "there is /metrics only\n");
	return metrics(p, wants_openmetrics(p->in), !strcmp(method, "GET"));
}

/* ---- a connection ---- */

/* True: it is over. */
static bool peer_write(struct peer *p)
{
	ssize_t n = send(p->fd, p->out + p->out_pos, p->out_len - p->out_pos,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno != EAGAIN && errno != EINTR;
	p->out_pos += (size_t)n;
	if (p->out_pos < p->out_len)
		return false;
	shutdown(p->fd, SHUT_WR);
	sd_event_source_set_io_events(p->io, EPOLLIN);
	return false;
}

static bool peer_drain(struct peer *p)
{
	ssize_t n = recv(p->fd, p->in, sizeof(p->in), MSG_DONTWAIT);

	if (n < 0)
		return errno != EAGAIN && errno != EINTR;
	p->drained += (size_t)n;
	return !n || p->drained > DRAIN_MAX;
}

static bool peer_read(struct peer *p)
{
	ssize_t n = recv(p->fd, p->in + p->in_len, sizeof(p->in) - 1 - p->in_len, MSG_DONTWAIT);
	int ret;

	if (n <= 0)
		return !n || (errno != EAGAIN && errno != EINTR);
	p->in_len += (size_t)n;
	p->in[p->in_len] = '\0';
	if (memchr(p->in, '\0', p->in_len))
		ret = complain(p, "400 Bad Request", "not a request of HTTP/1.1\n");
	else if (strstr(p->in, "\r\n\r\n") || strstr(p->in, "\n\n"))
		ret = request(p);
	else if (p->in_len == sizeof(p->in) - 1)
		ret = complain(p, "431 Request Header Fields Too Large", "too long\n");
	else
		return false;
	if (ret)
		return true;
	sd_event_source_set_io_events(p->io, EPOLLOUT);
	return peer_write(p);
}

static int on_peer(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct peer *p = user;
	bool over;

	if (!p->out)
		over = peer_read(p);
	else if (p->out_pos < p->out_len)
		over = peer_write(p);
	else
		over = peer_drain(p);
	if (over)
		peer_free(p);
	return 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *user)
{
	peer_free(user);
	return 0;
}

static void peer_new(struct web *web, int fd)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (!p) {
		close(fd);
		return;
	}
	/* Who holds on to a connection without asking loses it to the next. */
	if (web->count >= PEERS_MAX)
		peer_free(TAILQ_FIRST(&web->peers));
	p->web = web;
	p->fd = fd;
	TAILQ_INSERT_TAIL(&web->peers, p, link);
	web->count++;
	if (sd_event_add_io(web->daemon->event, &p->io, fd, EPOLLIN, on_peer, p) < 0 ||
	    sd_event_add_time(web->daemon->event, &p->timer, CLOCK_MONOTONIC, now_us() + PEER_TIME,
			      100 * MSEC, on_late, p) < 0)
		peer_free(p);
}

static int on_accept(sd_event_source *source, int listener, uint32_t revents, void *user)
{
	for (int i = 0; i < PEERS_MAX; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		peer_new(user, fd);
	}
	return 0;
}

/* ---- the sockets ---- */

static int tcp_listen(uint16_t port)
{
	const struct sockaddr_in addr = {.sin_family = AF_INET,
					 .sin_port = htons(port),
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, ret;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) || listen(fd, PEERS_MAX)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

static int web_listen(struct web *web, unsigned int i, int fd)
{
	int ret;

	if (fd < 0)
		return fd;
	ret = sd_event_add_io(web->daemon->event, &web->source[i], fd, EPOLLIN, on_accept, web);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	web->fd[i] = fd;
	return 0;
}

int web_open(struct daemon *d)
{
	const struct metrics_setting *set = &d->set.metrics;
	struct web *web;
	int ret;

	if (!set->enable)
		return 0;
	web = calloc(1, sizeof(*web));
	if (!web)
		return -ENOMEM;
	web->daemon = d;
	web->fd[0] = web->fd[1] = -1;
	TAILQ_INIT(&web->peers);
	d->web = web;
	ret = web_listen(web, 0, socket_listen(set->socket, set->gid));
	if (ret) {
		log_error("metrics socket %s: %s: set metrics.socket, or metrics.enable = false",
			  set->socket, strerror(-ret));
		return ret;
	}
	if (!set->port)
		return 0;
	ret = web_listen(web, 1, tcp_listen((uint16_t)set->port));
	if (ret)
		log_error("metrics port 127.0.0.1:%lld: %s%s", set->port, strerror(-ret),
			  ret == -EADDRINUSE ? ": set metrics.port to a free one, or leave it out"
			  : ret == -EAFNOSUPPORT
				  ? ": the unit allows Unix sockets only: see docs/observing.md"
				  : "");
	return ret;
}

void web_close(struct daemon *d)
{
	struct web *web = d->web;

	if (!web)
		return;
	d->web = NULL;
	while (!TAILQ_EMPTY(&web->peers))
		peer_free(TAILQ_FIRST(&web->peers));
	for (int i = 0; i < 2; i++) {
		sd_event_source_disable_unref(web->source[i]);
		if (web->fd[i] >= 0)
			close(web->fd[i]);
		free(web->cache[i].text);
	}
	if (web->fd[0] >= 0)
		unlink(d->set.metrics.socket);
	free(web);
}
