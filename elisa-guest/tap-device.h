/* SPDX-License-Identifier: BSD-3-Clause */
/* A TAP interface of this machine: made, configured, taken down with its descriptor. */
#ifndef ELISA_TAP_DEVICE_H
#define ELISA_TAP_DEVICE_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tap {
	int fd;		     /* non-blocking; closing it removes the interface */
	bool headers;	     /* frames come and go with a struct virtio_net_hdr before them */
	char name[IFNAMSIZ]; /* asked for (may hold %d), then the real one */
};

/* All: 0 or -errno, with the reason printed. */
int tap_open(struct tap *tap);
/*
 * Which work the kernel may leave to whoever reads frames here: ELISA_NET_F_*. Only with headers.
 * Frames to be segmented are then shorter than `max` bytes, headers included.
 */
int tap_offload(const struct tap *tap, uint32_t features, uint32_t max);
int tap_configure(const struct tap *tap, const uint8_t mac[6], uint16_t mtu);
/* "ADDR/LEN", IPv4 or IPv6. */
int tap_add_address(const struct tap *tap, const char *address);
int tap_up(const struct tap *tap);
int tap_carrier(const struct tap *tap, bool up);
/* Writes an ARP announcement of the interface's IPv4 address (RFC 5227); returns its length, 0: no address. */
#define TAP_ANNOUNCEMENT_MAX 64
size_t tap_announcement(const struct tap *tap, void *frame);
void tap_close(struct tap *tap);

#endif
