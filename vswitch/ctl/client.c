/* SPDX-License-Identifier: BSD-3-Clause */
#include "ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int unreachable(const char *path, int err)
{
	const char *todo;

	if (err == ENOENT || err == ECONNREFUSED)
		todo = "the daemon does not run: start it (systemctl start elisa-vswitchd), or "
		       "name its "
		       "socket with --socket";
	else if (err == EACCES)
		todo = "no permission: run as root or as a member of the group that control.group "
		       "names";
	else if (err == EAGAIN)
		todo = "the daemon does not answer: see its log (journalctl -u elisa-vswitchd)";
	else
		todo = strerror(err);
	fprintf(stderr, "elisactl: %s: %s\n", path, todo);
	return CTL_UNREACHABLE;
}

/* A daemon that hangs must not hang us: attach and detach answer within their own deadlines. */
static void limit_waiting(int fd)
{
	struct timeval send = {.tv_sec = 10}, receive = {.tv_sec = 660};

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send, sizeof(send));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &receive, sizeof(receive));
}

int ctl_connect(const char *path, FILE **in)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "elisactl: %s: longer than a socket's path may be (%zu)\n", path,
			sizeof(addr.sun_path) - 1);
		return CTL_USAGE;
	}
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		limit_waiting(fd);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		int ret = unreachable(path, errno);

		if (fd >= 0)
			close(fd);
		return ret;
	}
	*in = fdopen(fd, "r+");
	if (!*in) {
		close(fd);
		return unreachable(path, ENOMEM);
	}
	return CTL_OK;
}

static int send_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Sends a request; it does not matter here when the daemon has turned us away already. */
void ctl_send(int fd, const char *method, json_t *params)
{
	json_t *request = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", 1, "method",
				    method, "params", params);
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;

	if (text && !send_all(fd, text, strlen(text)))
		send_all(fd, "\n", 1);
	free(text);
	json_decref(request);
}

static int answer_error(json_t *error, bool as_json)
{
	const char *text = json_string_value(json_object_get(error, "message"));
	json_t *line;
	size_t i;

	if (as_json) {
		json_dumpf(error, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	fprintf(stderr, "elisactl: %s\n", text ? text : "the daemon answered with an error");
	/* of a configuration: each with its file and line */
	json_array_foreach(json_object_get(json_object_get(error, "data"), "errors"), i, line)
		fprintf(stderr, "%s\n", json_string_value(line));
	return CTL_REFUSED;
}

int ctl_answer(const char *path, const char *line, bool as_json, json_t **result)
{
	json_error_t why;
	json_t *answer = line ? json_loads(line, 0, &why) : NULL;
	json_t *error = json_object_get(answer, "error");
	int ret = CTL_OK;

	if (!json_is_object(answer)) {
		fprintf(stderr,
			"elisactl: %s: the daemon closed without an answer: see its log "
			"(journalctl -u elisa-vswitchd)\n",
			path);
		ret = CTL_UNREACHABLE;
	} else if (error) {
		ret = answer_error(error, as_json);
	} else {
		*result = json_incref(json_object_get(answer, "result"));
	}
	json_decref(answer);
	return ret;
}

int ctl_ask(FILE *in, const char *path, const char *method, json_t *params, bool as_json,
	    json_t **result)
{
	char *line = NULL;
	size_t size = 0;
	int ret;

	ctl_send(fileno(in), method, params);
	ret = ctl_answer(path, getline(&line, &size, in) > 0 ? line : NULL, as_json, result);
	free(line);
	return ret;
}

int ctl_call(const char *path, const char *method, json_t *params, bool as_json, json_t **result)
{
	FILE *in = NULL;
	int ret = ctl_connect(path, &in);

	if (ret) {
		json_decref(params);
		return ret;
	}
	ret = ctl_ask(in, path, method, params, as_json, result);
	fclose(in);
	return ret;
}
