#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# life.sh DEBS SOURCES, in a mount namespace: installs, upgrades, removes and purges the packages on a copy of
# this system (an overlay). Exit status 77: not possible here.
set -u
debs=$1 sources=$2
skip() { echo "$*"; exit 77; }
fail() { echo "FAIL: $*"; exit 1; }

mount -t tmpfs -o mode=755 elisa /mnt || skip "no tmpfs can be mounted"
mkdir /mnt/up /mnt/work /mnt/root /mnt/debs
mount -t overlay -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work elisa /mnt/root ||
	skip "this kernel has no overlay of /"
root=/mnt/root
mount -t proc proc $root/proc && mount --rbind /dev $root/dev && mount --bind /sys $root/sys &&
	mount -t tmpfs run $root/run && mount -t tmpfs run $root/sys/kernel/security 2>/dev/null
locked=$?
[ $locked != 0 ] || echo "none [integrity] confidentiality" >$root/sys/kernel/security/lockdown
mkdir $root/debs $root/src
mount --rbind "$sources" $root/src
# The same packages as a later version, for the upgrade; but the module's, which takes long.
for d in "$debs"/*.deb; do
	case $d in *-dkms_*) continue ;; esac
	x=/mnt/work-deb
	dpkg-deb -R "$d" $x
	sed -i -e 's/^Version: .*/&+next/' -e 's/(= [0-9.]*/&+next/g' $x/DEBIAN/control
	dpkg-deb -Znone -b $x "$root/debs/next-${d##*/}" >/dev/null || fail "no later version of $d"
	rm -rf $x
done
# The system's services are not ours to start, and the copy has none.
in_root() { chroot $root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
modules() { (cd $root/lib/modules && ls -d ./*/updates/dkms/elisa.ko 2>/dev/null); }

# One kernel is there already, another one will be installed later.
later=$(cd $root/lib/modules && ls -d ./*-cloud-amd64 | sed 's,^\./,,' | tail -n 1)
[ -z "$later" ] || mv "$root/lib/modules/$later" $root/later

# Installed: what there is works, the module is built for every kernel with headers, and signed.
python3 "$sources/tests/docs/run.py" $root install >/mnt/log 2>&1 || { cat /mnt/log; fail "installation"; }
grep '^RUN ' /mnt/log
if [ $locked = 0 ]; then
	grep -q 'mokutil --import /var/lib/dkms/mok.pub' /mnt/log ||
		fail "elisa-vswitch-dkms says nothing of the lockdown"
fi
in_root getent group elisa >/dev/null || fail "no group elisa"
in_root elisa-vswitchd --check || fail "the configuration that comes along is refused"
in_root elisactl --version || fail "elisactl does not run"
in_root elisa-info --help >/dev/null || fail "elisa-info does not run"
[ -L $root/etc/systemd/system/multi-user.target.wants/elisa-vswitchd.service ] || fail "the service is not enabled"
in_root systemd-analyze verify /lib/systemd/system/elisa-vswitchd.service >/mnt/log 2>&1 ||
	{ cat /mnt/log; fail "the unit"; }
if [ -n "$later" ]; then
	mv $root/later "$root/lib/modules/$later"
	in_root /etc/kernel/postinst.d/dkms "$later" >/mnt/log 2>&1 || { cat /mnt/log; fail "dkms for a new kernel"; }
fi
kernels=0
for h in $root/usr/src/linux-headers-*-amd64; do
	[ -e "$h" ] || continue
	k=${h##*/linux-headers-}
	kernels=$((kernels + 1))
	ko=$(ls $root/lib/modules/"$k"/updates/dkms/elisa.ko) || fail "no elisa.ko for $k"
	[ "$(modinfo -F signer "$ko")" = "DKMS module signing key" ] || fail "$ko is not signed"
	in_root modprobe -n -S "$k" elisa || fail "modprobe does not find the module of $k"
done
echo "$kernels kernels"

# A daemon at work: an upgrade and a removal of the files do them no harm (systemd
# restarts the daemon; there is none here).
cat >>$root/etc/elisa/vswitchd.conf <<'END'
# changed by the administrator
nics = ( { name = "up0"; vdev = "net_null0"; } );
dpdk = { huge = false; memory = 64; telemetry = true; };
END
sed -i '/^local = /,/^}/s/enable = false/enable = true/' $root/etc/elisa/vswitchd.conf
mkdir -p $root/run/elisa
chroot $root env -i PATH=/usr/sbin:/usr/bin elisa-vswitchd >/mnt/daemon.log 2>&1 &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait' EXIT
for _ in $(seq 100); do in_root elisactl status >/dev/null 2>&1 && break; sleep 0.1; done
in_root elisactl port list | grep -q '^web0 ' || { cat /mnt/daemon.log; fail "the daemon does not run"; }
if [ $locked = 0 ]; then
	in_root elisactl doctor | grep -q 'mokutil --import' || fail "doctor says nothing of the lockdown"
fi

# What the docs say.
python3 "$sources/tests/docs/run.py" $root || fail "the docs' commands"

in_root sh -c 'dpkg -i /debs/next-*.deb' </dev/null >/mnt/log 2>&1 || { cat /mnt/log; fail "upgrade"; }
[ "$(in_root dpkg-query -W -f '${Version}' elisa-vswitch)" = 0.1.0+next ] || fail "no upgrade"
grep -q 'changed by the administrator' $root/etc/elisa/vswitchd.conf || fail "upgrade: the configuration is lost"
in_root elisactl status >/dev/null || fail "upgrade: the daemon does not answer"
[ "$(modules | wc -l)" -ge $kernels ] || fail "upgrade: a module is gone"

in_root dpkg -r elisa-vswitch elisa-vswitch-dkms libvswitch-nic0 >/mnt/log 2>&1 || { cat /mnt/log; fail "removal"; }
kill -0 $daemon || fail "removal: the daemon died"
[ -z "$(modules)" ] || fail "removal: $(modules) is still there"
[ -e $root/etc/elisa/vswitchd.conf ] || fail "removal: the configuration is gone"
kill $daemon
wait $daemon || fail "the daemon ended with $?"

in_root dpkg -P elisa-vswitch libvswitch0 libelisa-dev elisa-guest libelisa-guest0 elisa-vswitch-dkms libvswitch-nic0 \
	>/mnt/log 2>&1 || { cat /mnt/log; fail "purge"; }
rm -r $root/etc/systemd/system/elisa-vswitchd.service.d # made by a command of the docs: the administrator's
left=$(in_root find /etc /usr /lib /var/lib/elisa /run -iname '*elisa*' ! -path '/usr/local/*' \
	! -path '/usr/src/linux*' ! -path '/etc/group*' 2>/dev/null)
[ -z "$left" ] || fail "purge left: $left"
