#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# check-closed.sh OBJECT: fails if the shared object needs anything from elsewhere, resolves anything
# late, or has memory that is writable and executable.
set -eu
undefined=$(nm -D --undefined-only "$1")
[ -z "$undefined" ] || { echo "$1 needs: $undefined" >&2; exit 1; }
readelf -dW "$1" | grep -q BIND_NOW || { echo "$1 is not linked with -z now" >&2; exit 1; }
! readelf -dW "$1" | grep NEEDED || { echo "$1 needs other objects" >&2; exit 1; }
! readelf -lW "$1" | grep -E 'LOAD.*RWE' || { echo "$1 has such a segment" >&2; exit 1; }
