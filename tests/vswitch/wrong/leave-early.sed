# SPDX-License-Identifier: BSD-3-Clause
# The caller counts as outside before it is: who takes memory away does not wait for it.
s/(vs_xchg\(&caller->active[^\n]*\n)/\1\tvs_store_release(\&caller->active, 0);\n/
