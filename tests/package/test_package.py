# SPDX-License-Identifier: BSD-3-Clause
"""The packages: lintian, what is in which, pkg-config, and a life of theirs on a copy of this system.

The copy is an overlay in a mount namespace: nothing of it stays, and the system sees nothing of it.
"""
import glob
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ["SOURCE_ROOT"])
HERE = Path(__file__).parent
DEBS = ROOT / "build/packages"
LIB = "usr/lib/x86_64-linux-gnu"

# Not all: what an operator, a program or another package looks for by name.
CONTENTS = {
    "elisa-vswitch": ["usr/sbin/elisa-vswitchd", "usr/bin/elisactl", "etc/elisa/vswitchd.conf",
                      "lib/systemd/system/elisa-vswitchd.service", "lib/udev/rules.d/60-elisa.rules",
                      "usr/lib/sysusers.d/elisa.conf"],
    "libvswitch0": [f"{LIB}/libvswitch.so.0"],
    "libvswitch-nic0": [f"{LIB}/libvswitch-nic.so.0"],
    "libelisa-guest0": [f"{LIB}/libelisa-guest.so.0"],
    "libelisa-dev": ["usr/include/elisa/abi.h", "usr/include/vswitch/vswitch.h", f"{LIB}/libelisa-host.a",
                     f"{LIB}/libvswitch.so", f"{LIB}/pkgconfig/libelisa-guest.pc"],
    "elisa-guest": ["usr/bin/elisa-tap", "usr/bin/elisa-gen", "usr/bin/elisa-info",
                    "usr/bin/elisa-doorbell", "usr/libexec/elisa-guard",
                    f"{LIB}/dpdk/pmds-23.0/librte_net_elisa.so"],
    "elisa-vswitch-dkms": ["usr/src/elisa-0.1.0/dkms.conf", "usr/src/elisa-0.1.0/elisa-host/kmod/main.c"],
}

PROGRAMS = {
    "libelisa-guest": """#include <elisa/guest.h>
        int main(void) { struct elisa_guest *g; return !elisa_guest_open("local:/nowhere", 1, &g); }""",
    "libelisa-host": """#include <elisa/host.h>
        int main(void) { struct elisa_host *h; return !elisa_host_open(&h); }""",
    "libvswitch": """#include <vswitch/vswitch.h>
        int (*volatile f)(struct vswitch *, int) = vs_fdb_flush;
        int main(void) { return !f; }""",
}


def run(*args, **kw):
    r = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if r.returncode:
        raise AssertionError(f"{args}: exit status {r.returncode}\n{r.stdout}")
    return r.stdout


def deb(name):
    (path,) = glob.glob(f"{DEBS}/{name}_*.deb")
    return path


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.log = run(ROOT / "package", "--lintian", env={**os.environ, "ELISA_LAB_NO_INSTALL": "1"})

    def test_lintian(self):
        """package failed if there was an error; here: no warning either."""
        self.assertNotRegex(self.log, r"(?m)^[EW]: ")

    def test_contents(self):
        self.assertEqual(sorted(CONTENTS), sorted(os.path.basename(p).split("_")[0] for p in glob.glob(f"{DEBS}/*.deb")))
        for name, files in CONTENTS.items():
            there = {line.split()[5] for line in run("dpkg-deb", "-c", deb(name)).splitlines()}
            for f in files:
                self.assertIn("./" + f, there, name)

    def test_trusted_object(self):
        """The compiler's hardening flags for packages did not reach what runs inside."""
        for lib in glob.glob(f"{DEBS}/source/obj-*/vswitch/libvswitch.so.0.1.0"):
            run(ROOT / "tests/vswitch/test_object.sh", lib)

    def test_pkg_config(self):
        with tempfile.TemporaryDirectory() as tmp:
            for name in ("libelisa-dev", "libelisa-guest0", "libvswitch0"):
                run("dpkg-deb", "-x", deb(name), tmp)
            env = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": tmp, "PKG_CONFIG_LIBDIR": f"{tmp}/{LIB}/pkgconfig"}
            for name, text in PROGRAMS.items():
                flags = run("pkg-config", "--cflags", "--libs", name, env=env).split()
                source = Path(tmp) / f"{name}.c"
                source.write_text(text)
                run("cc", "-Werror", "-o", f"{tmp}/{name}", source, *flags)
                run(f"{tmp}/{name}", env={"LD_LIBRARY_PATH": f"{tmp}/{LIB}"})

    def test_life(self):
        if os.geteuid():
            self.skipTest("not root: no mount namespace to install in")
        r = subprocess.run(["unshare", "-m", "--propagation", "private", HERE / "life.sh", DEBS, ROOT],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if r.returncode == 77:
            self.skipTest(r.stdout.strip())
        self.assertEqual(r.returncode, 0, r.stdout)
        print(r.stdout)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    unittest.main(verbosity=2)
