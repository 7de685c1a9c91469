/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers shared by tinyvm.c and tinyvm_guest.S. */
#ifndef TESTS_TINYVM_GUEST_H
#define TESTS_TINYVM_GUEST_H

#define TVM_STUB_SIZE		16
#define TVM_IRQ_STUB		(32 * TVM_STUB_SIZE)
#define TVM_PORT_EXCEPTION	0xee
/* Offsets in a vCPU's kernel stack page. */
#define TVM_COUNT_IRQ		0
#define TVM_COUNT_NMI		8

#endif
