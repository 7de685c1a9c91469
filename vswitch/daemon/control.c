/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket: JSON-RPC 2.0, one object a line, in both directions. Peers are known by the
 * kernel's word (SO_PEERCRED). Every buffer and count has a bound, and nothing waits for a client:
 * one that does not read is not read from either, and is cut off past OUT_MAX.
 */
#include "daemon.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS_MAX    64
#define LINE_MAX_BYTES 65536u	    /* of one request */
#define OUT_STOP       (1u << 20)   /* more than this unsent: its requests have to wait */
#define OUT_MAX	       (160u << 20) /* more than this unsent: cut off */
#define REQUESTS_MAX   32	    /* of one client, waiting */
#define LINES_MAX      16	    /* of one client, before others have their turn */

struct client {
	TAILQ_ENTRY(client) link;
	struct control *control;
	int fd;
	sd_event_source *source;
	char in[LINE_MAX_BYTES];
	size_t in_len;
	char *out;
	size_t out_pos, out_len, out_size; /* unsent: out_len bytes from out_pos */
	bool more;			   /* lines are left for its next turn */
	bool closing;			   /* once all is sent */
	bool dead;			   /* to be freed when nothing works on it */
	bool subscribed;		   /* to events */
	uint64_t events_lost;		   /* not told yet */
	unsigned int waiting;
	TAILQ_HEAD(, request) requests;
};

struct control {
	struct daemon *daemon;
	int fd;
	sd_event_source *source;
	unsigned int count;
	TAILQ_HEAD(, client) clients;
};

/* ---- out ---- */

static void client_free(struct client *c)
{
	struct request *req;

	TAILQ_FOREACH(req, &c->requests, client_link)
	req->client = NULL; /* goes on without; its answer is dropped */
	capture_client_gone(c->control->daemon, c);
	TAILQ_REMOVE(&c->control->clients, c, link);
	c->control->count--;
	sd_event_source_disable_unref(c->source);
	close(c->fd);
	free(c->out);
	free(c);
}

static void client_events(struct client *c)
{
	uint32_t events = 0;

	if (c->out_len || c->more)
		events |= EPOLLOUT;
	if (!c->closing && !c->more && c->out_len < OUT_STOP && c->waiting < REQUESTS_MAX)
		events |= EPOLLIN;
	sd_event_source_set_io_events(c->source, events);
}

static void client_flush(struct client *c)
{
	ssize_t n;

	while (c->out_len && !c->dead) {
		n = send(c->fd, c->out + c->out_pos, c->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			c->dead = true;
		if (n < 0)
			break;
		c->out_pos += (size_t)n;
		c->out_len -= (size_t)n;
	}
	if (!c->out_len)
		c->out_pos = 0;
	if (!c->out_len && c->out_size > OUT_STOP) {
		free(c->out);
		c->out = NULL;
		c->out_size = 0;
	}
	if (c->closing && !c->out_len)
		c->dead = true;
}

/* A line. */
static void client_send_text(struct client *c, const char *text)
{
	size_t len = strlen(text), size;
	char *out;

	if (c->out_len + len + 1 > OUT_MAX) {
		c->dead = true;
		return;
	}
	if (c->out_pos && c->out_pos + c->out_len + len + 1 > c->out_size) {
		memmove(c->out, c->out + c->out_pos, c->out_len);
		c->out_pos = 0;
	}
	if (c->out_len + len + 1 > c->out_size) {
		size = 2 * (c->out_len + len + 1); /* not a copy of all for each line */
		out = realloc(c->out, size);
		if (!out) {
			c->dead = true;
			return;
		}
		c->out = out;
		c->out_size = size;
	}
	memcpy(c->out + c->out_pos + c->out_len, text, len);
	c->out[c->out_pos + c->out_len + len] = '\n';
	c->out_len += len + 1;
	client_flush(c);
}

/* Not by json_dumps(): where memory lacks on its way, what it returns has holes. */
static char *text_of(const json_t *message)
{
	size_t len = json_dumpb(message, NULL, 0, JSON_COMPACT);
	char *text = len ? malloc(len + 1) : NULL;

	if (text && json_dumpb(message, text, len, JSON_COMPACT) != len) {
		free(text);
		return NULL;
	}
	if (text)
		text[len] = '\0';
	return text;
}

static void client_send(struct client *c, json_t *message)
{
	char *text = text_of(message);

	json_decref(message);
	if (text)
		client_send_text(c, text);
	else
		c->dead = true;
	free(text);
}

/* With a descriptor, which goes with the first byte: nothing may wait before it. */
static void client_send_fd(struct client *c, json_t *message, int fd)
{
	char *text = text_of(message);
	ssize_t n = -1;

	if (text && !c->out_len)
		n = elisa_send_fd(c->fd, text, 1, fd, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == 1)
		client_send_text(c, text + 1);
	else
		c->dead = true;
	free(text);
	json_decref(message);
}

void client_peer(struct client *c, pid_t *pid, uid_t *uid)
{
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);

	if (c)
		getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	*pid = cred.pid;
	*uid = cred.uid;
}

/* ---- events ---- */

static void client_event(struct client *c, json_t *event)
{
	json_t *params;

	if (c->out_len >= OUT_STOP) {
		c->events_lost++;
		return;
	}
	params = json_copy(event);
	if (c->events_lost)
		json_object_set_new(params, "lost_before", json_integer((json_int_t)c->events_lost));
	c->events_lost = 0;
	client_send(c, json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", "event", "params",
				 params));
	if (!c->dead)
		client_events(c);
	else
		work_soon(c->control->daemon, 0); /* whoever calls may be working on it */
}

bool control_subscribers(struct daemon *d)
{
	struct client *c;

	if (d->control)
		TAILQ_FOREACH(c, &d->control->clients, link)
	if (c->subscribed && !c->dead)
		return true;
	return false;
}

void control_publish(struct daemon *d, json_t *event)
{
	struct client *c;

	TAILQ_FOREACH(c, &d->control->clients, link)
	if (c->subscribed && !c->dead)
		client_event(c, event);
	json_decref(event);
}

void control_subscribe(struct request *req)
{
	if (req->client)
		req->client->subscribed = true;
}

/* ---- requests ---- */

static void request_end(struct request *req, json_t *message, int fd)
{
	struct client *c = req->client;

	/* What has been answered is not forgotten, whatever happens to the daemon next. */
	if (req->daemon->state_dirty)
		state_save(req->daemon);
	if (c) {
		TAILQ_REMOVE(&c->requests, req, client_link);
		c->waiting--;
	}
	if (c && req->id) {
		if (fd < 0)
			client_send(c, message);
		else
			client_send_fd(c, message, fd);
		if (!c->dead)
			client_events(c);
		/* Ending it, and lines that had to wait, are control_work()'s. */
		if (c->dead || c->closing || c->in_len)
			work_soon(req->daemon, 0);
	} else {
		json_decref(message);
	}
	json_decref(req->id);
	free(req);
}

void request_reply(struct request *req, json_t *result)
{
	request_reply_fd(req, result, -1);
}

void request_reply_fd(struct request *req, json_t *result, int fd)
{
	request_end(req,
		    json_pack("{s:s, s:O?, s:o}", "jsonrpc", "2.0", "id", req->id, "result",
			      result ? result : json_null()),
		    fd);
}

static json_t *error_message(json_t *id, int code, const char *text, json_t *data)
{
	json_t *message = json_string(text);

	if (!message) /* not UTF-8: a name from outside */
		message = json_string("error (its text is not UTF-8)");
	return json_pack("{s:s, s:O?, s:{s:i, s:o, s:o*}}", "jsonrpc", "2.0", "id", id, "error",
			 "code", code, "message", message, "data", data);
}

void request_error(struct request *req, int code, json_t *data, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	request_end(req, error_message(req->id, code, text, data), -1);
}

static void client_error(struct client *c, int code, const char *text)
{
	client_send(c, error_message(NULL, code, text, NULL));
}

static void client_object(struct client *c, json_t *message)
{
	json_t *id = json_object_get(message, "id"), *params = json_object_get(message, "params");
	const char *version = json_string_value(json_object_get(message, "jsonrpc"));
	const char *method = json_string_value(json_object_get(message, "method"));
	struct request *req;

	if (!version || strcmp(version, "2.0") || !method ||
	    (id && !json_is_string(id) && !json_is_number(id) && !json_is_null(id))) {
		client_error(c, RPC_INVALID,
			     "not a request of JSON-RPC 2.0: send {\"jsonrpc\":\"2.0\","
			     "\"id\":1,\"method\":\"status\"} and the like, one a line");
		return;
	}
	req = calloc(1, sizeof(*req));
	if (!req) {
		c->dead = true;
		return;
	}
	req->daemon = c->control->daemon;
	req->client = c;
	req->id = json_incref(id);
	TAILQ_INSERT_TAIL(&c->requests, req, client_link);
	c->waiting++;
	if (params && !json_is_object(params))
		request_error(req, RPC_PARAMS, NULL, "params must be an object, with names");
	else
		method_call(req, method, params);
}

static void client_line(struct client *c, const char *line, size_t len)
{
	char text[256];
	json_error_t error;
	json_t *message;

	if (!len || (len == 1 && *line == '\r'))
		return;
	message = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	if (!message) {
		snprintf(text, sizeof(text), "not JSON: %.150s (column %d)", error.text,
			 error.column);
		client_error(c, RPC_PARSE, text);
	} else if (!json_is_object(message)) {
		client_error(c, RPC_INVALID,
			     "not an object; batches are not served: send one request "
			     "a line");
	} else {
		client_object(c, message);
	}
	json_decref(message);
}

/* ---- in ---- */

/* Handles the complete lines, some of them, as long as the client takes its answers. */
static void client_lines(struct client *c)
{
	size_t pos = 0, len;
	unsigned int lines = 0;
	char *end;

	while (lines < LINES_MAX && !c->dead && !c->closing && c->out_len < OUT_STOP &&
	       c->waiting < REQUESTS_MAX && (end = memchr(c->in + pos, '\n', c->in_len - pos))) {
		len = (size_t)(end - (c->in + pos));
		client_line(c, c->in + pos, len);
		pos += len + 1;
		lines++;
	}
	c->in_len -= pos;
	c->more = lines == LINES_MAX;
	memmove(c->in, c->in + pos, c->in_len);
	if (c->in_len == sizeof(c->in) && !memchr(c->in, '\n', c->in_len)) {
		client_error(c, RPC_INVALID, "a line is longer than 65536 bytes");
		c->closing = true;
		client_flush(c);
	}
}

static void client_read(struct client *c)
{
	ssize_t n;

	if (c->in_len == sizeof(c->in))
		return; /* full of lines that have to wait */
	n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	if (n > 0)
		c->in_len += (size_t)n;
	else if (n == 0 && (c->waiting || c->out_len))
		c->closing = true; /* half closed: it still gets what it asked for */
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		c->dead = true;
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct client *c = user;

	if (revents & (EPOLLERR | EPOLLHUP) && !(revents & EPOLLIN) && !c->more)
		c->dead = true;
	if (!c->dead && revents & EPOLLOUT)
		client_flush(c);
	if (!c->dead && revents & EPOLLIN && !c->more)
		client_read(c);
	if (!c->dead)
		client_lines(c);
	if (c->closing && !c->out_len && !c->waiting)
		c->dead = true;
	if (c->dead)
		client_free(c);
	else
		client_events(c);
	return 0;
}

/* ---- who may ---- */

static bool in_group(int fd, gid_t wanted, gid_t primary)
{
	gid_t groups[1024];
	socklen_t len = sizeof(groups);

	if (wanted == (gid_t)-1)
		return false;
	if (primary == wanted)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len))
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == wanted)
			return true;
	return false;
}

static bool peer_may(struct control *control, int fd, struct ucred *cred)
{
	socklen_t len = sizeof(*cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, cred, &len))
		return false;
	return cred->uid == 0 || cred->uid == geteuid() ||
	       in_group(fd, control->daemon->set.control_gid, cred->gid);
}

/* Says so in one line, as far as the socket takes it at once. */
static void turn_away(int fd, const char *text)
{
	json_t *message =
		error_message(NULL, RPC_REFUSED, text, json_pack("{s:i}", "errno", EACCES));
	char *line = text_of(message);

	if (line && send(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		send(fd, "\n", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	free(line);
	json_decref(message);
	close(fd);
}

static void client_accept(struct control *control, int fd)
{
	struct daemon *d = control->daemon;
	struct ucred cred = {0};
	struct client *c;
	char text[256];

	if (!peer_may(control, fd, &cred)) {
		snprintf(text, sizeof(text),
			 "refused: user %u may not control the switch: only root, "
			 "the daemon's user%s%s",
			 (unsigned int)cred.uid,
			 d->set.control_group ? " and members of group " : "",
			 d->set.control_group ? d->set.control_group : "");
		log_warning("control socket: pid %d: %s", (int)cred.pid, text);
		turn_away(fd, text);
		return;
	}
	if (control->count >= CLIENTS_MAX) {
		turn_away(fd, "refused: too many clients: try again later");
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c || sd_event_add_io(d->event, &c->source, fd, EPOLLIN, on_client, c) < 0) {
		free(c);
		close(fd);
		return;
	}
	c->fd = fd;
	c->control = control;
	TAILQ_INIT(&c->requests);
	TAILQ_INSERT_TAIL(&control->clients, c, link);
	control->count++;
}

static int on_accept(sd_event_source *source, int listener, uint32_t revents, void *user)
{
	int fd;

	for (int i = 0; i < 32; i++) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			break;
		client_accept(user, fd);
	}
	return 0;
}

bool control_work(struct daemon *d)
{
	struct client *c, *next;
	struct request *req, *rnext;
	uint64_t now = now_us();
	bool more = false;

	if (!d->control)
		return false;
	FOREACH_SAFE(c, &d->control->clients, link, next)
	{
		FOREACH_SAFE(req, &c->requests, client_link, rnext)
		{
			if (req->deadline && now >= req->deadline)
				method_timeout(req);
			else if (req->deadline)
				more = true;
		}
		if (c->closing && !c->out_len && !c->waiting)
			c->dead = true;
		if (!c->dead)
			client_lines(c);
		if (c->dead)
			client_free(c);
		else
			client_events(c);
	}
	return more;
}

/* ---- the socket ---- */

/* A daemon that was killed keeps its socket until its pinned memory is given back. */
#define FORMER_WAIT_MS 3000

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	return addr;
}

/* Stale or not there: false. */
static bool socket_used(const char *path)
{
	const struct sockaddr_un addr = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool used = fd >= 0 &&
		    (!connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) || errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return used;
}

int socket_listen(const char *path, gid_t gid)
{
	const struct sockaddr_un addr = address_of(path);
	const bool grouped = gid != (gid_t)-1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ret;

	if (fd < 0)
		return -errno;
	unlink(path);
	/* Nobody may connect before owner and mode are right: not yet listening. */
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) ||
	    chmod(path, grouped ? 0660 : 0600) || (grouped && chown(path, (uid_t)-1, gid)) ||
	    listen(fd, 128)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

static int control_listen(const struct daemon *d)
{
	const char *path = d->set.control_socket;

	return socket_used(path) ? -EADDRINUSE : socket_listen(path, d->set.control_gid);
}

/* Clients find the socket where it usually is, too: the service manager's reload does not know better. */
static int usual_place(const struct daemon *d, bool make)
{
	struct stat st;
	char *path;
	int ret = 0;

	if (asprintf(&path, "%s/control.sock", d->run_dir) < 0)
		return -ENOMEM;
	if (strcmp(path, d->set.control_socket)) {
		/* A former daemon's, perhaps its socket; nothing else is touched. */
		if (!lstat(path, &st) &&
		    (S_ISLNK(st.st_mode) || (S_ISSOCK(st.st_mode) && !socket_used(path))))
			unlink(path);
		if (make && symlink(d->set.control_socket, path))
			ret = -errno;
	}
	free(path);
	return ret;
}

int control_open(struct daemon *d)
{
	struct control *control = calloc(1, sizeof(*control));
	int ret;

	if (!control)
		return -ENOMEM;
	control->daemon = d;
	TAILQ_INIT(&control->clients);
	control->fd = control_listen(d);
	if (control->fd == -EADDRINUSE)
		log_notice("control socket %s: somebody listens there; waiting up to %d s for a "
			   "former "
			   "daemon to end",
			   d->set.control_socket, FORMER_WAIT_MS / 1000);
	for (int ms = 0; control->fd == -EADDRINUSE && ms < FORMER_WAIT_MS; ms += 20) {
		usleep(20000);
		control->fd = control_listen(d);
	}
	if (control->fd < 0) {
		ret = control->fd;
		log_error("control socket %s: %s", d->set.control_socket,
			  ret == -EADDRINUSE
				  ? "another daemon listens there: stop it, or set control.socket"
				  : strerror(-ret));
		free(control);
		return ret;
	}
	ret = usual_place(d, true);
	if (ret)
		log_warning("%s/control.sock does not lead to %s: %s: give elisactl its --socket",
			    d->run_dir, d->set.control_socket, strerror(-ret));
	ret = sd_event_add_io(d->event, &control->source, control->fd, EPOLLIN, on_accept, control);
	if (ret < 0) {
		close(control->fd);
		free(control);
		return ret;
	}
	d->control = control;
	return 0;
}

void control_close(struct daemon *d)
{
	struct control *control = d->control;
	struct client *c, *next;

	if (!control)
		return;
	d->control = NULL;
	FOREACH_SAFE(c, &control->clients, link, next)
	client_free(c);
	sd_event_source_disable_unref(control->source);
	close(control->fd);
	unlink(d->set.control_socket);
	usual_place(d, false);
	free(control);
}
