#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs the fuzzer for a bounded count: run_fuzz.sh FUZZER RUNS. Inputs that crash are kept.
set -eu
fuzzer=$1
runs=$2
if [ ! -x "$fuzzer" ]; then
	echo "skipped: no clang with libFuzzer at configuration time (Debian: clang, libclang-rt-14-dev)"
	exit 77
fi
work=$(mktemp -d)
keep="$(dirname "$fuzzer")/fuzz-crash-"
if "$fuzzer" -runs="$runs" -seed=20261121 -max_len=512 -len_control=0 -timeout=10 \
	-rss_limit_mb=2048 -artifact_prefix="$keep" -print_final_stats=1 "$work" >"$work.log" 2>&1; then
	grep -E "stat::number_of_executed_units|stat::new_units_added" "$work.log"
	grep -E "cov:" "$work.log" | tail -1
	rm -rf "$work" "$work.log"
else
	cat "$work.log"
	echo "a crashing input is kept: $keep*"
	rm -rf "$work" "$work.log"
	exit 1
fi
