/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Learned addresses outlive the daemon: RUN_DIR/fdb. Without it each restart would flood to all ports
 * until everybody has spoken again.
 *
 * A thread walks the table, which needs no lock, and writes a file beside; the event loop only renames
 * it. What is restored comes in steps of the event loop. Entries name their ports: ids are others the
 * next time. Addresses of ports that are not there yet wait for them; until then the file stays.
 */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC	 "elisafdb"
#define REVISION 1
#define BOOT_LEN 40

/* All in the byte order of this machine: the file is of no use on another one. */
struct head {
	char magic[8];
	uint32_t revision, ports; /* after the head: so many names, then the entries */
	uint64_t entries;
	uint64_t when_s; /* CLOCK_BOOTTIME */
	char boot[BOOT_LEN];
};
struct entry {
	uint8_t mac[6];
	uint16_t vid;
	uint32_t port; /* index of its name */
	uint32_t age_s;
};
_Static_assert(sizeof(struct head) == 72 && sizeof(struct entry) == 16, "no holes");
typedef char port_name[VS_NAME_LEN];

#define FILE_MAX \
	(sizeof(struct head) + VS_PORTS_MAX * sizeof(port_name) + VS_FDB_MAX * sizeof(struct entry))

#define WRITE_EVERY (5 * SEC)  /* at most so often */
#define PORTS_WAIT  (30 * SEC) /* addresses wait so long for their ports */
#define STEP	    (2 * MSEC) /* of restoring */
#define STEP_CHECK  128	       /* entries from one look at the clock to the next */
#define UNKNOWN	    (-1)
#define NOT_ASKED   (-2)

struct fdb_file {
	char *path, *temp;

	/* What is being restored, as read; NULL: nothing (more). */
	char *data;
	port_name *name;
	struct entry *entry;
	uint64_t count, at, kept; /* the first `kept` of those before `at` wait for their ports */
	uint32_t ports, elapsed_s;
	uint64_t until;
	int id[VS_PORTS_MAX]; /* of the named ports, or one of the above */

	/* What is being written. */
	bool writing, spoiled;
	pthread_t thread;
	int result;
	struct vswitch *vs;
	struct head head;
	port_name now[VS_PORTS_MAX]; /* index: id; "": none, or not to be kept */
	struct vs_fdb_stats as_of, written;
	uint64_t began;
	bool complained;
};

static void head_now(struct head *head)
{
	struct timespec t;

	memset(head, 0, sizeof(*head));
	memcpy(head->magic, MAGIC, sizeof(head->magic));
	head->revision = REVISION;
	clock_gettime(CLOCK_BOOTTIME, &t);
	head->when_s = (uint64_t)t.tv_sec;
	proc_read_line("/proc/sys/kernel/random/boot_id", head->boot, sizeof(head->boot));
}

/* ---- restore ---- */

static void waiting_free(struct fdb_file *f)
{
	free(f->data);
	f->data = NULL;
}

static void ids_forget(struct fdb_file *f)
{
	for (uint32_t i = 0; i < VS_PORTS_MAX; i++)
		f->id[i] = NOT_ASKED;
}

static int file_read(struct fdb_file *f, size_t *len)
{
	/* Not to wait for a writer, should it be a FIFO. */
	int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), ret = 0;
	struct stat st;
	ssize_t got;

	if (fd < 0)
		return -errno;
	*len = 0;
	if (fstat(fd, &st))
		ret = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct head) ||
		 st.st_size > (off_t)FILE_MAX)
		ret = -EINVAL;
	else if (!(f->data = malloc((size_t)st.st_size)))
		ret = -ENOMEM;
	while (!ret && *len < (size_t)st.st_size) {
		got = read(fd, f->data + *len, (size_t)st.st_size - *len);
		if (got > 0)
			*len += (size_t)got;
		else
			ret = got ? -errno : -EINVAL;
	}
	close(fd);
	return ret;
}

/* Everything that is relied upon later. -ESTALE: good, but of no use. */
static int file_check(struct fdb_file *f, size_t len)
{
	const struct head *head = (const struct head *)f->data;
	struct head now;

	head_now(&now);
	if (memcmp(head->magic, now.magic, sizeof(now.magic)) || head->revision != REVISION ||
	    head->ports > VS_PORTS_MAX || head->entries > VS_FDB_MAX ||
	    len != sizeof(*head) + head->ports * sizeof(port_name) +
			    head->entries * sizeof(struct entry))
		return -EINVAL;
	if (memcmp(head->boot, now.boot, sizeof(now.boot)))
		return -ESTALE;
	if (head->when_s > now.when_s || now.when_s - head->when_s > UINT32_MAX)
		return -EINVAL;
	f->elapsed_s = (uint32_t)(now.when_s - head->when_s);
	f->ports = head->ports;
	f->count = head->entries;
	f->name = (port_name *)(f->data + sizeof(*head));
	f->entry = (struct entry *)(f->name + f->ports);
	for (uint32_t i = 0; i < f->ports; i++)
		if (!memchr(f->name[i], '\0', sizeof(port_name)))
			return -EINVAL;
	for (uint64_t i = 0; i < f->count; i++)
		if (f->entry[i].port >= f->ports)
			return -EINVAL;
	return 0;
}

static int port_id(struct daemon *d, struct fdb_file *f, uint32_t index)
{
	struct port *port;

	if (f->id[index] == NOT_ASKED) {
		port = port_find(d, f->name[index]);
		f->id[index] = port ? port->id : UNKNOWN;
	}
	return f->id[index];
}

/* What the switch does not want (known better by now, port full) is not worth a word. */
static void restore(struct daemon *d, const struct fdb_file *f, const struct entry *from, int port)
{
	const uint64_t age = (uint64_t)from->age_s + f->elapsed_s;
	struct vs_fdb_entry e = {.vid = from->vid, .port = port, .age_s = (uint32_t)age};

	if (from->vid == VS_VID_HIDDEN || age > UINT32_MAX ||
	    (d->set.vs.fdb_age_s && age > d->set.vs.fdb_age_s))
		return;
	memcpy(e.mac, from->mac, sizeof(e.mac));
	vs_fdb_restore(d->vs, &e);
}

bool fdb_file_work(struct daemon *d)
{
	struct fdb_file *f = d->fdb_file;
	const uint64_t end = now_us() + STEP;
	struct entry e;
	int port;

	if (!f || !f->data)
		return false;
	for (unsigned int n = 1; f->at < f->count; n++) {
		e = f->entry[f->at++];
		port = port_id(d, f, e.port);
		if (port < 0)
			f->entry[f->kept++] = e;
		else
			restore(d, f, &e, port);
		if (!(n % STEP_CHECK) && now_us() >= end)
			break;
	}
	if (f->at == f->count && !f->kept)
		waiting_free(f);
	return f->data && f->at < f->count;
}

/* Once more for those that wait, each second: their ports may be there now. */
static void restore_again(struct daemon *d, struct fdb_file *f)
{
	if (f->at < f->count)
		return;
	if (now_us() >= f->until) {
		log_info("%llu addresses of the former daemon are not kept: their ports are gone",
			 (unsigned long long)f->kept);
		waiting_free(f);
		return;
	}
	f->count = f->kept;
	f->at = f->kept = 0;
	/* elapsed_s stays: by a few seconds they look younger than they are. */
	ids_forget(f);
	work_soon(d, 0);
}

/* ---- write; the first two on the thread ---- */

static int write_entries(struct fdb_file *f, FILE *file)
{
	struct vs_fdb_entry e;
	uint64_t cursor = 0;

	while (f->head.entries < VS_FDB_MAX && vs_fdb_next(f->vs, &cursor, &e) > 0) {
		struct entry to = {.vid = e.vid, .port = (uint32_t)e.port, .age_s = e.age_s};

		if (e.is_static || e.vid == VS_VID_HIDDEN || to.port >= f->head.ports ||
		    !f->now[to.port][0])
			continue;
		memcpy(to.mac, e.mac, sizeof(to.mac));
		if (fwrite(&to, sizeof(to), 1, file) != 1)
			return -errno;
		f->head.entries++;
	}
	return 0;
}

static void *write_file(void *arg)
{
	struct fdb_file *f = arg;
	int fd = open(f->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	f->result = file ? 0 : -errno;
	if (!file) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	/* The head once more when it is known how many entries there are. */
	if (fwrite(&f->head, sizeof(f->head), 1, file) != 1 ||
	    fwrite(f->now, sizeof(port_name), f->head.ports, file) != f->head.ports)
		f->result = -errno;
	if (!f->result)
		f->result = write_entries(f, file);
	if (!f->result && (fseek(file, 0, SEEK_SET) ||
			   fwrite(&f->head, sizeof(f->head), 1, file) != 1))
		f->result = -errno;
	if (fclose(file) && !f->result)
		f->result = -errno;
	return NULL;
}

static void write_prepare(struct daemon *d, struct fdb_file *f, const struct vs_fdb_stats *stats)
{
	struct port *port;

	head_now(&f->head);
	memset(f->now, 0, sizeof(f->now));
	TAILQ_FOREACH(port, &d->ports, link)
	{
		if (port->deleting)
			continue;
		memcpy(f->now[port->id], port->set.vs.name, sizeof(port_name));
		if ((uint32_t)port->id >= f->head.ports)
			f->head.ports = (uint32_t)port->id + 1;
	}
	f->vs = d->vs;
	f->as_of = *stats;
	f->began = now_us();
	f->spoiled = false;
}

static void write_done(struct fdb_file *f)
{
	int ret = f->result;

	f->writing = false;
	if (!ret && f->spoiled)
		return; /* the next second's turn */
	if (!ret && rename(f->temp, f->path))
		ret = -errno;
	if (!ret)
		f->written = f->as_of;
	if (ret && !f->complained)
		log_error("%s was not written: %s: a restarted daemon would not know the addresses "
			  "that were learned", f->path, strerror(-ret));
	f->complained = ret;
}

static bool write_due(const struct daemon *d, const struct fdb_file *f,
		      const struct vs_fdb_stats *now)
{
	const struct vs_fdb_stats *was = &f->written;
	const uint64_t since = now_us() - f->began;

	if (since < WRITE_EVERY)
		return false;
	if (f->spoiled || now->learned != was->learned || now->moved != was->moved ||
	    now->aged != was->aged || now->used != was->used || now->statics != was->statics)
		return true;
	/* Those that are heard of must not look as if they had been silent since the last time. */
	return now->used > now->statics && d->set.vs.fdb_age_s &&
	       since >= d->set.vs.fdb_age_s * SEC / 8;
}

/* ---- the daemon's ---- */

void fdb_file_tick(struct daemon *d, const struct vs_fdb_stats *stats)
{
	struct fdb_file *f = d->fdb_file;

	if (!f)
		return;
	if (f->writing) {
		if (!pthread_tryjoin_np(f->thread, NULL))
			write_done(f);
	} else if (f->data) {
		restore_again(d, f);
	} else if (write_due(d, f, stats)) {
		write_prepare(d, f, stats);
		f->result = -pthread_create(&f->thread, NULL, write_file, f);
		f->writing = !f->result;
		if (f->result)
			write_done(f);
	}
}

void fdb_file_port_gone(struct daemon *d)
{
	if (!d->fdb_file)
		return;
	d->fdb_file->spoiled = true;
	ids_forget(d->fdb_file);
}

int fdb_file_open(struct daemon *d)
{
	struct fdb_file *f = calloc(1, sizeof(*f));
	size_t len = 0;
	int ret;

	if (!f || asprintf(&f->path, "%s/fdb", d->run_dir) < 0 ||
	    asprintf(&f->temp, "%s/fdb.new", d->run_dir) < 0) {
		if (f)
			free(f->path);
		free(f);
		return -ENOMEM;
	}
	d->fdb_file = f;
	f->began = now_us();
	f->until = now_us() + PORTS_WAIT;
	ids_forget(f);
	ret = file_read(f, &len);
	if (!ret)
		ret = file_check(f, len);
	if (ret && ret != -ENOENT && ret != -ESTALE)
		log_warning("%s: %s: the addresses that the former daemon had learned are not used",
			    f->path, ret == -EINVAL ? "not a whole file of this daemon's version"
						    : strerror(-ret));
	if (ret) {
		waiting_free(f);
		return 0;
	}
	log_debug("%s: %llu addresses, %u s old", f->path, (unsigned long long)f->count,
		  f->elapsed_s);
	if (fdb_file_work(d))
		work_soon(d, 0);
	return 0;
}

void fdb_file_close(struct daemon *d)
{
	struct fdb_file *f = d->fdb_file;
	struct vs_fdb_stats stats;

	if (!f)
		return;
	if (f->writing) {
		pthread_join(f->thread, NULL);
		write_done(f);
	}
	if (!f->data) {
		vs_fdb_stats(d->vs, &stats);
		write_prepare(d, f, &stats);
		write_file(f);
		write_done(f);
	}
	waiting_free(f);
	free(f->path);
	free(f->temp);
	free(f);
	d->fdb_file = NULL;
}
