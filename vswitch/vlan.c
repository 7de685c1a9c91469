/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VLANs: which one a frame is of, who is a member, tags that come and go.
 */
#include "offload.h"

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
		return false;
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

	if (vid == vlan >> 16)
		return true;
	return (uint8_t)vlan == VS_VLAN_TRUNK && vid <= VS_VID_MAX &&
	       vs_load(&port->allowed[vid / 64]) >> vid % 64 & 1;
}
