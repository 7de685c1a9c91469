#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What the trusted context demands of libvswitch-nic's code for there: test_object.sh ARCHIVE
set -eu
archive=$1
fail=0
say() { echo "FAIL: $*"; fail=1; }

# Each other's, and one function for buffers that are not of our pools.
undefined=$(nm -u "$archive" | awk '$1 == "U" { print $2 }' | sort -u |
	grep -vxE 'nic_free_any|nic_burst_ops|_GLOBAL_OFFSET_TABLE_' || true)
[ -z "$undefined" ] || say "undefined symbols: $undefined"

code=$(objdump -d --no-show-raw-insn "$archive")
functions=$(echo "$code" | grep -cE '^[0-9a-f]+ <.*>:$' || true)
[ "$functions" -ge 10 ] || say "only $functions functions found: is this test blind?"

# Indirect branches could be steered by a guest's branch history: drivers are called through returns.
found=$(echo "$code" | grep -E '(call|jmp)[a-z]*[[:space:]]+\*|(call|jmp)[a-z]*[[:space:]]+\*?%r' || true)
[ -z "$found" ] || say "indirect branches: $found"
[ "$(echo "$code" | grep -c lfence)" -ge 4 ] || say "no calls through returns"

found=$(echo "$code" | grep -E '%fs:|%gs:|syscall|sysenter|[^a-z]int |%zmm|%k[0-7]' || true)
[ -z "$found" ] || say "not for inside: $found"

# Variables are per process; all state is in DPDK's heap.
found=$(readelf -SW "$archive" | sed 's/^ *\[ *[0-9]*\] *//' |
	awk '$1 ~ /^\.(data|bss|tdata|tbss)$/ && $5 != "000000" { print $1 }')
[ -z "$found" ] || say "variables in $found"

[ $fail = 0 ] && echo "object code: $functions functions, all as they must be"
exit $fail
