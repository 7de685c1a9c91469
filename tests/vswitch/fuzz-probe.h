/* SPDX-License-Identifier: BSD-3-Clause */
/* Is there a clang with libFuzzer? meson.build compiles this alone. */
#include <stddef.h>
#include <stdint.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	return data && len ? 0 : 0;
}
