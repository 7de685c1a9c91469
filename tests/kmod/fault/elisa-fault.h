/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/* /dev/elisa-fault: lets memory allocations of the calling thread fail, see elisa-fault.c. */
#ifndef ELISA_FAULT_H
#define ELISA_FAULT_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct elisa_fault {
	__u32 nth;	/* in: the nth allocation from now on fails, 1 for the next; 0: none, only count */
	__u32 rest;	/* in: not 0: and all after it */
	__u32 seen;	/* out: allocations that were asked for */
	__u32 failed;	/* out: and not granted */
};
/* Begins for the calling thread, which has one descriptor of its own; END also tells. */
#define ELISA_FAULT_BEGIN	_IOW('F', 0, struct elisa_fault)
#define ELISA_FAULT_END		_IOR('F', 1, struct elisa_fault)

#endif
