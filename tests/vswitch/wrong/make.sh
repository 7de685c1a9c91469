#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Puts one mistake into a source of the switch, for a test that has to find it:
# make.sh CHANGE SOURCE OUTPUT. CHANGE is a sed script that must change something.
set -eu
sed -E -z -f "$1" "$2" >"$3"
if cmp -s "$2" "$3"; then
	echo "$1 does not find what it is to change in $2: adapt it" >&2
	rm "$3"
	exit 1
fi
