/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VLANs on the callers' side: what a frame is a member of, and what becomes of its tag on the way
 * to a receiver.
 */
#ifndef VS_VLAN_H
#define VS_VLAN_H

#include "offload.h"

#define VS_TAG_LEN 4

/* How a sender's frames are told apart by their first sixteen bytes; index of vswitch.mask. */
enum vs_kind {
	VS_KIND_ANY,	  /* by their addresses alone: tags mean nothing */
	VS_KIND_UNTAGGED, /* and by their type */
	VS_KIND_TAGGED,	  /* and by TPID and VID */
	VS_KINDS
};

/* A change of a frame's tag: VID << 8 | flags, and how. */
#define VS_TAG_KEEP   0u
#define VS_TAG_PUSH   1u
#define VS_TAG_POP    2u
#define VS_TAG_SET    3u /* a priority tag gets the VID */
#define VS_TAG_HOW    3u
#define VS_TAG_TAGGED 4u /* it comes with one */
#define VS_TAG_REFUSE UINT32_MAX

/* Bytes that the frame grows by. */
vs_inline int32_t vs_tag_shift(uint32_t change)
{
	uint32_t how = change & VS_TAG_HOW;

	return how == VS_TAG_PUSH ? VS_TAG_LEN : how == VS_TAG_POP ? -VS_TAG_LEN : 0;
}

/* What a frame is, of a port with this vs_port.vlan. */
struct vs_vlan_of {
	uint16_t vid;
	uint8_t kind;	/* enum vs_kind */
	bool has_vid;	/* VS_KIND_TAGGED: not a mere priority tag */
	bool is_member; /* else the rest is not valid */
};
struct vs_vlan_of vs_vlan_ingress(const struct vs_port *port, uint32_t vlan, __m128i header);

/* The change that takes it to `to`, or VS_TAG_REFUSE. */
uint32_t vs_vlan_egress(const struct vs_port *to, const struct vs_vlan_of *of);

/*
 * Header and length of the frame become what they are after the change; its data stay where they
 * are, see vs_load_of.shift. At most four bytes of it are read. False: nothing would be left.
 */
bool vs_tag_change(struct vs_frame *frame, const struct vs_seg *segs, uint32_t change);
void vs_tag_gso(struct vs_gso *to, const struct vs_gso *from, __m128i header, uint32_t change);

#endif
