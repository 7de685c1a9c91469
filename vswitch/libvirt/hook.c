/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libvirt's hook: tells the daemon which VMs have come and gone, with the ports that their
 * <metadata> names. libvirtd waits for it, and must not be asked anything meanwhile (it would wait
 * for itself): all here is bounded by WAIT_MS. Only a domain with required="yes" fails to start.
 */
#include "domain-xml.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* More than the daemon takes to answer that an attach goes on (DEFINE_WAIT_MS, and a step of it). */
#define WAIT_MS 5000

static struct options {
	const char *run_dir, *socket, *pid_dir;
	bool show;
} opt = {.run_dir = "/run/elisa", .pid_dir = "/run/libvirt/qemu"};

/* For libvirt, which shows it if we fail, and for the journal. */
__attribute__((format(printf, 2, 3))) static int say(const char *domain, const char *fmt, ...)
{
	char text[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "elisa: %s: %s\n", domain, text);
	syslog(LOG_DAEMON | LOG_WARNING, "%s: %s", domain, text);
	return -1;
}

/* ---- the daemon ---- */

static int left_ms(const struct timespec *begin)
{
	struct timespec now;
	long ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (now.tv_sec - begin->tv_sec) * 1000 + (now.tv_nsec - begin->tv_nsec) / 1000000;
	return ms < WAIT_MS ? (int)(WAIT_MS - ms) : 0;
}

static int daemon_connect(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd, n, err;

	n = opt.socket ? snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", opt.socket)
		       : snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/control.sock",
				  opt.run_dir);
	if (n >= (int)sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || !connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd < 0 ? -errno : fd;
	err = errno;
	close(fd);
	return -err;
}

/* A line, without waiting longer than until the end of WAIT_MS. */
static int receive(int fd, const struct timespec *begin, char *line, size_t max)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t len = 0;
	ssize_t n;

	while (len < max - 1 && !memchr(line, '\n', len)) {
		n = poll(&p, 1, left_ms(begin));
		if (n == 0)
			return -ETIMEDOUT;
		n = n < 0 ? n : recv(fd, line + len, max - 1 - len, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		len += (size_t)n;
	}
	line[len] = '\0';
	return 0;
}

/* 0; -1: refused, with `why`; or -errno: nobody answers. Takes `params`. */
static int daemon_call(const char *method, json_t *params, char *why, size_t len)
{
	static char line[65536];
	json_t *request = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", 1, "method",
				    method, "params", params);
	size_t size = json_dumpb(request, line, sizeof(line) - 1, JSON_COMPACT);
	int fd = daemon_connect(), ret = fd < 0 ? fd : 0;
	struct timespec begin;
	json_t *answer, *error;

	json_decref(request);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	line[size++] = '\n';
	if (!ret && send(fd, line, size, MSG_NOSIGNAL) != (ssize_t)size)
		ret = -EAGAIN;
	if (!ret)
		ret = receive(fd, &begin, line, sizeof(line));
	if (fd >= 0)
		close(fd);
	if (ret)
		return ret;
	answer = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
	error = json_object_get(answer, "error");
	if (!answer)
		ret = -EPROTO;
	/* an attach that takes longer than we may wait goes on by itself */
	else if (error && json_integer_value(json_object_get(json_object_get(error, "data"),
							     "errno")) != EINPROGRESS)
		ret = -1;
	if (ret == -1)
		snprintf(why, len, "%s", json_string_value(json_object_get(error, "message")) ?: "?");
	json_decref(answer);
	return ret;
}

static const char *unreachable(int err)
{
	return err == -ENOENT || err == -ECONNREFUSED
		       ? "elisa-vswitchd does not run: start it (systemctl start elisa-vswitchd)"
	       : err == -ETIMEDOUT
		       ? "elisa-vswitchd does not answer: see journalctl -u elisa-vswitchd"
		       : strerror(-err);
}

/* ---- the file that a daemon reads when it starts ---- */

static void file_path(const char *uuid, const char *suffix, char path[4096])
{
	snprintf(path, 4096, "%s/domains/%s.json%s", opt.run_dir, uuid, suffix);
}

static bool uuid_good(const char *uuid)
{
	return strlen(uuid) == 36 && strspn(uuid, "0123456789abcdef-") == 36;
}

static int file_write(const char *uuid, const json_t *define)
{
	char path[4096], temp[4096];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "%s/domains", opt.run_dir);
	if ((mkdir(opt.run_dir, 0755) && errno != EEXIST) || (mkdir(path, 0755) && errno != EEXIST))
		return -errno;
	file_path(uuid, "", path);
	file_path(uuid, ".hook", temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (json_dumpfd(define, fd, JSON_INDENT(1)))
		ret = -EIO;
	close(fd);
	return ret ? ret : rename(temp, path) ? -errno : 0;
}

/* ---- what is to be done ---- */

static long qemu_pid(const char *domain)
{
	char path[4096];
	long pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.pid", opt.pid_dir, domain);
	f = strchr(domain, '/') ? NULL : fopen(path, "re");
	if (f && fscanf(f, "%ld", &pid) != 1)
		pid = 0;
	if (f)
		fclose(f);
	return pid;
}

/* 0, or -1: refused, and said so. */
static int define(const char *domain, const struct domain_xml *dom, bool check)
{
	char why[512] = "";
	long pid = qemu_pid(domain);
	int ret, err;

	if (check)
		json_object_set_new(dom->define, "check", json_true());
	else if (pid > 0)
		json_object_set_new(dom->define, "pid", json_integer(pid));
	ret = daemon_call("vm.define", json_incref(dom->define), why, sizeof(why));
	if (ret < -1 && !check && uuid_good(dom->uuid)) {
		err = file_write(dom->uuid, dom->define);
		if (err)
			say(domain, "%s/domains was not written: %s", opt.run_dir, strerror(-err));
		/* It may have started meanwhile, too early for the file. */
		if (ret != -ETIMEDOUT)
			ret = daemon_call("vm.define", json_incref(dom->define), why, sizeof(why));
	}
	if (ret == -1)
		return say(domain, "%s", why);
	return ret ? say(domain, "%s%s", unreachable(ret),
			 dom->required ? "" : "; its ports come when it is back")
		   : 0;
}

static void undefine(const char *domain, const struct domain_xml *dom)
{
	char path[4096], why[512];
	int ret;

	file_path(dom->uuid, "", path);
	if (!uuid_good(dom->uuid) || (!dom->define && access(path, F_OK)))
		return;
	ret = daemon_call("vm.undefine", json_pack("{s:s}", "uuid", dom->uuid), why, sizeof(why));
	if (ret)
		unlink(path);
	if (ret == -1)
		say(domain, "%s", why);
}

static int run(const char *domain, const char *op, struct domain_xml *dom, int bad)
{
	if (!strcmp(op, "stopped") || !strcmp(op, "release")) {
		undefine(domain, dom);
		return 0;
	}
	/* Before QEMU runs there is only something to refuse. */
	if (!strcmp(op, "prepare") ? !dom->required
				   : strcmp(op, "started") && strcmp(op, "reconnect"))
		return 0;
	if (bad)
		bad = say(domain, "metadata: %s", dom->why);
	else if (dom->define)
		bad = define(domain, dom, !strcmp(op, "prepare"));
	else if (strcmp(op, "prepare"))
		undefine(domain, dom);
	/* libvirtd would kill a running domain */
	return bad && dom->required && strcmp(op, "reconnect") ? EXIT_FAILURE : 0;
}

static int show(struct domain_xml *dom, int bad)
{
	if (bad) {
		fprintf(stderr, "elisa: %s\n", dom->why);
	} else if (dom->define) {
		json_dumpf(dom->define, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		puts("null");
	}
	return bad ? EXIT_FAILURE : 0;
}

static int usage(FILE *to)
{
	fprintf(to,
		"Usage: elisa-libvirt-hook [OPTIONS] DOMAIN OPERATION SUBOPERATION EXTRA <XML\n"
		"       elisa-libvirt-hook --show <XML\n"
		"What libvirt calls for a QEMU domain: tells elisa-vswitchd about it.\n\n"
		"      --run-dir DIR   the daemon's (default /run/elisa)\n"
		"      --socket PATH   its control socket (default control.sock in there)\n"
		"      --pid-dir DIR   libvirt's (default /run/libvirt/qemu)\n"
		"      --show          print what the XML asks for, tell nobody\n"
		"      --help, --version\n\n"
		"Exit status: 0; 1 for what has required=\"yes\" and was refused; 2 wrong usage.\n");
	return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"run-dir", required_argument, NULL, 'r'}, {"socket", required_argument, NULL, 's'},
		{"pid-dir", required_argument, NULL, 'p'}, {"show", no_argument, NULL, 'w'},
		{"help", no_argument, NULL, 'h'},	   {"version", no_argument, NULL, 'v'},
		{0}};
	static char text[DOMAIN_XML_MAX + 1];
	struct domain_xml dom;
	size_t len;
	int c, bad;

	while ((c = getopt_long(argc, argv, "+", longs, NULL)) != -1) {
		if (c == 'r')
			opt.run_dir = optarg;
		else if (c == 's')
			opt.socket = optarg;
		else if (c == 'p')
			opt.pid_dir = optarg;
		else if (c == 'w')
			opt.show = true;
		else if (c == 'v')
			return puts("elisa-libvirt-hook " ELISA_VERSION) < 0;
		else
			return usage(c == 'h' ? stdout : stderr);
	}
	if (opt.show ? argc != optind : argc - optind < 2)
		return usage(stderr);
	len = fread(text, 1, sizeof(text), stdin);
	bad = domain_xml_read(text, len, &dom);
	c = opt.show ? show(&dom, bad) : run(argv[optind], argv[optind + 1], &dom, bad);
	json_decref(dom.define);
	return c;
}
