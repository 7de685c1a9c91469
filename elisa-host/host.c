/* SPDX-License-Identifier: BSD-3-Clause */
/* The module's descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "internal.h"

static int device_open(void)
{
	int fd = open("/dev/elisa", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	/* A node without its module, or without a device at all, is a missing module. */
	return errno == ENXIO || errno == ENODEV ? -ENOENT : -errno;
}

static int device_ioctl(int fd, unsigned long request, void *arg)
{
	int rc = ioctl(fd, request, arg);

	return rc < 0 ? -errno : rc;
}

const struct elisa_device_ops elisa_device = {device_open, device_ioctl};

static int get_info(struct elisa_host *host, struct elisa_info *info)
{
	int rc = host->ops->ioctl(host->fd, ELISA_INFO, info);

	/* An older or newer module may not know this very request. */
	if (rc == -ENOTTY || (rc >= 0 && info->revision != ELISA_IOCTL_REVISION))
		return -EPROTO;
	return rc < 0 ? rc : 0;
}

int elisa_host_open_with(const struct elisa_device_ops *ops, struct elisa_host **host)
{
	struct elisa_host *h = calloc(1, sizeof(*h));
	int rc;

	if (!h)
		return -ENOMEM;
	h->ops = ops;
	rc = h->fd = ops->open();
	if (rc < 0)
		goto free;
	rc = get_info(h, &h->info);
	if (rc < 0)
		goto close;
	*host = h;
	return 0;
close:
	close(h->fd);
free:
	free(h);
	return rc;
}

ELISA_PUBLIC int elisa_host_open(struct elisa_host **host)
{
	return elisa_host_open_with(&elisa_device, host);
}

ELISA_PUBLIC void elisa_host_close(struct elisa_host *host)
{
	if (!host)
		return;
	close(host->fd);
	free(host);
}

ELISA_PUBLIC int elisa_host_info(struct elisa_host *host, struct elisa_info *info)
{
	return get_info(host, info);
}
