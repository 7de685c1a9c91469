#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Instructions of the trusted path per frame, counted by valgrind: test_cost.sh PATH_COST LIMIT
# Prints a table; fails if a 64-byte frame at burst 32 costs more than LIMIT.
set -eu
exe=$1
limit=$2
if ! command -v valgrind >/dev/null; then
	echo "skipped: needs valgrind (Debian: valgrind)"
	exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Instructions below vs_entry of a run of so many calls.
count() {
	valgrind --tool=callgrind --callgrind-out-file="$work/out" --toggle-collect=vs_entry \
		"$exe" "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
	sed -n 's/^.*Collected *: *//p' "$work/log"
}

status=0
printf '%6s %6s %10s %10s\n' length burst per-call per-frame
for len in 64 1514; do
	for burst in 1 4 8 32 128; do
		# The difference of two runs: without what comes before.
		few=$(count "$burst" "$len" 10)
		many=$(count "$burst" "$len" 30)
		call=$(((many - few) / 20))
		printf '%6d %6d %10d %10s\n' "$len" "$burst" "$call" \
			"$(awk "BEGIN { printf \"%.1f\", $call / $burst }")"
		if [ "$len" = 64 ] && [ "$burst" = 32 ] && [ "$call" -gt $((limit * 32)) ]; then
			status=1
		fi
	done
done
# What a feature costs whoever has it.
printf '%10s %10s\n' feature per-frame
for feature in access push pop rate-tx rate-rx mirror-tx mirror-rx; do
	few=$(count 32 64 10 $feature)
	many=$(count 32 64 30 $feature)
	printf '%10s %10s\n' $feature "$(awk "BEGIN { printf \"%.1f\", ($many - $few) / 20 / 32 }")"
done
[ $status = 0 ] || echo "FAIL: more than $limit instructions for a 64-byte frame at burst 32"
exit $status
