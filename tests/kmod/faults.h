/* SPDX-License-Identifier: BSD-3-Clause */
/* Failing allocations in the kernel (fault/elisa-fault.ko), for the calling thread. */
#ifndef TESTS_KMOD_FAULTS_H
#define TESTS_KMOD_FAULTS_H

#include <stdbool.h>
#include <stdint.h>
#include "fault/elisa-fault.h"

/* Is the module there? */
bool faults_open(void);
/* The nth allocation from now on fails, and with rest all after it; see elisa-fault.h. */
void faults_begin(uint32_t nth, bool rest);
/* No more; how many were asked for and failed. Keeps errno. */
struct elisa_fault faults_end(void);

#endif
