# SPDX-License-Identifier: BSD-3-Clause
# The caller notes its reservation after it made it: one that dies in between leaves a hole.
s/vs_store_release\(&intent->rx, VS_DEFENCE\(intent\) \? rx : NULL\);\n//
s/(if \(vs_likely\(vs_cas_pair\(&rx->resv, now, next\)\)\)) *(\n[\t ]*return 0;)/\1 {\n\t\tvs_store_release(\&intent->rx, rx);\2\n\t}/
