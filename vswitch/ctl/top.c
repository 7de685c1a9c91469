/* SPDX-License-Identifier: BSD-3-Clause */
/* elisactl top: what each port does a second, the busiest first. */
#include "ctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define CLEAR "\033[H\033[2J"

struct rate {
	const char *name, *used_by;
	bool link;
	double tx_frames, tx_bytes, rx_frames, rx_bytes, drops;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = 1;
}

/* ---- rates ---- */

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A port that was deleted and added again begins at 0. */
static double per_second(long long now, long long before, double seconds)
{
	return (double)(now >= before ? now - before : now) / seconds;
}

static long long sum(json_t *counts)
{
	long long total = 0;
	const char *key;
	json_t *value;

	json_object_foreach(counts, key, value) total += json_integer_value(value);
	return total;
}

static int busier(const void *va, const void *vb)
{
	const struct rate *a = va, *b = vb;
	double fa = a->tx_frames + a->rx_frames + a->drops;
	double fb = b->tx_frames + b->rx_frames + b->drops;

	return fa < fb ? 1 : fa > fb ? -1 : strcmp(a->name, b->name);
}

/* The names in it are those of `now`. */
static struct rate *rates_of(json_t *now, json_t *before, double seconds, size_t *count)
{
	json_t *ports = json_object_get(now, "ports"), *port, *old;
	struct rate *rates = calloc(json_object_size(ports) + 1, sizeof(*rates)), *r = rates;
	const char *name;

	if (!rates)
		return NULL;
	json_object_foreach(ports, name, port)
	{
		old = json_object_get(json_object_get(before, "ports"), name);
		*r++ = (struct rate){
			name,
			str(port, "bound_to"),
			is(port, "link"),
			per_second(num(port, "tx_frames"), num(old, "tx_frames"), seconds),
			per_second(num(port, "tx_bytes"), num(old, "tx_bytes"), seconds),
			per_second(num(port, "rx_frames"), num(old, "rx_frames"), seconds),
			per_second(num(port, "rx_bytes"), num(old, "rx_bytes"), seconds),
			per_second(sum(json_object_get(port, "drops")),
				   sum(json_object_get(old, "drops")), seconds),
		};
	}
	*count = (size_t)(r - rates);
	qsort(rates, *count, sizeof(*rates), busier);
	return rates;
}

/* ---- output ---- */

static const char *scaled(double n)
{
	static const char units[] = " kMGT";
	unsigned int u = 0;

	for (; n >= 999.5 && units[u + 1]; u++)
		n /= 1000;
	return u ? cell("%.*f %c",
			n < 9.995   ? 2
			: n < 99.95 ? 1
				    : 0,
			n, units[u])
		 : cell("%.0f", n);
}

static void print_rates(const struct rate *rates, size_t count)
{
	struct table *t = table_new("PORT|USED BY|LINK|>TX FRAMES/S|>TX BYTES/S|>RX FRAMES/S|"
				    ">RX BYTES/S|>DROPS/S");

	for (size_t i = 0; i < count; i++) {
		const struct rate *r = &rates[i];

		table_row(t, r->name, or_dash(r->used_by), r->link ? "up" : "down",
			  scaled(r->tx_frames), scaled(r->tx_bytes), scaled(r->rx_frames),
			  scaled(r->rx_bytes), scaled(r->drops));
	}
	table_print(t);
}

static void print_json(const struct rate *rates, size_t count, double seconds)
{
	json_t *ports = json_array(), *all;

	for (size_t i = 0; i < count; i++) {
		const struct rate *r = &rates[i];

		json_array_append_new(
			ports, json_pack("{s:s, s:s, s:b, s:f, s:f, s:f, s:f, s:f}", "name",
					 r->name, "bound_to", r->used_by, "link", (int)r->link,
					 "tx_frames_per_s", r->tx_frames, "tx_bytes_per_s",
					 r->tx_bytes, "rx_frames_per_s", r->rx_frames,
					 "rx_bytes_per_s", r->rx_bytes, "drops_per_s", r->drops));
	}
	all = json_pack("{s:f, s:o}", "seconds", seconds, "ports", ports);
	json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
	putchar('\n');
	json_decref(all);
}

/* ---- the loop ---- */

static struct termios terminal;

/* So that a key arrives without a newline. */
static bool keys_begin(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &terminal))
		return false;
	raw = terminal;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	return !tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/* True: enough. */
static bool wait_or_key(bool keys, double seconds)
{
	double end = now_s() + seconds, left;
	struct pollfd in = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
	char key = 0;

	while (!interrupted && (left = end - now_s()) > 0)
		if (poll(&in, 1, (int)(left * 1000) + 1) > 0 &&
		    (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q'))
			return true;
	return interrupted;
}

static int top_once(const char *path, FILE *in, bool as_json, bool clear, json_t **last,
		    double *last_at)
{
	json_t *now = NULL;
	struct rate *rates;
	double at;
	size_t count;
	int ret = ctl_ask(in, path, "stats", json_object(), as_json, &now);

	if (ret)
		return interrupted ? CTL_OK : ret;
	at = now_s();
	rates = *last ? rates_of(now, *last, at - *last_at, &count) : NULL;
	if (rates) {
		if (as_json)
			print_json(rates, count, at - *last_at);
		else if (printf("%s", clear ? CLEAR : "") >= 0)
			print_rates(rates, count);
		free(rates);
		if (fflush(stdout))
			ret = CTL_REFUSED;
	}
	json_decref(*last);
	*last = now;
	*last_at = at;
	return ret;
}

int run_top(const char *path, bool as_json, json_t *params)
{
	long long ms = num(params, "interval_ms") ? num(params, "interval_ms") : 1000;
	bool once = is(params, "once"), clear = isatty(STDOUT_FILENO) && !once;
	const struct sigaction action = {.sa_handler = on_signal};
	json_t *last = NULL;
	double last_at = 0;
	bool keys = false;
	FILE *in = NULL;
	int ret;

	json_decref(params);
	ret = ctl_connect(path, &in);
	if (ret)
		return ret;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (!once)
		keys = keys_begin();
	ret = top_once(path, in, as_json, clear, &last, &last_at);
	while (!ret && !interrupted && !wait_or_key(keys, (double)ms / 1000)) {
		ret = top_once(path, in, as_json, clear, &last, &last_at);
		if (once)
			break;
		if (!clear && !as_json)
			putchar('\n');
	}
	if (keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
	json_decref(last);
	fclose(in);
	return ret;
}
