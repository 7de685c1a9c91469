/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Target: the control socket. An input is what clients send: a byte 0xff ends what is sent at
 * once, 0xfe goes on as another client. Half of the inputs are made up of requests of known methods
 * with known parameters and values of all kinds. Each line that is not empty must be answered; the
 * daemon is started anew from time to time.
 */
#include "fuzz.h"
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS	     4
#define INPUTS	     500	/* of one daemon */

size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t max);

static bool runs;
static unsigned int inputs;

/* ---- inputs ---- */

static const char *const values[] = {
	"\"a\"", "\"b\"", "\"c\"", "\"q\"", "\"web\"", "\"nix\"", "\"\"", "\"all\"", "\"local\"",
	"\"02:00:00:00:00:01\"", "\"02:00:00:00:00:bb\"", "\"ff:ff:ff:ff:ff:ff\"",
	"\"00000000-0000-0000-0000-000000000001\"", "[\"tx\",\"drops\"]", "[\"rx\"]", "\"\\u0000\"",
	"\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "\"elisa\"",
	"0", "1", "-1", "2", "7", "64", "1500", "4095", "9000", "65536", "4294967296", "1e3", "0.5",
	"9223372036854775807", "-9223372036854775808", "true", "false", "null", "[]", "{}", "[1]", "[0,64]",
	"[\"a\"]", "[\"a\",\"b\"]", "[\"broadcast\",\"unknown\"]", "[null]", "[[[[[[]]]]]]",
	"{\"mode\":\"access\",\"pvid\":5}", "{\"mode\":\"trunk\",\"allowed\":\"10,20-30\"}",
	"{\"allowed\":\"1-4094\"}", "{\"mode\":\"none\"}", "{\"tx_bytes\":1000000,\"rx_frames\":50}",
	"{\"broadcast\":10}", "{\"addresses\":4,\"drop\":true}", "{\"a\":null}", "{\"name\":\"q\"}",
	"[{\"name\":\"q\"}]", "[{\"name\":\"q\",\"mac\":\"02:00:00:00:00:0c\"},{\"name\":\"r\"}]",
};

static unsigned int dice(unsigned int *seed, size_t sides)
{
	return (unsigned int)rand_r(seed) % (unsigned int)sides;
}

/* A parameter and what it is; `pid` is mostly ours, which lives. */
static int one_param(char *out, size_t max, const char *name, int len, unsigned int *seed)
{
	if (len == 3 && !memcmp(name, "pid", 3) && dice(seed, 4))
		return snprintf(out, max, "\"pid\":%d", (int)getpid());
	if (len == 4 && !memcmp(name, "name", 4) && dice(seed, 2))
		return snprintf(out, max, "\"name\":\"%c\"", 'a' + (char)dice(seed, 5));
	return snprintf(out, max, "\"%.*s\":%s", len, name,
			values[dice(seed, sizeof(values) / sizeof(values[0]))]);
}

static size_t one_request(char *out, size_t max, unsigned int *seed)
{
	const char *params, *method, *end, *sep = "";
	size_t count = 0, n;

	while (inside_method(count, &params))
		count++;
	method = inside_method(dice(seed, count), &params);
	n = (size_t)snprintf(out, max, "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"%s\",\"params\":{",
			     dice(seed, 100), method);
	for (; *params && n < max; params = end + 1) {
		end = strchr(params, ' ');
		if (dice(seed, 5) < 2)
			continue;
		n += (size_t)snprintf(out + n, max - n, "%s", sep);
		if (n < max)
			n += (size_t)one_param(out + n, max - n, params, (int)(end - params), seed);
		sep = ",";
	}
	if (n < max)
		n += (size_t)snprintf(out + n, max - n, "}}\n");
	return n < max ? n : 0;
}

size_t fuzz_control_mutate(uint8_t *data, size_t len, size_t max, unsigned int seed)
{
	char line[2048];
	size_t n;

	if (dice(&seed, 3) == 0)
		return LLVMFuzzerMutate(data, len, max);
	if (dice(&seed, 6) == 0)
		len = 0;
	n = one_request(line, sizeof(line), &seed);
	if (!n || len + n + 1 > max)
		return LLVMFuzzerMutate(data, len, max);
	if (len && dice(&seed, 4) == 0)
		data[len++] = dice(&seed, 2) ? 0xff : 0xfe;
	memcpy(data + len, line, n);
	return len + n;
}

/* ---- clients ---- */

/* Takes what was answered; descriptors that came with it are closed by MSG_CTRUNC. */
static void take(int fd)
{
	static char answer[65536];

	while (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) > 0)
		;
}

static void send_all(int fd, const uint8_t *data, size_t len)
{
	ssize_t n;

	for (int tries = 0; len && tries < 100; tries++) {
		n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
		inside_work();
		take(fd);
		if (n < 0 && errno != EAGAIN)
			break;
	}
}

/* It still serves. */
static void check_alive(void)
{
	static const char request[] = "{\"jsonrpc\":\"2.0\",\"id\":77,\"method\":\"port.show\","
				      "\"params\":{\"name\":\"nobody\"}}\n";
	char answer[512];
	ssize_t n;
	int fd = inside_client();

	send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
	inside_work();
	n = recv(fd, answer, sizeof(answer) - 1, MSG_DONTWAIT);
	answer[n > 0 ? n : 0] = 0;
	if (!strstr(answer, "nobody")) {
		fprintf(stderr, "no answer any more: \"%s\"\n", answer);
		abort();
	}
	close(fd);
	inside_work();
}

static void daemon_anew(void)
{
	if (runs)
		inside_stop();
	unlink(inside_path("state.json"));
	unlink(inside_path("saved.json"));
	unlink(inside_path("fdb"));
	if (inside_start()) {
		fprintf(stderr, "the daemon does not start\n");
		abort();
	}
	runs = true;
	inside_work();
}

void fuzz_control(const uint8_t *data, size_t len)
{
	int fds[CLIENTS] = {-1, -1, -1, -1}, at = 0;
	size_t from = 0;

	if (inputs++ % INPUTS == 0)
		daemon_anew();
	fds[0] = inside_client();
	for (size_t i = 0; i <= len; i++) {
		if (i < len && data[i] < 0xfe)
			continue;
		send_all(fds[at], data + from, i - from);
		from = i + 1;
		if (i < len && data[i] == 0xfe) {
			at = (at + 1) % CLIENTS;
			if (fds[at] < 0)
				fds[at] = inside_client();
		}
	}
	for (int i = 0; i < CLIENTS; i++) {
		if (fds[i] < 0)
			continue;
		take(fds[i]);
		close(fds[i]);
	}
	inside_work();
	check_alive();
}
