/* SPDX-License-Identifier: BSD-3-Clause */
/* See run.h: QEMU's monitor, the attacker's port, its deaths and rebirths. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "run.h"
#include "../vmx/harness.h"
#include "../vmx/tap.h"

#define LAB_RUN		"/run/lab"
#define SAVED		"ready"
#define QMP_TIMEOUT_MS	60000

/* ---- sockets ---- */

static int open_socket(const char *guest, const char *what)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), LAB_RUN "/%s/%s", guest, what);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at))) {
		note("%s: %s", at.sun_path, strerror(errno));
		return -errno;
	}
	return fd;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

/* ---- the monitor ---- */

/*
 * The next message; notes a death, and a stop. NULL: none within the time. Unbuffered: poll() sees
 * all.
 */
static json_t *qmp_next(struct attacker *a, int ms)
{
	static char line[65536];
	const char *event;
	json_t *msg;

	if (!readable(a->qmp, ms) || !fgets(line, sizeof(line), a->qmp_in))
		return NULL;
	msg = json_loads(line, 0, NULL);
	event = json_string_value(json_object_get(msg, "event"));
	if (event && !strcmp(event, "RESET")) {
		a->was_reset = true;
		if (json_is_true(json_object_get(json_object_get(msg, "data"), "guest")))
			a->died = true;
	} else if (event && !strcmp(event, "STOP")) {
		a->stuck = true;
	}
	return msg;
}

static int qmp(struct attacker *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int qmp(struct attacker *a, const char *fmt, ...)
{
	char text[512];
	va_list args;
	json_t *msg;
	int rc = 1;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (dprintf(a->qmp, "%s\n", text) < 0)
		return -errno;
	while (rc > 0) {
		msg = qmp_next(a, QMP_TIMEOUT_MS);
		if (!msg) {
			note("QEMU of %s does not answer %s", a->name, text);
			return -ETIMEDOUT;
		}
		if (json_object_get(msg, "return")) {
			rc = 0;
		} else if (json_object_get(msg, "error")) {
			char *why = json_dumps(json_object_get(msg, "error"), 0);

			note("QEMU refuses %s: %s", text, why);
			free(why);
			rc = -EPROTO;
		}
		json_decref(msg);
	}
	return rc;
}

/* Whether the job is over; *rc: how. */
static bool job_over(struct attacker *a, const char *id, json_t *jobs, int *rc)
{
	json_t *job;
	size_t i;

	(void)a;
	json_array_foreach(jobs, i, job) {
		const char *error = json_string_value(json_object_get(job, "error"));

		if (strcmp(json_string_value(json_object_get(job, "id")), id) ||
		    strcmp(json_string_value(json_object_get(job, "status")), "concluded"))
			continue;
		*rc = error ? -EIO : 0;
		if (error)
			note("QEMU: %s: %s", id, error);
		return true;
	}
	return false;
}

static int qmp_wait_job(struct attacker *a, const char *id)
{
	bool over = false;
	int rc = 0;

	for (int i = 0; i < 6000 && !over; i++) {
		json_t *msg;

		usleep(10000);
		if (dprintf(a->qmp, "{\"execute\":\"query-jobs\"}\n") < 0)
			return -errno;
		while ((msg = qmp_next(a, QMP_TIMEOUT_MS)) && !json_object_get(msg, "return"))
			json_decref(msg);
		over = job_over(a, id, json_object_get(msg, "return"), &rc);
		json_decref(msg);
	}
	if (!over)
		return -ETIMEDOUT;
	return qmp(a, "{\"execute\":\"job-dismiss\",\"arguments\":{\"id\":\"%s\"}}", id) ?: rc;
}

/* A file for the states, on a tmpfs. */
static int make_store(struct attacker *a)
{
	int rc;

#define FILE_ARGS "\"driver\":\"file\",\"filename\":\"" LAB_RUN "/%s/states\""
	rc = qmp(a, "{\"execute\":\"blockdev-create\",\"arguments\":{\"job-id\":\"file\","
		    "\"options\":{" FILE_ARGS ",\"size\":0}}}", a->name) ?: qmp_wait_job(a, "file");
	rc = rc ?: qmp(a, "{\"execute\":\"blockdev-add\",\"arguments\":{" FILE_ARGS
			  ",\"node-name\":\"states-file\"}}", a->name);
	rc = rc ?: qmp(a, "{\"execute\":\"blockdev-create\",\"arguments\":{\"job-id\":\"format\","
			  "\"options\":{\"driver\":\"qcow2\",\"file\":\"states-file\","
			  "\"size\":1048576}}}") ?: qmp_wait_job(a, "format");
	return rc ?: qmp(a, "{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"qcow2\","
			    "\"file\":\"states-file\",\"node-name\":\"states\"}}");
}

static int snapshot(struct attacker *a, const char *what)
{
	char id[32];

	snprintf(id, sizeof(id), "%s%u", what, a->jobs++);
	return qmp(a, "{\"execute\":\"snapshot-%s\",\"arguments\":{\"job-id\":\"%s\",\"tag\":\"" SAVED
		   "\",\"vmstate\":\"states\",\"devices\":[\"states\"]}}", what, id) ?:
	       qmp_wait_job(a, id);
}

/* ---- elisactl ---- */

json_t *elisactl_json(const char *command)
{
	char line[128];
	json_t *out = NULL;
	FILE *p;

	snprintf(line, sizeof(line), "elisactl %s --json", command);
	p = popen(line, "re");
	if (p) {
		out = json_loadf(p, 0, NULL);
		pclose(p);
	}
	return out;
}

static json_t *vm_status(const struct attacker *a)
{
	json_t *all = elisactl_json("status");
	json_t *vm = json_incref(json_object_get(json_object_get(all, "vms"), a->name));

	json_decref(all);
	return vm;
}

json_t *attacker_kill(const struct attacker *a)
{
	json_t *vm = vm_status(a), *kill = json_incref(json_object_get(vm, "kill"));

	json_decref(vm);
	return kill;
}

/* Waits until the switch has let go of it. */
static bool is_out(const struct attacker *a)
{
	for (int i = 0; i < 100; i++) {
		json_t *vm = vm_status(a);
		const char *state = json_string_value(json_object_get(vm, "state"));
		bool out = !state || !strcmp(state, "killed") || !strcmp(state, "detached");

		json_decref(vm);
		if (out)
			return true;
		usleep(20000);
	}
	return false;
}

static int elisactl(const char *fmt, const struct attacker *a)
{
	char line[128];

	snprintf(line, sizeof(line), fmt, a->pid, a->name);
	return system(line) ? -EIO : 0;
}

/* ---- its life ---- */

/* A VM that KVM could not go on with wants to be reset before anything else. */
static int reset(struct attacker *a)
{
	int rc;

	a->was_reset = false;
	rc = qmp(a, "{\"execute\":\"system_reset\"}");
	while (!rc && !a->was_reset) {
		json_t *msg = qmp_next(a, QMP_TIMEOUT_MS);

		rc = msg ? 0 : -ETIMEDOUT;
		json_decref(msg);
	}
	return rc;
}

pid_t guest_pid(const char *guest)
{
	char path[64];
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), LAB_RUN "/%s/pid", guest);
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%d", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	return pid;
}

int attacker_open(struct attacker *a, const char *name)
{
	json_t *greeting;

	*a = (struct attacker){ .name = name, .pid = guest_pid(name), .qmp = -1, .port = -1 };
	a->kvm = a->pid ? steal_kvm_fd(a->pid) : -ESRCH;
	a->port = open_socket(name, "attack");
	a->qmp = open_socket(name, "qmp");
	if (a->kvm < 0 || a->port < 0 || a->qmp < 0)
		return -ENOENT;
	a->qmp_in = fdopen(a->qmp, "r");
	a->port_in = fdopen(a->port, "r");
	if (!a->qmp_in || !a->port_in)
		return -ENOMEM;
	setvbuf(a->qmp_in, NULL, _IONBF, 0);
	setvbuf(a->port_in, NULL, _IONBF, 0);
	greeting = qmp_next(a, QMP_TIMEOUT_MS);
	json_decref(greeting);
	return qmp(a, "{\"execute\":\"qmp_capabilities\"}") ?:
	       qmp(a, "{\"execute\":\"set-action\",\"arguments\":{\"reboot\":\"reset\"}}") ?:
	       make_store(a);
}

void attacker_close(struct attacker *a)
{
	if (a->qmp_in)
		fclose(a->qmp_in);
	if (a->port_in)
		fclose(a->port_in);
}

int attacker_save(struct attacker *a)
{
	return snapshot(a, "save");
}

static void drop_input(struct attacker *a)
{
	char c;

	while (readable(a->port, 0) && read(a->port, &c, 1) == 1)
		;
}

int attacker_live(struct attacker *a, bool again)
{
	double start = seconds();
	int rc = 0;

	if (again) {
		rc = is_out(a) ? 0 : elisactl("elisactl detach %2$s >/dev/null", a);
		rc = rc ?: (a->stuck && !a->died ? reset(a) : 0);
		rc = rc ?: qmp(a, "{\"execute\":\"stop\"}") ?: snapshot(a, "load");
		drop_input(a);
		rc = rc ?: qmp(a, "{\"execute\":\"cont\"}");
	}
	a->died = a->stuck = false;
	rc = rc ?: elisactl("elisactl attach --pid %1$d --name %2$s >/dev/null", a);
	a->alive = a->attached = !rc;
	a->lives++;
	if (again)
		a->seconds += seconds() - start;
	return rc;
}

/* One line of what it prints, as far as it is there. */
static bool read_line(struct attacker *a, char *line, size_t len)
{
	if (!fgets(line, (int)len, a->port_in))
		return false;
	line[strcspn(line, "\r\n")] = 0;
	return true;
}

int attacker_run(struct attacker *a, const char *line, unsigned int timeout, char *answer,
		 size_t len)
{
	double end = seconds() + timeout;
	char got[256];

	answer[0] = 0;
	if (dprintf(a->port, "%s\n", line) < 0)
		return -errno;
	while (seconds() < end) {
		struct pollfd p[2] = { { .fd = a->port, .events = POLLIN },
				       { .fd = a->qmp, .events = POLLIN } };

		poll(p, 2, 200);
		if (p[0].revents & POLLIN && read_line(a, got, sizeof(got))) {
			if (!strncmp(got, "end ", 4))
				return 0;
			snprintf(answer, len, "%s", got);
		}
		if (p[1].revents & POLLIN)
			json_decref(qmp_next(a, 0));
		if (a->died || a->stuck)
			a->alive = false;
		if (a->died) {
			qmp(a, "{\"execute\":\"stop\"}");
			/* By a triple fault of its own it is not out: nobody has entered it since. */
			a->attached = !is_out(a);
			return 1;
		}
		if (a->stuck)
			return 2;
	}
	a->alive = false;
	return -ETIMEDOUT;
}
