/* SPDX-License-Identifier: BSD-3-Clause */
/* Both say nearly the same: virtio 1.2, 5.1.6.2, and elisa/net.h. The TAP's is little-endian. */
#include "tap-offload.h"

#define TCP_DOFF 12 /* offset of the header's length in words, upper half */
#define TCP_MIN	 20

bool tap_request_of(const struct virtio_net_hdr *h, struct tap_request *r)
{
	const uint8_t gso = h->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

	*r = (struct tap_request){0, 0, 0};
	if (!(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return gso == VIRTIO_NET_HDR_GSO_NONE;
	if (h->csum_offset > UINT8_MAX)
		return false;
	r->flags = (uint16_t)(ELISA_NET_CSUM | h->csum_offset << ELISA_NET_CSUM_OFFSET);
	r->csum_start = h->csum_start;
	if (gso == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	if (gso == VIRTIO_NET_HDR_GSO_TCPV4)
		r->flags |= ELISA_NET_TSO4;
	else if (gso == VIRTIO_NET_HDR_GSO_TCPV6)
		r->flags |= ELISA_NET_TSO6;
	else
		return false;
	if (h->gso_type & VIRTIO_NET_HDR_GSO_ECN)
		r->flags |= ELISA_NET_ECN;
	r->gso_size = h->gso_size;
	return true;
}

struct virtio_net_hdr tap_header_of(const struct elisa_frame *f)
{
	struct virtio_net_hdr h = {.gso_type = VIRTIO_NET_HDR_GSO_NONE};
	uint32_t tcp = f->csum_start;

	if (f->flags & ELISA_RXC_CSUM_OK)
		h.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	if (!(f->flags & ELISA_NET_CSUM))
		return h;
	h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h.csum_start = f->csum_start;
	h.csum_offset = f->flags >> ELISA_NET_CSUM_OFFSET;
	if (!(f->flags & (ELISA_NET_TSO4 | ELISA_NET_TSO6)))
		return h;
	h.gso_type =
		f->flags & ELISA_NET_TSO4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
	if (f->flags & ELISA_NET_ECN)
		h.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	h.gso_size = f->gso_size;
	/* A hint: how much the kernel keeps in one piece. Without it, that is the whole frame. */
	h.hdr_len = (uint16_t)(tcp + TCP_MIN);
	if (tcp + TCP_MIN <= f->seg_len)
		h.hdr_len = (uint16_t)(tcp + (((const uint8_t *)f->data)[tcp + TCP_DOFF] >> 4) * 4);
	return h;
}
