#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What the trusted context demands of the library's object code: test_object.sh LIBRARY
set -eu
lib=$1
fail=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { echo "FAIL: $*"; fail=1; }

undefined=$(nm -D --undefined-only "$lib")
[ -z "$undefined" ] || say "undefined symbols: $undefined"

needed=$(readelf -d "$lib" | grep NEEDED || true)
[ -z "$needed" ] || say "needs other libraries: $needed"

exported=$(nm -D --defined-only "$lib" | awk '{print $3}' | grep -v '^vs_' || true)
[ -z "$exported" ] || say "exports more than the public API: $exported"

# Indirect branches could be steered by a guest's branch history; there are none.
indirect=$(objdump -d --no-show-raw-insn "$lib" |
	grep -E '(call|jmp)[a-z]*[[:space:]]+\*|(call|jmp)[a-z]*[[:space:]]+\*?%r' || true)
[ -z "$indirect" ] || say "indirect branches: $indirect"

# The functions of a NIC's driver are called through a return, and by nothing else.
thunks=$(objdump -d --no-show-raw-insn "$lib" | awk '
	/^[0-9a-f]+ <.*>:$/ { f = $2; gsub(/[<>:]|\..*/, "", f) }
	/lfence/ { print f }' | sort | tr '\n' ' ')
[ "$thunks" = "call_rx call_rx_done call_tx " ] ||
	say "calls through a return, but in the driver's three functions: $thunks"

# Writable data would be per process; the state is in the arena.
for section in .data .bss .tdata .tbss .init_array .plt .plt.got .init .fini; do
	size=$(readelf -SW "$lib" | sed 's/^ *\[ *[0-9]*\] *//' | awk -v s="$section" '$1 == s {print $5}')
	case "$size" in
	"" | 000000) ;;
	*) say "section $section has $size bytes" ;;
	esac
done

# All functions that vs_entry can reach, by direct calls and jumps, and what they refer to.
objdump -d --no-show-raw-insn "$lib" | awk '
	/^[0-9a-f]+ <.*>:$/ { f = $2; gsub(/[<>:]/, "", f); next }
	/(call|jmp|j[a-z]+) +[0-9a-f]+ </ {
		t = $0; sub(/.*</, "", t); sub(/[+>].*/, "", t)
		if (t != f) calls[f] = calls[f] " " t
	}
	/\(%rip\)/ { data[f] = data[f] "\n" $0 }
	/%fs:|%gs:|syscall|sysenter|[^a-z]int / { special[f] = special[f] "\n" $0 }
	/%zmm|%k[0-7]|%[xy]mm(1[6-9]|2[0-9]|3[01])/ { wide[f] = wide[f] "\n" $0 }
	END {
		todo[1] = "vs_entry"; n = 1; seen["vs_entry"] = 1
		for (i = 1; i <= n; i++) {
			f = todo[i]
			if (f in data) print "data: " f data[f]
			if (f in special) print "special: " f special[f]
			if (f in wide) print "AVX-512: " f wide[f]
			m = split(calls[f], c, " ")
			for (j = 1; j <= m; j++)
				if (!(c[j] in seen)) { seen[c[j]] = 1; todo[++n] = c[j] }
		}
		print "reached " n > "/dev/stderr"
	}' >"$work/out" 2>"$work/err" || true
reached=$(sed -n 's/^reached //p' "$work/err")
found=$(cat "$work/out")
[ "${reached:-0}" -ge 12 ] || say "only ${reached:-no} functions found below vs_entry: is this test blind?"
[ -z "$found" ] || say "vs_entry must use text, stack, arena and guest memory only: $found"

# Text is mapped execute-only, so it must not share a page with anything else.
readelf -lW "$lib" | awk '$1 == "LOAD" && /R E/ && ($3 % 4096) { exit 1 }' ||
	say "the executable segment does not begin a page"

[ $fail = 0 ] && echo "object code: $reached functions below vs_entry, all as they must be"
exit $fail
