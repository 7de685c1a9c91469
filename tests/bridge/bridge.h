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

#endif
