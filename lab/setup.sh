#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Installs the Debian packages that building the project and its lab needs. Costs nothing when they
# are there. ELISA_LAB_NO_INSTALL=1: only say what is missing.
#	setup.sh [--bench [--missing]]	also what the benchmarks need; only print what is missing
set -eu

# What the build and the unit tests need, then what the emulated machine needs.
packages="
	gcc libc6-dev make meson ninja-build pkg-config
	libconfig-dev libexpat1-dev libjansson-dev libsystemd-dev libcmocka-dev
	libdpdk-dev dpdk-dev dpdk xz-utils python3-pyelftools
	linux-headers-amd64 linux-headers-cloud-amd64
	clang libclang-rt-14-dev llvm valgrind
	user-mode-linux libmnl-dev
	libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86
	iperf3 iproute2 iputils-ping tcpdump curl jq
	dpkg-dev debhelper dh-dkms dkms scdoc lintian man-db systemd udev
	python3 python3-prometheus-client tshark libpcap-dev
	bochs bochs-term bochsbios vgabios bsdutils
	mmdebstrap xorriso isolinux syslinux-common
	e2fsprogs busybox-static kmod cpio lz4 binutils
"
# What bench/native draws with, and compares with.
[ "${1-}" != --bench ] || packages="$packages gnuplot-nox openvswitch-switch-dpdk"

missing=
for p in $packages; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $p"
done
# Of Prometheus itself (a service) only the program that checks metrics.
command -v promtool >/dev/null || missing="$missing promtool"
packages=$(echo "$missing" | sed 's/ promtool//')
[ -n "$missing" ] || exit 0
if [ "${2-}" = --missing ]; then
	echo $missing
	exit 0
fi

if [ "${ELISA_LAB_NO_INSTALL:-0}" = 1 ]; then
	echo "lab: missing Debian packages:$missing" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null; then
	echo "lab: no apt-get here; the lab needs Debian 12 with the packages:$missing" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "lab: not root; install the missing packages first:" >&2
	echo "  sudo apt-get install --no-install-recommends$packages" >&2
	exit 1
fi

echo "lab: installing:$missing"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
promtool() {
	dir=$(mktemp -d)
	(cd "$dir" && chmod 755 . && apt-get download -q prometheus && dpkg-deb -x prometheus_*.deb x &&
		install -m 755 x/usr/bin/promtool /usr/local/bin/promtool)
	state=$?
	rm -rf "$dir"
	return $state
}
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $packages &&
	{ [ "$packages" = "$missing" ] || promtool; }; } >"$log" 2>&1; then
	tail -20 "$log" >&2
	echo "lab: apt-get failed, full log: $log" >&2
	exit 1
fi
rm -f "$log"
