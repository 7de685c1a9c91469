/* SPDX-License-Identifier: BSD-3-Clause */
#define main daemon_main
#include "../../vswitch/daemon/main.c"
#undef main
#include "inside.h"

#include <ftw.h>
#include <sys/socket.h>
#include <sys/un.h>

static char dir[64];
static struct daemon d;

static const char config[] =
	"switch = { fdb_capacity = 1024; max_ports = 24; max_vms = 8; max_callers = 32; };\n"
	"doorbell = { enable = true; };\n"
	"ports = ( { name = \"a\"; vm = \"web\"; }, { name = \"b\"; vm = \"web\"; }, { name = \"c\"; } );\n"
	"vms = ( { name = \"web\"; } );\n";

static int forget(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void cleanup(void)
{
	nftw(dir, forget, 16, FTW_DEPTH | FTW_PHYS);
}

const char *inside_path(const char *name)
{
	static char path[4][256];
	static unsigned int n;

	n = (n + 1) % 4;
	snprintf(path[n], sizeof(path[n]), "%s/%s", dir, name);
	return path[n];
}

void inside_write(const char *name, const void *data, size_t len)
{
	FILE *f = fopen(inside_path(name), "we");

	if (!f || fwrite(data, 1, len, f) != len || fclose(f))
		abort();
}

void inside_prepare(void)
{
	snprintf(dir, sizeof(dir), "/dev/shm/elisa-fuzz-XXXXXX");
	if (!mkdtemp(dir) || mkdir(inside_path("root"), 0755) || mkdir(inside_path("log"), 0755) ||
	    mkdir(inside_path("domains"), 0755))
		abort();
	setenv("FAKE_HOST_DIR", dir, 1);
	atexit(cleanup);
	inside_config(NULL);
}

void inside_config(const char *text)
{
	if (!text)
		text = config;
	inside_write("vswitchd.conf", text, strlen(text));
}

static void line_to_log(void *arg, const char *file, int line, const char *text)
{
	(void)arg;
	log_warning("%s:%d: %s", file, line, text);
}

int inside_start(void)
{
	static char run_dir[64], path[256];
	const struct sink sink = {line_to_log, NULL};
	int ret;

	snprintf(run_dir, sizeof(run_dir), "%s", dir);
	snprintf(path, sizeof(path), "%s/vswitchd.conf", dir);
	d = (struct daemon){.started = now_us(), .run_dir = run_dir, .config_path = path, .arena_fd = -1};
	TAILQ_INIT(&d.guests);
	TAILQ_INIT(&d.ports);
	TAILQ_INIT(&d.waits);
	TAILQ_INIT(&d.captures);
	TAILQ_INIT(&d.domains);
	ret = said(settings_read(&d.set, path, run_dir, &sink));
	if (!ret)
		ret = said(start(&d));
	return exit_status(ret);
}

void inside_stop(void)
{
	stop(&d);
	settings_free(&d.set);
}

int inside_client(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", inside_path("control.sock"));
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		abort();
	return fd;
}

void inside_work(void)
{
	for (int i = 0; i < 200 && sd_event_run(d.event, 0) > 0; i++)
		;
}
