/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's bridge, by rtnetlink. The devices are there already: bridges br0 (knows no VLANs),
 * br1 (802.1Q) and br2 (802.1ad), and pairs of veth sN - pN. Any error ends the program, with a
 * message.
 */
#ifndef BRIDGE_BRIDGE_H
#define BRIDGE_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>

struct b_flags {
	bool forwarding, isolated, learning;
	bool broadcast, multicast, unknown; /* floods that reach it */
};

__attribute__((format(printf, 1, 2), noreturn)) void b_fail(const char *fmt, ...);
void b_open(void);
unsigned int b_index(const char *fmt, unsigned int n);
/* master 0: none */
void b_master(unsigned int port, unsigned int master);
void b_port(unsigned int port, const struct b_flags *flags);
void b_flush(unsigned int port);
void b_vlan_add(unsigned int port, uint16_t vid, bool pvid, bool untagged);
void b_vlan_del(unsigned int port, uint16_t vid);
/* Such that no frame from another port moves it. */
void b_fdb_add(unsigned int port, const uint8_t mac[6], uint16_t vid);
void b_fdb_del(unsigned int port, const uint8_t mac[6], uint16_t vid);

/*
 * Filters on the way from sN into the bridge (in) or from it to sN. Those with a lower `pref` come
 * first; what one of them lets pass goes on to the next.
 */
enum b_match { B_ALL, B_BROADCAST, B_MULTICAST };
struct b_filter {
	unsigned int port, pref;
	bool in;
	enum b_match match;
	unsigned int mirror; /* copies for this device */
	/* No more bytes at once, and so many a second; a frame counts as `least` bytes or more. A
	 * policer of frames would be there, too, but begins with none. */
	uint32_t bytes, rate, least;
	bool pass; /* no further filters */
};
void b_filter_add(const struct b_filter *f);
void b_filter_del(unsigned int port, bool in, unsigned int pref); /* 0: all */

#endif
