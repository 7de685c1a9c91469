# SPDX-License-Identifier: BSD-3-Clause
# Who reserves next hides who did before: nobody knows any more whether that took place.
s/(vs_unlikely\()!confirm\(caller, now->b\)/\1!now/
