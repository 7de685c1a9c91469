/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef ELISA_LIBVIRT_DOMAIN_XML_H
#define ELISA_LIBVIRT_DOMAIN_XML_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define DOMAIN_XMLNS	"https://elisa-vswitch.org/xmlns/libvirt/domain/1.0"
#define DOMAIN_XML_MAX	(1u << 20)
#define DOMAIN_JSON_MAX 60000 /* the daemon takes lines of 64 KiB */

struct domain_xml {
	char uuid[64];
	bool required;
	json_t *define; /* parameters of vm.define without "pid"; NULL: it has no <elisa:vm> */
	char why[320];	/* what was wrong, or "" */
};

/*
 * Reads a libvirt domain. 0, or -1 with `why`; `uuid` and `required` are what was read until then.
 * The caller owns `define`.
 */
int domain_xml_read(const char *text, size_t len, struct domain_xml *dom);

#endif
