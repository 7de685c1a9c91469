/* SPDX-License-Identifier: BSD-3-Clause */
/* In a file of its own, so that the tests' daemon can have another. */
#include "daemon.h"

const char *host_root(void)
{
	return "";
}
