# SPDX-License-Identifier: BSD-3-Clause
# The note of a queue's lock goes before the lock: one that dies in between keeps it.
s/(vs_store_release\(\(half \*\)&tx->state, 0\);\n)([^\n]*\n)([^\n]*vs_store_release\(&caller->tx, NULL\);\n)/vs_store_release(\&caller->tx, NULL);\n\t\1/
