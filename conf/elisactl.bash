# SPDX-License-Identifier: BSD-3-Clause
# Completion for bash. Commands and options are elisactl's own: "elisactl --complete" prints a line
# for each command, with its arguments by kind (PORT, VM, NIC, MAC); names come from the daemon.

_elisactl_names()
{
	case $1 in
	PORT) elisactl --json port list ;;
	NIC) elisactl --json nic list ;;
	VM) elisactl --json status ;;
	esac 2>/dev/null | sed -n 's/^ *"name": "\([^"]*\)".*/\1/p'
}

_elisactl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} i j
	local -a words=() line=() wanted=() found=("--json" "--socket" "--help")

	case $previous in
	--port) COMPREPLY=($(compgen -W "$(_elisactl_names PORT)" -- "$cur")); return ;;
	--vm) COMPREPLY=($(compgen -W "$(_elisactl_names VM)" -- "$cur")); return ;;
	--uplink) COMPREPLY=($(compgen -W "$(_elisactl_names NIC)" -- "$cur")); return ;;
	--anti-spoof) COMPREPLY=($(compgen -W "on off" -- "$cur")); return ;;
	--pid) COMPREPLY=($(compgen -W "$(pgrep qemu-system)" -- "$cur")); return ;;
	--socket | -s) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	esac
	# What was typed so far, without options and what belongs to them.
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--json | -j | --force | --up | --down | --local | --once | --explain | = | *=*) ;;
		-*) ((i++)) ;;
		*) words+=("${COMP_WORDS[i]}") ;;
		esac
	done
	while read -ra line; do
		for ((j = 0; j < ${#words[@]}; j++)); do
			[[ ${line[j]} = "${words[j]}" || ${line[j]} =~ ^[A-Z]+$ ]] || continue 2
		done
		case ${line[j]} in
		[A-Z]*) found+=($(_elisactl_names "${line[j]}")) ;;
		[a-z]*) found+=("${line[j]}"); continue ;;
		esac
		[[ ${#words[@]} = 0 ]] || found+=("${line[@]:j}")
	done < <(elisactl --complete 2>/dev/null)
	# Options only when one was begun; kinds of arguments never.
	for i in "${found[@]}"; do
		case $i in
		-*) [[ $cur != -* ]] || wanted+=("$i") ;;
		PORT | NIC | VM | MAC) ;;
		*) wanted+=("$i") ;;
		esac
	done
	COMPREPLY=($(compgen -W "${wanted[*]}" -- "$cur" | sort -u))
}

complete -F _elisactl elisactl
