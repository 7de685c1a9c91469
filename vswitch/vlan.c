/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VLANs: which one a frame is of, who is a member, tags that come and go.
 */
#include "vlan.h"

#define VID_WORDS 64

/* ---- control side ---- */

bool vs_vlan_valid(const struct vs_vlan *v)
{
	uint64_t any = 0;

	for (unsigned int i = 0; i < VID_WORDS; i++)
		any |= v->allowed[i];
	if (v->mode == VS_VLAN_NONE)
		return !v->pvid && !v->native_tagged && !any;
	if (v->pvid > VS_VID_MAX)
		return v->mode == VS_VLAN_ACCESS && v->pvid == VS_VID_HIDDEN &&
		       !v->native_tagged && !any;
	if (v->mode == VS_VLAN_ACCESS || v->mode == VS_VLAN_QINQ)
		return v->pvid && !v->native_tagged && !any;
	/* VIDs 0 and 4095 are none. */
	return v->mode == VS_VLAN_TRUNK && (v->pvid || !v->native_tagged) && !(v->allowed[0] & 1) &&
	       !(v->allowed[VID_WORDS - 1] >> 63);
}

/*
 * A call under way may meet the list of one configuration with the word of the other: it takes
 * part in VLANs of one of the two.
 */
void vs_vlan_apply(struct vs_port *port, const struct vs_vlan *v)
{
	for (unsigned int i = 0; i < VID_WORDS; i++)
		vs_store(&port->allowed[i], v->allowed[i]);
	vs_store_release(&port->vlan,
			 (uint32_t)v->pvid << 16 | (uint32_t)v->native_tagged << 8 | v->mode);
}

/* ---- callers' side ---- */

bool vs_vlan_member(const struct vs_port *port, uint32_t vid)
{
	uint32_t vlan = vs_load_acquire(&port->vlan);

	if (!vid)
		return (uint8_t)vlan == VS_VLAN_NONE;
	if (vid == vlan >> 16)
		return true;
	return (uint8_t)vlan == VS_VLAN_TRUNK && vid <= VS_VID_MAX &&
	       vs_load(&port->allowed[vid / 64]) >> vid % 64 & 1;
}

/*
 * As the Linux bridge does with vlan_filtering: a tag without a VID is a priority for the VLAN of
 * untagged frames.
 */
struct vs_vlan_of vs_vlan_ingress(const struct vs_port *port, uint32_t vlan, __m128i header)
{
	uint64_t high = (uint64_t)_mm_cvtsi128_si64(_mm_bsrli_si128(header, 8));
	struct vs_vlan_of of = {.vid = (uint16_t)(vlan >> 16), .kind = VS_KIND_UNTAGGED};

	if ((uint8_t)vlan == VS_VLAN_NONE || (uint8_t)vlan == VS_VLAN_QINQ) {
		of.kind = VS_KIND_ANY;
		of.is_member = true;
		return of;
	}
	if (__builtin_bswap16((uint16_t)(high >> 32)) == VS_TPID_C) {
		uint16_t vid = __builtin_bswap16((uint16_t)(high >> 48)) & 0xfff;

		of.kind = VS_KIND_TAGGED;
		of.has_vid = vid != 0;
		if (vid)
			of.vid = vid;
	}
	of.is_member = of.vid && vs_vlan_member(port, of.vid);
	return of;
}

uint32_t vs_vlan_egress(const struct vs_port *to, const struct vs_vlan_of *of)
{
	uint32_t vlan = vs_load_acquire(&to->vlan), vid = of->vid;
	uint32_t tagged = of->kind == VS_KIND_TAGGED ? VS_TAG_TAGGED : 0;

	if (vs_likely(!(vlan | vid)))
		return VS_TAG_KEEP;
	if (!vid || !vs_vlan_member(to, vid))
		return VS_TAG_REFUSE;
	/* Untagged out, of a VLAN that the port knows so. */
	if (vid == vlan >> 16 && !(vlan >> 8 & 1))
		return tagged ? tagged | VS_TAG_POP : VS_TAG_KEEP;
	if (!tagged)
		return vid << 8 | VS_TAG_PUSH;
	return of->has_vid ? tagged | VS_TAG_KEEP : vid << 8 | tagged | VS_TAG_SET;
}

/* Bytes [16, len) of the frame, four at most. */
vs_inline uint32_t after_tag(const struct vs_frame *frame, const struct vs_seg *segs)
{
	typedef uint32_t __attribute__((aligned(1))) unaligned;
	struct vs_from from = {NULL, 16};
	uint32_t len = frame->len - 16 < 4 ? frame->len - 16 : 4;
	uint8_t bytes[4] = {0, 0, 0, 0};

	if (vs_likely(!frame->segs && len == 4))
		return *(const volatile unaligned *)(const volatile void *)(frame->data + 16);
	if (!frame->segs) {
		for (uint32_t i = 0; i < len; i++)
			bytes[i] = VS_READ_ONCE(frame->data[16 + i]);
	} else {
		for (from.seg = &segs[frame->seg]; from.at >= from.seg->len; from.seg++)
			from.at -= from.seg->len;
		vs_copy_pieces(bytes, &from, len);
	}
	/* The compiler must not look at guest memory again. */
	__asm__ volatile("" : "+m"(bytes));
	return vs_get32(bytes);
}

bool vs_tag_change(struct vs_frame *frame, const struct vs_seg *segs, uint32_t change)
{
	uint64_t low = (uint64_t)_mm_cvtsi128_si64(frame->header);
	uint64_t high = (uint64_t)_mm_cvtsi128_si64(_mm_bsrli_si128(frame->header, 8));
	uint32_t how = change & VS_TAG_HOW, tci = __builtin_bswap16((uint16_t)(change >> 8));

	if (how == VS_TAG_PUSH) {
		high = (uint32_t)high | (uint64_t)(__builtin_bswap16(VS_TPID_C) | tci << 16) << 32;
	} else if (how == VS_TAG_SET) {
		high |= (uint64_t)tci << 48;
	} else if (how == VS_TAG_POP) {
		if (frame->len < ELISA_FRAME_MIN + VS_TAG_LEN)
			return false;
		high = (uint32_t)high | (uint64_t)after_tag(frame, segs) << 32;
	}
	frame->header = _mm_set_epi64x((int64_t)high, (int64_t)low);
	frame->len += (uint32_t)vs_tag_shift(change);
	return true;
}

void vs_tag_gso(struct vs_gso *to, const struct vs_gso *from, __m128i header, uint32_t change)
{
	struct vs_frame frame = {.data = from->header, .len = from->header_len, .header = header};
	int32_t shift = vs_tag_shift(change);

	vs_tag_change(&frame, NULL, change);
	to->offload = from->offload;
	to->offload.csum_start += (uint16_t)shift;
	to->header_len = frame.len;
	to->l3 = from->l3 + (uint32_t)shift;
	to->payload = from->payload;
	to->segments = from->segments;
	VS_PUT128(to->header, frame.header);
	vs_copy(to->header + 16, from->header + (16 - shift), to->header_len - 16);
}
