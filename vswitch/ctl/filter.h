/* SPDX-License-Identifier: BSD-3-Clause */
/* Filters as tcpdump has them (pcap-filter(7)), by libpcap, which is loaded only when one is given. */
#ifndef ELISACTL_FILTER_H
#define ELISACTL_FILTER_H

#include <stdbool.h>
#include <stdint.h>

/* 0, or an exit status after a message. One filter at a time. */
int filter_compile(const char *text);
/* `length`: bytes that the frame had; `captured` of them are there. True without a filter. */
bool filter_takes(const void *frame, uint32_t captured, uint32_t length);
void filter_free(void);

#endif
