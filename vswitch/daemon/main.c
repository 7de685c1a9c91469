/* SPDX-License-Identifier: BSD-3-Clause */
/* elisa-vswitchd: command line, start, event loop, end. */
#include "daemon.h"

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

struct options {
	const char *config, *run_dir;
	bool check, debug, keys;
};

enum { OPT_RUN_DIR = 256, OPT_FOREGROUND, OPT_KEYS };

static const struct argp_option option_table[] = {
	{"config", 'c', "FILE", 0, "configuration (default " CONFIG_DEFAULT_PATH ")", 0},
	{"check", 'C', NULL, 0, "check the configuration and exit", 0},
	{"run-dir", OPT_RUN_DIR, "DIR", 0,
	 "for sockets and state (default " CONFIG_DEFAULT_RUN_DIR ")", 0},
	{"foreground", OPT_FOREGROUND, NULL, 0, "stay in the foreground (always so)", 0},
	{"keys", OPT_KEYS, NULL, 0, "list the configuration's keys and exit", 0},
	{"debug", 'd', NULL, 0, "log more", 0},
	{0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'c':
		o->config = arg;
		return 0;
	case 'C':
		o->check = true;
		return 0;
	case OPT_RUN_DIR:
		if (arg[0] != '/')
			argp_error(state, "--run-dir: \"%s\" is not an absolute path", arg);
		o->run_dir = arg;
		return 0;
	case OPT_FOREGROUND:
		return 0;
	case OPT_KEYS:
		o->keys = true;
		return 0;
	case 'd':
		o->debug = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument \"%s\"", arg);
	}
	return ARGP_ERR_UNKNOWN;
}

const char *argp_program_version = "elisa-vswitchd " ELISA_VERSION;

static const struct argp argp = {
	.options = option_table,
	.parser = parse_option,
	.doc = "A virtual switch whose code runs on the sending guest's own vCPU.\v"
	       "Controlled with elisactl(8). SIGTERM ends it; attached VMs see the switch as "
	       "\"away\" "
	       "and are served again when it is back.\n\n"
	       "Exit status: 0 ended as it was told to (or the configuration is good); 64 wrong usage; "
	       "66 there is no such configuration; 69 another daemon runs; 71 the system refused "
	       "something; 73 a folder or socket cannot be created; 77 no permission to read; "
	       "78 wrong configuration.",
};

/* What goes wrong at start, by kind: sysexits.h. The unit does not try again where it is no use. */
int exit_status(int err)
{
	static const struct {
		int err, status;
	} kinds[] = {
		{0, EX_OK},
		{-ENOENT, EX_NOINPUT},
		{-EADDRINUSE, EX_UNAVAILABLE},
		{-ENODEV, EX_UNAVAILABLE},
		{-EROFS, EX_CANTCREAT}, /* stands for all reasons, see cannot_create() */
		{-EACCES, EX_NOPERM},
		{-EPERM, EX_NOPERM},
		{-EINVAL, EX_CONFIG},
		{-EEXIST, EX_CONFIG},
		{-ENOSPC, EX_CONFIG},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].err == err)
			return kinds[i].status;
	return EX_OSERR;
}

/* Of a folder or a socket: no permission for that is no matter of who reads the configuration. */
static int cannot_create(int err)
{
	return err && err != -EADDRINUSE && err != -ENOMEM ? -EROFS : err;
}

/* Memory, descriptors or threads can lack anywhere: said here. Other errors are said where they are met. */
static int said(int err)
{
	if (err == -ENOMEM || err == -EMFILE || err == -EAGAIN)
		log_error("the daemon does not start: %s", strerror(-err));
	return err;
}

/* Before there is a log. */
static void line_to_stderr(void *arg, const char *file, int line, const char *text)
{
	(void)arg;
	if (line)
		fprintf(stderr, "%s:%d: %s\n", file, line, text);
	else
		fprintf(stderr, "%s: %s\n", file, text);
}

uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec / 1000;
}

/* ---- timers ---- */

void work_soon(struct daemon *d, uint64_t us)
{
	uint64_t at = now_us() + us, armed = UINT64_MAX;
	int on = SD_EVENT_OFF;

	if (!d->work)
		return;
	sd_event_source_get_enabled(d->work, &on);
	if (on != SD_EVENT_OFF)
		sd_event_source_get_time(d->work, &armed);
	if (at >= armed)
		return;
	sd_event_source_set_time(d->work, at);
	sd_event_source_set_enabled(d->work, SD_EVENT_ONESHOT);
}

void state_changed(struct daemon *d)
{
	d->state_dirty = true;
	work_soon(d, 0);
}

static int on_work(sd_event_source *source, uint64_t usec, void *user)
{
	struct daemon *d = user;
	uint64_t soon = vm_work(d);

	if (local_work(d) || waits_poll(d))
		soon = 2 * MSEC;
	if (control_work(d) && (!soon || soon > 20 * MSEC))
		soon = 20 * MSEC;
	domains_work(d);
	if (fdb_file_work(d))
		soon = MSEC;
	if (d->state_dirty)
		state_save(d);
	if (soon)
		work_soon(d, soon);
	return 0;
}

static void notify_status(struct daemon *d)
{
	unsigned int vms = 0, clients = local_clients(d);
	struct guest *g;

	TAILQ_FOREACH(g, &d->guests, link)
	vms += !g->local && g->state == GUEST_ATTACHED;
	sd_notifyf(0, "STATUS=%u VMs attached%s, %u local clients (no isolation)", vms,
		   d->ctx ? "" : " (no trusted context)", clients);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *user)
{
	struct daemon *d = user;
	struct vs_fdb_stats fdb;

	vs_tick(d->vs, now_us() / SEC);
	/* The module may be loaded later than we start. */
	if (!d->ctx && !access("/dev/elisa", F_OK))
		ctx_open(d);
	vm_tick(d);
	doorbells_tick(d);
	fdb_stats(d, &fdb); /* reads all of a large table: once for all */
	event_tick(d, &fdb);
	fdb_file_tick(d, &fdb);
	notify_status(d);
	if (d->state_dirty)
		state_save(d);
	sd_event_source_set_time(source, now_us() + SEC);
	return 0;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *si, void *user)
{
	struct daemon *d = user;
	json_t *report;

	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)now_us());
	reload(d, false, &report);
	json_decref(report);
	sd_notify(0, "READY=1");
	return 0;
}

/* ---- start ---- */

static int add_sources(struct daemon *d)
{
	sigset_t mask;
	int ret;

	/* Before any thread is made, so that all inherit it. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	ret = elisa_ram_guard();
	if (ret < 0)
		return ret;
	ret = sd_event_default(&d->event);
	if (ret < 0)
		return ret;
	if ((ret = sd_event_add_signal(d->event, NULL, SIGTERM, NULL, NULL)) < 0 ||
	    (ret = sd_event_add_signal(d->event, NULL, SIGINT, NULL, NULL)) < 0 ||
	    (ret = sd_event_add_signal(d->event, NULL, SIGHUP, on_hangup, d)) < 0 ||
	    (ret = sd_event_add_time(d->event, &d->tick, CLOCK_MONOTONIC, now_us() + SEC, 10 * MSEC,
				     on_tick, d)) < 0 ||
	    (ret = sd_event_source_set_enabled(d->tick, SD_EVENT_ON)) < 0 ||
	    (ret = sd_event_add_time(d->event, &d->work, CLOCK_MONOTONIC, now_us(), MSEC / 2,
				     on_work, d)) < 0)
		return ret;
	return 0;
}

static int run_dir_make(struct daemon *d)
{
	int ret;

	if (!mkdir(d->run_dir, 0755) || errno == EEXIST)
		return 0;
	ret = -errno;
	log_error("%s: %s", d->run_dir, strerror(errno));
	return ret;
}

static int start(struct daemon *d)
{
	int ret = add_sources(d);

	if (ret < 0)
		log_error("no event loop: %s", strerror(-ret));
	if (!ret)
		ret = cannot_create(run_dir_make(d));
	if (!ret)
		ret = cannot_create(control_open(d)); /* first: it also finds out whether another daemon runs */
	if (!ret)
		ret = switch_open(d);
	if (!ret)
		huge_log(d);
	if (!ret)
		ret = switch_configure(d);
	if (!ret)
		ret = nics_open(d);
	if (!ret)
		ret = statics_configure(d);
	if (ret)
		return ret;
	if (d->set.bell_enable)
		ret = cannot_create(doorbells_open(d));
	if (ret)
		return ret;
	vms_configure(d);
	ret = domains_load(d);
	if (ret)
		return ret;
	state_load(d);
	ret = fdb_file_open(d);
	if (ret)
		return ret;
	if (ctx_open(d))
		log_warning("%s; VMs will be attached once it is there", d->ctx_note);
	if (d->set.local_enable) {
		ret = cannot_create(local_open(d));
		if (ret)
			return ret;
	}
	ret = web_open(d);
	if (ret)
		return ret;
	nics_run(d);
	ports_changed(d);
	return watchdog_open(d);
}

/* Guests must see "away": contexts are closed, nothing is detached, the state file stays. */
static void stop(struct daemon *d)
{
	struct guest *g, *next;

	d->stopping = true;
	watchdog_close(d);
	event_say_why(d, EVENT_DAEMON, SD_NOTICE, NULL, NULL, "stopping", "stopping");
	if (d->vs)
		state_save(d);
	fdb_file_close(d);
	FOREACH_SAFE(g, &d->guests, link, next)
	{
		if (g->local)
			continue;
		guest_note(g, "the daemon is stopping");
		vm_answer_attach(g);
		vm_answer_detach(g);
	}
	nics_stop(d);
	ctx_close(d);
	nics_join(d);
	local_close(d);
	doorbells_close(d);
	web_close(d);
	control_close(d);
	captures_close(d);
	FOREACH_SAFE(g, &d->guests, link, next)
	guest_free(g);
	domains_close(d);
	nics_close(d);
	switch_close(d);
	d->tick = sd_event_source_disable_unref(d->tick);
	d->work = sd_event_source_disable_unref(d->work);
	d->event = sd_event_unref(d->event);
}

static int run(struct daemon *d, const struct options *o)
{
	struct rlimit files;
	int ret;

	d->started = now_us();
	d->run_dir = (char *)o->run_dir;
	d->config_path = o->config;
	TAILQ_INIT(&d->guests);
	TAILQ_INIT(&d->ports);
	TAILQ_INIT(&d->waits);
	TAILQ_INIT(&d->captures);
	TAILQ_INIT(&d->domains);
	d->arena_fd = -1;
	/* Some descriptors for each VM, vCPU and client; the soft limit is 1,024 by tradition. */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max < 65536 ? files.rlim_max : 65536;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	ret = said(start(d));
	if (!ret) {
		event_say_why(d, EVENT_DAEMON, SD_NOTICE, NULL, NULL, "ready",
			      "elisa-vswitchd " ELISA_VERSION " ready, %zu ports, control socket %s",
			      d->set.port_count, d->set.control_socket);
		sd_notify(0, "READY=1");
		ret = sd_event_loop(d->event);
		if (ret < 0)
			log_error("the event loop failed: %s", strerror(-ret));
		sd_notify(0, "STOPPING=1");
	}
	stop(d);
	return exit_status(ret < 0 ? ret : 0);
}

int main(int argc, char **argv)
{
	struct options o = {.config = CONFIG_DEFAULT_PATH, .run_dir = CONFIG_DEFAULT_RUN_DIR};
	const struct sink to_stderr = {line_to_stderr, NULL};
	struct daemon d = {0};
	int ret;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (o.keys) {
		settings_keys(stdout);
		return EX_OK;
	}
	log_init(o.debug);
	ret = said(settings_read(&d.set, o.config, o.run_dir, &to_stderr));
	if (ret)
		ret = exit_status(ret);
	else if (o.check)
		printf("%s: good: %zu ports, %zu VMs, %zu static addresses, %zu NICs\n", o.config,
		       d.set.port_count, d.set.vm_count, d.set.fdb_count, d.set.nic_count);
	else
		ret = run(&d, &o);
	settings_free(&d.set);
	return ret;
}
