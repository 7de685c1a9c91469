/* SPDX-License-Identifier: BSD-3-Clause */
/* Target: the domain's XML as libvirt's hook gets it. A failure says why. */
#include "../../vswitch/libvirt/domain-xml.h"
#include "fuzz.h"

#include <stdint.h>
#include <stdlib.h>

void fuzz_hook(const uint8_t *data, size_t len)
{
	struct domain_xml dom = {0};

	if (domain_xml_read((const char *)data, len, &dom) && !dom.why[0])
		abort();
	json_decref(dom.define);
}
