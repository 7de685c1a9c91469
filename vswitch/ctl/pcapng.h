/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes pcapng (draft-ietf-opsawg-pcapng): one section, an interface for each port. libpcap reads
 * it but cannot write it. Errors are those of `out`: see ferror().
 */
#ifndef ELISACTL_PCAPNG_H
#define ELISACTL_PCAPNG_H

#include <stdint.h>
#include <stdio.h>

enum pcapng_direction { PCAPNG_IN = 1, PCAPNG_OUT = 2 }; /* of the interface; epb_flags */

struct pcapng_packet {
	uint32_t interface;
	uint64_t time; /* ns since 1970 */
	const void *data;
	uint32_t captured, length; /* bytes that are there, bytes that it had */
	enum pcapng_direction direction;
	const char *comment; /* NULL: none */
};

void pcapng_section(FILE *out, const char *program);
/* `snap`: bytes of each packet; 0: all. Interfaces count from 0 in the order of these calls. */
void pcapng_interface(FILE *out, const char *name, uint32_t snap);
void pcapng_packet(FILE *out, const struct pcapng_packet *packet);
void pcapng_statistics(FILE *out, uint32_t interface, uint64_t time, uint64_t received,
		       uint64_t accepted, uint64_t missed);

#endif
