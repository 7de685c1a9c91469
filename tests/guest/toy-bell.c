/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stands in for the doorbell device: preloaded, it has elisa_bell_open() give a doorbell with the id
 * of $TOY_BELL_ID, whose one vector is a FIFO in $TOY_BELL_DIR. Ringing writes to another id's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <elisa/bell.h>

#define EXPORT __attribute__((visibility("default")))

struct elisa_bell {
	uint16_t id;
	int fd;
};

static int open_fifo(unsigned int id)
{
	const char *dir = getenv("TOY_BELL_DIR");
	char path[512];

	if (!dir)
		return -ENODEV;
	snprintf(path, sizeof(path), "%s/bell%u", dir, id);
	mkfifo(path, 0600);
	return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

EXPORT int elisa_bell_open(const char *pci, bool wake, struct elisa_bell **bell)
{
	static struct elisa_bell one;
	const char *id = getenv("TOY_BELL_ID");

	(void)pci;
	if (!wake || !id)
		return -EBUSY;
	one.id = (uint16_t)atoi(id);
	one.fd = open_fifo(one.id);
	*bell = &one;
	return one.fd < 0 ? -ENODEV : 0;
}

EXPORT const char *elisa_bell_error(void)
{
	return "the toy doorbell is not there";
}

EXPORT void elisa_bell_close(struct elisa_bell *bell)
{
	if (bell)
		close(bell->fd);
}

EXPORT uint16_t elisa_bell_id(const struct elisa_bell *bell)
{
	return bell->id;
}

EXPORT int elisa_bell_eventfd(struct elisa_bell *bell, unsigned int vector)
{
	return vector ? -EINVAL : bell->fd;
}

EXPORT void elisa_bell_ring(const struct elisa_bell *bell, uint32_t value)
{
	const uint64_t one = 1;
	int fd = open_fifo(value >> 16);

	(void)bell;
	if (fd < 0 || write(fd, &one, sizeof(one)) != sizeof(one))
		fprintf(stderr, "toy-bell: %x was not rung\n", value);
	close(fd);
}
