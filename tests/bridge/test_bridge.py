#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The same frames through the kernel's bridge (in user-mode-linux) and through libvswitch.

Each run is a range of topologies of a seed. The last few are with an oracle that is wrong in some
way on purpose: the comparison must find that."""
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ORACLE, COMPARE = (os.path.abspath(path) for path in sys.argv[1:3])
HERE = os.path.dirname(os.path.abspath(__file__))
SEED = os.environ.get("BRIDGE_SEED", "5")
TOPOLOGIES = int(os.environ.get("BRIDGE_TOPOLOGIES", "130"))
FIRST = int(os.environ.get("BRIDGE_FIRST", "0"))
FRAMES_MIN = 100000
PLAIN, FLOOD, VLAN, MIXED, QINQ, MIRROR, RATE, STORM = (1 << i for i in range(8))
ALL = int(os.environ.get("BRIDGE_CLASSES", 0xff))
# How the oracle is wrong, for how many topologies, of which classes.
FAULTS = [("learning", 3, PLAIN), ("isolated", 3, PLAIN), ("flush", 10, PLAIN), ("tag", 3, VLAN),
          ("mirror", 3, MIRROR), ("limit", 3, RATE), ("byte", 1, ALL)]


def skip(reason):
    print("skipped: " + reason)
    sys.exit(77)


def boot(scratch, runs):
    """Runs the oracle for each line of `runs` in user-mode-linux; what it said."""
    linux = shutil.which("linux")
    if not os.path.exists(ORACLE):
        skip("built without libmnl (Debian package libmnl-dev)")
    modules = sorted(glob.glob("/usr/lib/uml/modules/*"))
    if not linux or not modules:
        skip("no user-mode-linux here (Debian package user-mode-linux)")
    os.makedirs(scratch + "/lib")
    os.symlink("/usr/lib/uml/modules", scratch + "/lib/modules")
    with open(scratch + "/runs", "w") as f:
        f.writelines(" ".join(str(word) for word in run) + "\n" for run in runs)
    # It makes a session of its own, of many processes: whatever happens, none may stay.
    command = [linux, "mem=96M", "rootfstype=hostfs", "rootflags=/", "rw", "init=%s/uml-init" % HERE,
               "con=null", "con0=null,fd:1", "quiet", "oracle=" + ORACLE, "modules=" + scratch,
               "runs=%s/runs" % scratch]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=280)
    said = done.stdout.decode(errors="replace").replace("\r", "")
    if "done\n" not in said:
        if "begin\n" not in said:
            skip("user-mode-linux does not run here:\n" + said +
                 done.stderr.decode(errors="replace")[-2000:])
        print(said)
        sys.exit("the oracle failed")


def end(scratch):
    """Whoever has that in its command line."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        pid = int(path.split("/")[2])
        try:
            with open(path, "rb") as f:
                if pid != os.getpid() and ("modules=" + scratch).encode() in f.read().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def compare(run):
    done = subprocess.run([COMPARE] + [str(word) for word in run[:5]], stdout=subprocess.PIPE,
                          text=True, timeout=250)
    return done.returncode, done.stdout


def main():
    scratch = tempfile.mkdtemp(prefix="elisa-bridge-")
    try:
        run = (scratch + "/all", SEED, FIRST, TOPOLOGIES, ALL)
        faults = [(scratch + "/" + how, SEED, 1000, count, classes, how)
                  for how, count, classes in FAULTS]
        begin = time.monotonic()
        boot(scratch, [run] + faults)
        print("the kernel's bridge took %.1f s" % (time.monotonic() - begin))
        begin = time.monotonic()
        code, text = compare(run)
        print("libvswitch took %.1f s\n%s" % (time.monotonic() - begin, text))
        if code:
            sys.exit("seed %s: not the same (again: BRIDGE_SEED, BRIDGE_FIRST)" % SEED)
        frames = int(text.splitlines()[-1].split()[3])
        if TOPOLOGIES >= 130 and frames < FRAMES_MIN:
            sys.exit("only %d frames" % frames)
        for fault in faults:
            code, text = compare(fault)
            print("an oracle with a wrong %s: %s" % (fault[5], text.splitlines()[0]))
            if code != 1 or "DIFFERENCE" not in text:
                sys.exit("not found")
    finally:
        end(scratch)
        shutil.rmtree(scratch)


main()
