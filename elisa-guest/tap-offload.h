/* SPDX-License-Identifier: BSD-3-Clause */
/* What is left to do for a frame: the TAP's virtio-net header and the switch's descriptors. */
#ifndef ELISA_TAP_OFFLOAD_H
#define ELISA_TAP_OFFLOAD_H

#include <linux/virtio_net.h>
#include <stdbool.h>

#include <elisa/port.h>

struct tap_request {
	uint16_t flags, csum_start, gso_size; /* of a descriptor */
};

/* False: a request that descriptors have no words for. */
bool tap_request_of(const struct virtio_net_hdr *header, struct tap_request *request);
/* The header for a frame that was received. */
struct virtio_net_hdr tap_header_of(const struct elisa_frame *frame);

#endif
