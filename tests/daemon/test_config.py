# SPDX-License-Identifier: BSD-3-Clause
"""Every mistake in the configuration gets its own sentence, with file and line."""
import os
import subprocess
import tempfile
import unittest

import daemontest as dt
from mistakes import ERRORS

SWITCH = """
ports = (
  { name = "a"; vlan = { mode = "access"; pvid = 10; }; rate = { tx_bytes = 125000000; burst_tx_bytes = 1500000; }; },
  { name = "b"; vlan = { mode = "trunk"; allowed = "1,10-20,4094"; pvid = 5; native_tagged = true; };
    rate = { rx_bytes = 5000000000L; rx_frames = 1000; tx_frames = 0; }; },
  { name = "c"; vlan = { mode = "qinq"; pvid = 4094; }; storm = { broadcast = 100; multicast = 200; unknown = 300;
    burst_unknown = 900; }; no_flood = [ "multicast", "unknown" ]; mac_limit = { addresses = 16; drop = true; }; },
  { name = "d"; vlan = { mode = "none"; }; no_flood = []; } );
fdb = ( { mac = "02:00:00:00:00:01"; port = "a"; vid = 10; }, { mac = "02:00:00:00:00:01"; port = "b"; vid = 11; } );
mirrors = ( { port = "a"; to = "d"; }, { port = "b"; to = "d"; what = [ "drops" ]; snap = 64; } );
"""


NICS = """
fdb = ( { mac = "02:00:00:00:00:01"; port = "up0"; } );
ports = ( { name = "a"; uplink = "up0"; }, { name = "b"; uplink = "bond"; } );
nics = ( { name = "up0"; pci = "0000:00:04.0"; serve = "guest"; queues = 2; rx_ring = 1024; idle = 0; },
         { name = "tap0"; vdev = "net_tap0,iface=up0"; serve = "daemon"; offloads = false; groups = [1]; },
         { name = "bond"; devices = ( "0000:00:05.0", "net_af_packet0,iface=eth0" ); promiscuous = true;
           mtu = 9000; up = false; } );
dpdk = { memory = 64; huge = false; huge_dir = "/dev/hugepages"; drivers = "/opt/pmds"; verbose = true;
         telemetry = true; library = "/opt/lib/libvswitch-nic.so.0"; };
"""


class Config(unittest.TestCase):
    def run_check(self, path):
        return subprocess.run([dt.SAN, "--check", "--config", path], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)

    def check(self, text):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "c.conf")
            with open(path, "w") as f:
                f.write(text)
            return path, self.run_check(path)

    def test_errors(self):
        for text, line, message in ERRORS:
            with self.subTest(message=message):
                path, r = self.check(text)
                self.assertEqual(r.returncode, 78, r.stderr)
                first = r.stderr.splitlines()[0]
                self.assertEqual(len(r.stderr.splitlines()), 1, r.stderr)
                self.assertTrue(first.startswith("%s:%d: " % (path, line)), first)
                self.assertIn(message, first)

    def test_all_errors_are_shown(self):
        path, r = self.check('ports = (\n { name = "a"; mtu = 1; },\n { name = "b"; mtu = 2; }\n);\nx = 1;\n')
        self.assertEqual([int(l.split(":")[1]) for l in r.stderr.splitlines()], [2, 3, 5])

    def test_good(self):
        for text in ("", dt.TWO_PORTS, 'ports = ( { name = "a"; groups = [0, 63]; mtu = 68; } );', SWITCH, NICS):
            path, r = self.check(text)
            self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("2 ports, 0 VMs, 1 static addresses, 3 NICs", r.stdout)

    def test_sample(self):
        r = subprocess.run([dt.SAN, "--check", "--config", os.environ["CONF_SAMPLE"]],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn("3 ports, 2 VMs, 1 static addresses", r.stdout)

    def test_files(self):
        """Which file, what is wrong with it, and an exit status of its own."""
        with tempfile.TemporaryDirectory() as d:
            os.chmod(d, 0o755)
            def write(name, data, mode=0o644):
                path = os.path.join(d, name)
                with open(path, "wb") as f:
                    f.write(data)
                os.chmod(path, mode)
                return path
            os.mkfifo(os.path.join(d, "fifo"))
            os.symlink("loop", os.path.join(d, "loop"))
            loop = write("self.conf", b'\n@include "self.conf"\n')
            twice = write("twice.conf", b'@include "twice.conf"\n@include "twice.conf"\n')
            for path, status, message in (
                    ("/nonexistent/x", 66, "/nonexistent/x: No such file or directory: write one"),
                    (d, 78, d + ": not a regular file"),
                    (os.path.join(d, "fifo"), 78, "fifo: not a regular file"),
                    (os.path.join(d, "loop"), 71, "loop: Too many levels of symbolic links"),
                    (write("nul.conf", b"ports = (\n);\0\n"), 78, "nul.conf:2: there is a NUL byte"),
                    (write("inc.conf", b'\n@include "nix.conf"\n'), 78, 'inc.conf:2: cannot read "%s/nix.conf"' % d),
                    (write("dir.conf", b'\n\n@include "/tmp"\n'), 78, 'dir.conf:3: "/tmp" is not a file'),
                    (write("deep.conf", b'@include "self.conf"\n'), 78, "self.conf:2: @include \"self.conf\": 9 files"),
                    (loop, 78, "self.conf:2: @include"), (twice, 78, "twice.conf:1: @include"),
                    (write("outer.conf", b'@include "sub.conf"\n') and
                     write("sub.conf", b"switch = {\n turbo = true; };\n") and os.path.join(d, "outer.conf"),
                     78, 'sub.conf:2: switch: unknown key "turbo"')):
                with self.subTest(path=path):
                    r = self.run_check(path)
                    self.assertEqual((r.returncode, len(r.stderr.splitlines())), (status, 1), r.stderr)
                    self.assertIn(message, r.stderr)

    @unittest.skipIf(os.geteuid(), "needs root, to become another user")
    def test_unreadable(self):
        with tempfile.NamedTemporaryFile() as f:
            os.chmod(os.path.dirname(f.name), 0o1777)
            r = subprocess.run([dt.VSWITCHD, "--check", "--config", f.name], stderr=subprocess.PIPE,
                               text=True, user=1, group=1, extra_groups=[])
            self.assertEqual(r.returncode, 77)
            self.assertIn(f.name + ": Permission denied", r.stderr)

    def test_usage(self):
        for args in (["--bogus"], ["more"], ["--run-dir", "relative"], ["--config"]):
            r = subprocess.run([dt.SAN] + args, stderr=subprocess.PIPE, text=True)
            self.assertEqual(r.returncode, 64, r.stderr)

    def start(self, d, config, *args):
        path = os.path.join(d, "c.conf")
        with open(path, "w") as f:
            f.write(config)
        return subprocess.run([dt.SAN, "--config", path, "--run-dir", d] + list(args), stderr=subprocess.PIPE,
                              text=True, timeout=30)

    def test_cannot_create(self):
        with tempfile.TemporaryDirectory() as d:
            with open(os.path.join(d, "file"), "w"):
                pass
            for config, args, message in (
                    ("", ["--run-dir", d + "/no/where"], "/no/where: No such file"),
                    ("", ["--run-dir", d + "/file/x"], "/file/x: Not a directory"),
                    ('control = { socket = "%s/no/c.sock"; };' % d, [], "control socket %s/no/c.sock" % d),
                    ('local = { enable = true; socket = "%s/no/l.sock"; };' % d, [], "local transport: %s/no/l.sock" % d),
                    ('doorbell = { socket = "%s/no/d.sock"; };' % d, [], "doorbell socket %s/no/d.sock" % d)):
                with self.subTest(message=message):
                    r = self.start(d, config, *args)
                    self.assertEqual(r.returncode, 73, r.stderr)
                    self.assertIn(message, r.stderr)

    def test_keys(self):
        """Each key that the sample or a message speaks of is listed; unknown ones are not."""
        keys = subprocess.run([dt.SAN, "--keys"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        self.assertEqual(len(keys), len(set(keys)))
        for key in ("switch.fdb_age", "ports.mtu", "nics.pci", "dpdk.library", "vms.pid_file", "fdb.mac"):
            self.assertIn(key, keys)
        path, r = self.check("ports = ( { name = \"a\"; bogus = 1; } );")
        for key in r.stderr.split("known are ")[1].strip().split(", "):
            self.assertIn("ports." + key, " ".join(keys))

    def test_switch_features(self):
        """What the file says of ports arrives, and goes round through the state file's form."""
        d = dt.Daemon(config=SWITCH)
        self.addCleanup(d.stop)
        p = d.start().call("port.list")["ports"]
        self.assertEqual(p["a"]["vlan"], {"mode": "access", "pvid": 10})
        self.assertEqual(p["a"]["rate"], {"tx_bytes": 125000000, "burst_tx_bytes": 1500000})
        self.assertEqual(p["b"]["vlan"], {"mode": "trunk", "pvid": 5, "allowed": "1,10-20,4094", "native_tagged": True})
        self.assertEqual(p["b"]["rate"], {"rx_bytes": 5000000000, "rx_frames": 1000})
        self.assertEqual(p["c"]["storm"], {"broadcast": 100, "multicast": 200, "unknown": 300, "burst_unknown": 900})
        self.assertEqual((p["c"]["no_flood"], p["c"]["mac_limit"]),
                         (["multicast", "unknown"], {"addresses": 16, "drop": True}))
        self.assertEqual((p["d"]["vlan"], p["d"]["rate"], p["d"]["no_flood"]), ({"mode": "none"}, {}, []))
        self.assertEqual({(e["mac"], e["vid"], e["port"]) for e in d.call("fdb.list")["entries"]},
                         {("02:00:00:00:00:01", 10, "a"), ("02:00:00:00:00:01", 11, "b")})
        self.assertEqual(d.call("mirror.list")["mirrors"], [
            {"port": "a", "to": "d", "what": ["tx", "rx"], "origin": "configuration"},
            {"port": "b", "to": "d", "what": ["drops"], "snap": 64, "origin": "configuration"}])

    def test_derived_addresses(self):
        """Stable, unicast, locally administered, different."""
        with_names = dt.Daemon(config="ports = (%s);" % ",".join(
            '{ name = "p%d"; }' % i for i in range(200)))
        try:
            ports = with_names.start().call("port.list")["ports"]
        finally:
            with_names.stop()
        macs = [p["mac"] for p in ports.values()]
        self.assertEqual(len(set(macs)), 200)
        for mac in macs:
            self.assertEqual(int(mac[:2], 16) & 3, 2)
        again = dt.Daemon(config='ports = ( { name = "p7"; } );')
        try:
            self.assertEqual(again.start().call("port.list")["ports"]["p7"]["mac"], ports["p7"]["mac"])
        finally:
            again.stop()


dt.main()
