/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls that can fail for want of something (memory, descriptors, threads), as the daemon makes them,
 * fail at will: the linker's --wrap leads them here. Any thread.
 */
#ifndef TESTS_DAEMON_FAILING_H
#define TESTS_DAEMON_FAILING_H

#include <stdbool.h>

/* The nth call from now on fails, 1 for the next, and with rest all after it. */
void failing_begin(unsigned int nth, bool rest);
/* Calls made meanwhile are neither counted nor failed. */
void failing_pause(bool pause);
/* None any more. How many failed. */
unsigned int failing_end(void);

#endif
