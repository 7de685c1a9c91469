/* SPDX-License-Identifier: BSD-3-Clause */
#include "failing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

static atomic_bool begun, active;
static atomic_uint seen, failed;
static unsigned int which;
static bool and_rest;

void failing_begin(unsigned int nth, bool rest)
{
	which = nth;
	and_rest = rest;
	atomic_store(&seen, 0);
	atomic_store(&failed, 0);
	atomic_store(&begun, true);
	atomic_store(&active, true);
}

void failing_pause(bool pause)
{
	atomic_store(&active, atomic_load(&begun) && !pause);
}

unsigned int failing_end(void)
{
	atomic_store(&begun, false);
	atomic_store(&active, false);
	return atomic_load(&failed);
}

static bool fails(int error)
{
	unsigned int now;

	if (!atomic_load(&active))
		return false;
	now = atomic_fetch_add(&seen, 1) + 1;
	if (now != which && !(now > which && and_rest))
		return false;
	atomic_fetch_add(&failed, 1);
	errno = error;
	return true;
}

/* TYPE NAME(PARAMETERS), called with ARGUMENTS; how it fails. */
#define WRAP(type, name, parameters, arguments, error, result) \
	type __real_##name parameters;                         \
	type __wrap_##name parameters;                         \
	type __wrap_##name parameters                          \
	{                                                      \
		return fails(error) ? (result) : __real_##name arguments; \
	}

WRAP(void *, malloc, (size_t n), (n), ENOMEM, NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), ENOMEM, NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), ENOMEM, NULL)
WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size), ENOMEM, NULL)
WRAP(char *, strdup, (const char *s), (s), ENOMEM, NULL)
WRAP(char *, strndup, (const char *s, size_t n), (s, n), ENOMEM, NULL)
WRAP(char *, realpath, (const char *path, char *to), (path, to), ENOMEM, NULL)
WRAP(void *, mmap64, (void *at, size_t len, int prot, int flags, int fd, off_t from),
     (at, len, prot, flags, fd, from), ENOMEM, (void *)-1)
WRAP(FILE *, fopen64, (const char *path, const char *mode), (path, mode), EMFILE, NULL)
WRAP(FILE *, fdopen, (int fd, const char *mode), (fd, mode), ENOMEM, NULL)
WRAP(FILE *, open_memstream, (char **buffer, size_t *len), (buffer, len), ENOMEM, NULL)
WRAP(DIR *, opendir, (const char *path), (path), EMFILE, NULL)
WRAP(int, memfd_create, (const char *name, unsigned int flags), (name, flags), EMFILE, -1)
WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol), EMFILE, -1)
WRAP(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags), (fd, addr, len, flags),
     EMFILE, -1)
WRAP(int, eventfd, (unsigned int count, int flags), (count, flags), EMFILE, -1)
WRAP(int, epoll_create1, (int flags), (flags), EMFILE, -1)
WRAP(int, timerfd_create, (int clock, int flags), (clock, flags), EMFILE, -1)
WRAP(int, ftruncate64, (int fd, off_t len), (fd, len), ENOSPC, -1)
WRAP(int, rename, (const char *from, const char *to), (from, to), ENOSPC, -1)
WRAP(int, fsync, (int fd), (fd), EIO, -1)
WRAP(int, pthread_create, (pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *), void *arg),
     (thread, attr, main, arg), 0, EAGAIN)
WRAP(int, sd_event_add_io, (sd_event *e, sd_event_source **s, int fd, uint32_t events,
     sd_event_io_handler_t handler, void *user), (e, s, fd, events, handler, user), 0, -ENOMEM)
WRAP(int, sd_event_add_time, (sd_event *e, sd_event_source **s, clockid_t clock, uint64_t us,
     uint64_t accuracy, sd_event_time_handler_t handler, void *user),
     (e, s, clock, us, accuracy, handler, user), 0, -ENOMEM)
WRAP(int, sd_event_add_signal, (sd_event *e, sd_event_source **s, int sig,
     sd_event_signal_handler_t handler, void *user), (e, s, sig, handler, user), 0, -ENOMEM)
WRAP(int, sd_event_default, (sd_event **e), (e), 0, -ENOMEM)

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	unsigned int mode = 0;
	va_list ap;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(ap, flags);
		mode = va_arg(ap, unsigned int);
		va_end(ap);
	}
	return fails(EMFILE) ? -1 : __real_open64(path, flags, mode);
}

int __wrap_asprintf(char **out, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) int __wrap_asprintf(char **out, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (fails(ENOMEM))
		return -1;
	va_start(ap, fmt);
	n = vasprintf(out, fmt, ap);
	va_end(ap);
	return n;
}
