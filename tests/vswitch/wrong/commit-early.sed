# SPDX-License-Identifier: BSD-3-Clause
# A frame is committed before it is copied: one that dies in between leaves what lay there.
s/copy_whole\(to, frame, len, shift\);\n(.*vs_store_release\(&comp\[1\], seq \| \(uint32_t\)with\);\n)/\1\t\t\t__asm__ volatile("" : : : "memory");\n\t\t\tcopy_whole(to, frame, len, shift);\n/
