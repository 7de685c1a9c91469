/* SPDX-License-Identifier: BSD-3-Clause */
/* The daemon's methods, and their table for who makes up requests. */
#include "../../vswitch/daemon/methods.c"
#include "inside.h"

const char *inside_method(size_t n, const char **params)
{
	if (n >= sizeof(methods) / sizeof(methods[0]))
		return NULL;
	*params = methods[n].params;
	return methods[n].name;
}
