# SPDX-License-Identifier: BSD-3-Clause
# Whoever reserves waits for who did before, until that one has committed.
s/(\tseq = caller->seq \+ 1;\n)/\tfor (int i = 0; i < 2000 \&\& now->b \& 0xffff; i++)\n\t\tif (!vs_load_acquire(\&caller->vs->callers[(now->b \& 0xffff) - 1].intent.rx))\n\t\t\tbreak;\n\1/
