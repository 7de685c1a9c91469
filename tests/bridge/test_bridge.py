#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The same frames through the kernel's bridge (in user-mode-linux) and through libvswitch.

Each run is a range of topologies of a seed. The last few are with an oracle that is wrong in some
way on purpose: the comparison must find that."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time

ORACLE, COMPARE = (os.path.abspath(path) for path in sys.argv[1:3])
HERE = os.path.dirname(os.path.abspath(__file__))
SEED = os.environ.get("BRIDGE_SEED", "5")
TOPOLOGIES = int(os.environ.get("BRIDGE_TOPOLOGIES", "110"))
FIRST = int(os.environ.get("BRIDGE_FIRST", "0"))
FRAMES_MIN = 100000
ALL = 0xffffffff
FAULTS = [("learning", 3, 1), ("isolated", 3, 1), ("flush", 10, 1), ("byte", 1, ALL)]    # how, topologies, classes


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
        if TOPOLOGIES >= 110 and frames < FRAMES_MIN:
            sys.exit("only %d frames" % frames)
        for fault in faults:
            code, text = compare(fault)
            print("an oracle with a wrong %s: %s" % (fault[5], text.splitlines()[0]))
            if code != 1 or "DIFFERENCE" not in text:
                sys.exit("not found")
    finally:
        shutil.rmtree(scratch)


main()
