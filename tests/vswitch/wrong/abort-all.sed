# SPDX-License-Identifier: BSD-3-Clause
# Recovery aborts what was committed, too.
s/if \(vs_load_acquire\(&comp->seq\) == index \+ 1\)\n[\t ]*continue;\n//
