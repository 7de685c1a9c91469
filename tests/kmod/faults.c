/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "faults.h"

static int fd = -1;

bool faults_open(void)
{
	fd = open("/dev/elisa-fault", O_RDWR | O_CLOEXEC);
	return fd >= 0;
}

void faults_begin(uint32_t nth, bool rest)
{
	struct elisa_fault fault = { .nth = nth, .rest = rest };

	if (fd >= 0)
		ioctl(fd, ELISA_FAULT_BEGIN, &fault);
}

struct elisa_fault faults_end(void)
{
	struct elisa_fault fault = { 0 };
	int saved = errno;

	if (fd >= 0)
		ioctl(fd, ELISA_FAULT_END, &fault);
	errno = saved;
	return fault;
}
