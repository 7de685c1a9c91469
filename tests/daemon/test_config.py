# SPDX-License-Identifier: BSD-3-Clause
"""Every mistake in the configuration gets its own sentence, with file and line."""
import os
import subprocess
import tempfile
import unittest

import daemontest as dt

PORTS3 = 'ports = ( { name = "a"; },\n { name = "b"; }, { name = "c"; } );\n'


def P(text):
    """A port with `text`, which begins in line 3."""
    return 'ports = (\n { name = "a";\n %s }\n);\n' % text


# text, line, what the message says
ERRORS = [
    ("ports = (\n", 2, "syntax error"),
    ("\nbogus = 1;\n", 2, 'unknown key "bogus": known are switch, control'),
    ("switch = {\n fdb_capacity = 5;\n};\n", 2, "fdb_capacity: 5 is out of range: use 1024 to 1048576"),
    ("switch = {\n fdb_age = -1;\n};\n", 2, "fdb_age: -1 is out of range"),
    ("switch = {\n fdb_age = 99999999999;\n};\n", 2, "99999999999: write an L behind a number above 2147483647"),
    ("switch = {\n fdb_age = 99999999999L;\n};\n", 2, "fdb_age: 99999999999 is out of range"),
    ("switch = {\n fdb_age = 99999999999999999999;\n};\n", 2, "99999999999999999999 is too large a number"),
    ("/* 99999999999\n*/ # 9999999999\n// 9999999999 \" \nx99999999999 = \"\\\"999999999999\";\n", 4, 'unknown key "x99999999999"'),
    ("a = " + "(" * 100000 + ";\n", 1, "memory exhausted"),
    ("switch = {\n fdb_age = 1;\n fdb_age = 2;\n};\n", 3, "duplicate setting name"),
    ("switch = {\n fdb_age = 1.5;\n};\n", 2, '"fdb_age" has the wrong type'),
    ("switch = {\n max_ports = 2000;\n};\n", 2, "max_ports: 2000 is out of range: use 1 to 1024"),
    ("switch = {\n max_vms = 0;\n};\n", 2, "max_vms: 0 is out of range"),
    ("switch = {\n max_callers = 99999;\n};\n", 2, "max_callers: 99999 is out of range"),
    ('switch = {\n fdb_age = "300";\n};\n', 2, '"fdb_age" has the wrong type: it must be a number'),
    ("switch = {\n bridge_nics = 1;\n};\n", 2, '"bridge_nics" has the wrong type'),
    ("switch = {\n turbo = true;\n};\n", 2, 'switch: unknown key "turbo": known are fdb_capacity'),
    ("switch = 7;\n", 1, '"switch" has the wrong type: it must be a group'),
    ('control = {\n socket = "relative";\n};\n', 2, "must be an absolute path"),
    ('control = {\n group = "no-such-group-here";\n};\n', 2, 'there is no group "no-such-group-here"'),
    ("local = {\n enable = 1;\n};\n", 2, "must be true or false"),
    ('local = {\n enable = true;\n path = "/x";\n};\n', 3, 'unknown key "path"'),
    ("security = {\n force = true;\n};\n", 2, 'unknown key "force": known are force_vulnerable_cpu'),
    ("ports = ( 5 );\n", 1, "every member must be a group"),
    ("ports = (\n { mtu = 1500; }\n);\n", 2, 'no "name": add name ='),
    ('ports = (\n { name = "a b"; }\n);\n', 2, 'name: "a b" is not a port name'),
    ('ports = (\n { name = ""; }\n);\n', 2, 'name: "" is not a port name'),
    ('ports = (\n { name = "%s"; }\n);\n' % ("x" * 32), 2, "is not a port name: use 1 to 31"),
    ('ports = (\n { name = "a"; },\n { name = "a"; }\n);\n', 3, '"a" is there twice'),
    ('ports = (\n { name = "a"; mac = "02:00:00:00:00:01"; },\n'
     ' { name = "b"; mac = "02:00:00:00:00:01"; }\n);\n', 3,
     '"b" has the MAC address 02:00:00:00:00:01 of "a"'),
    ('ports = (\n { name = "a";\n mac = "02:00:00:00:00"; }\n);\n', 3, "is not a MAC address"),
    ('ports = (\n { name = "a";\n mac = "02:00:00:00:00:0g"; }\n);\n', 3, "is not a MAC address"),
    ('ports = (\n { name = "a";\n mac = "03:00:00:00:00:01"; }\n);\n', 3, "is a multicast address"),
    ('ports = (\n { name = "a";\n mac = "00:00:00:00:00:00"; }\n);\n', 3, "is the zero address"),
    ('ports = (\n { name = "a";\n mtu = 9217; }\n);\n', 3, "mtu: 9217 is out of range: use 68 to 9216"),
    ('ports = (\n { name = "a";\n queues = 17; }\n);\n', 3, "queues: 17 is out of range: use 1 to 16"),
    ('ports = (\n { name = "a";\n groups = [ 64 ]; }\n);\n', 3, "groups: 64 is out of range"),
    ('ports = (\n { name = "a";\n groups = ( "x" ); }\n);\n', 3, "groups: must be numbers"),
    ('ports = (\n { name = "a";\n groups = []; }\n);\n', 3, "groups: empty"),
    ('ports = (\n { name = "a";\n transport = "tcp"; }\n);\n', 3, '"tcp" is not a transport'),
    ('ports = (\n { name = "a";\n vm = "b/c"; }\n);\n', 3, '"b/c" is not a VM name'),
    ('ports = (\n { name = "a"; transport = "local"; }\n);\n', 1, "local.enable is not true"),
    ("switch = { max_ports = 1; };\nports = (\n { name = \"a\"; }, { name = \"b\"; }\n);\n", 2,
     "2 of them, but switch.max_ports is 1"),
    ("ports = (\n" + ",\n".join(' { name = "p%d"; vm = "v"; }' % i for i in range(9)) + "\n);\n", 10,
     'is port number 9 of VM "v": at most 8'),
    ('vms = (\n { name = "local"; }\n);\n', 2, "stands for processes of this host"),
    ('vms = (\n { name = "v"; },\n { name = "v"; }\n);\n', 3, '"v" is there twice'),
    ('vms = (\n { pid_file = "/x"; }\n);\n', 2, 'no "name"'),
    ('vms = (\n { name = "v"; pid_file = "x"; }\n);\n', 2, "must be an absolute path"),
    ('fdb = (\n { mac = "02:00:00:00:00:01"; port = "nix"; }\n);\n', 2, 'there is no port "nix"'),
    ('fdb = (\n { mac = "02:00:00:00:00:01"; }\n);\n', 2, 'no "port"'),
    ('nics = (\n { name = "up0"; }\n);\n', 2, '"up0" has no device: add pci ='),
    ('nics = (\n { pci = "0000:00:04.0"; }\n);\n', 2, 'no "name"'),
    ('nics = (\n { name = "up0";\n pci = "00:04.0"; }\n);\n', 3, '"00:04.0" is not a PCI address'),
    ('nics = (\n { name = "up0";\n pci = "0000:00:04.8"; }\n);\n', 3, "is not a PCI address"),
    ('nics = (\n { name = "up0";\n vdev = "tap0"; }\n);\n', 3, '"tap0" is not a DPDK vdev'),
    ('nics = (\n { name = "up0";\n devices = ["net_null0", "net_null1", "net_null2"]; }\n);\n', 3,
     "3 of them: name the active one and its backup"),
    ('nics = (\n { name = "up0";\n devices = ["net_null0", "x"]; }\n);\n', 3,
     '"x" is neither a PCI address'),
    ('nics = (\n { name = "up0";\n devices = ["net_null0", "net_null0"]; }\n);\n', 3,
     '"net_null0" is there twice'),
    ('nics = (\n { name = "up0"; vdev = "net_null0"; },\n { name = "up1"; vdev = "net_null0,x=1"; }\n);\n',
     3, 'is a device of NIC "up0" already'),
    ('nics = (\n { name = "up0"; vdev = "net_null0";\n devices = ["net_null1", "net_null2"]; }\n);\n',
     3, "more than 2 devices: use one of pci, vdev and devices"),
    ('nics = (\n { name = "up0"; vdev = "net_null0";\n serve = "vm"; }\n);\n', 3,
     'serve: "vm" is not known: use "guest"'),
    ('nics = (\n { name = "up0"; vdev = "net_null0";\n rx_ring = 500; }\n);\n', 3,
     "rx_ring: 500 is not a power of two"),
    ('nics = (\n { name = "up0"; vdev = "net_null0";\n mtu = 20; }\n);\n', 3, "mtu: 20 is out of range"),
    ('nics = (\n { name = "up0"; vdev = "net_null0";\n mac = "02:00:00:00:00:01"; }\n);\n', 3,
     'nics: unknown key "mac": known are name, pci'),
    ('ports = ( { name = "a"; } );\nnics = (\n { name = "a"; vdev = "net_null0"; }\n);\n', 3,
     '"a" is a port already'),
    ('nics = ( { name = "a"; vdev = "net_null0"; } );\nports = (\n { name = "a"; }\n);\n', 3,
     '"a" is a NIC already'),
    ('nics = (\n' + ",\n".join(' { name = "n%d"; vdev = "net_null%d"; }' % (i, i) for i in range(17)) +
     "\n);\n", 18, '"n16" is number 17: at most 16'),
    ('ports = (\n { name = "a";\n uplink = "up0"; }\n);\n', 3, 'uplink: there is no NIC "up0"'),
    # what a port may have besides
    (P("vlan = 5;"), 3, '"vlan" has the wrong type: it must be a group'),
    (P('vlan = {\n mod = "access"; };'), 4, "vlan.mod: unknown key: known are mode, pvid, allowed, native_tagged"),
    (P('vlan = {\n mode = "hybrid"; };'), 4, 'vlan.mode: "hybrid" is not known: use none, access, trunk or qinq'),
    (P('vlan = { mode = "access";\n pvid = 0; };'), 4, "vlan.pvid: 0 is out of range: use 1 to 4094"),
    (P('vlan = { mode = "access";\n pvid = 4095; };'), 4, "vlan.pvid: 4095 is out of range"),
    (P('vlan = { mode = "access";\n pvid = "10"; };'), 4, "vlan.pvid: must be a whole number"),
    (P('vlan = { mode = "access"; };'), 3, 'vlan.pvid: mode "access" needs it'),
    (P('vlan = { mode = "qinq"; };'), 3, 'vlan.pvid: mode "qinq" needs it'),
    (P('vlan = {\n pvid = 10; };'), 4, 'vlan.pvid: mode "none" has no VLAN: add mode'),
    (P('vlan = { mode = "access"; pvid = 1;\n allowed = "2"; };'), 4, 'vlan.allowed: is for mode "trunk"'),
    (P('vlan = { mode = "access"; pvid = 1;\n native_tagged = true; };'), 4, 'native_tagged: is for mode "trunk"'),
    (P('vlan = { mode = "trunk"; };'), 3, "vlan.allowed: a trunk needs it, or pvid"),
    (P('vlan = { mode = "trunk";\n allowed = "10-"; };'), 4, '"10-" is not a list of VLANs'),
    (P('vlan = { mode = "trunk";\n allowed = "10,"; };'), 4, '"10," is not a list of VLANs'),
    (P('vlan = { mode = "trunk";\n allowed = "-5"; };'), 4, '"-5" is not a list of VLANs'),
    (P('vlan = { mode = "trunk";\n allowed = "x"; };'), 4, '"x" is not a list of VLANs'),
    (P('vlan = { mode = "trunk";\n allowed = "0-5"; };'), 4, "0-5 is not of 1 to 4094"),
    (P('vlan = { mode = "trunk";\n allowed = "5-4095"; };'), 4, "5-4095 is not of 1 to 4094"),
    (P('vlan = { mode = "trunk";\n allowed = "30-20"; };'), 4, "30-20 is not of 1 to 4094"),
    (P('vlan = { mode = "trunk"; allowed = "5";\n native_tagged = true; };'), 4, "there is no pvid that could be tagged"),
    (P("rate = {\n tx = 5; };"), 4, "rate.tx: unknown key: known are tx_bytes"),
    (P("rate = {\n tx_bytes = -1; };"), 4, "rate.tx_bytes: -1 is out of range"),
    (P("rate = {\n tx_bytes = 2000000000000L; };"), 4, "rate.tx_bytes: 2000000000000 is out of range"),
    (P("rate = {\n tx_bytes = 2000000000000; };"), 4, "write an L behind a number above"),
    (P("rate = {\n tx_bytes = 1.5; };"), 4, "rate.tx_bytes: must be a whole number"),
    (P("rate = {\n burst_tx_bytes = 5000; };"), 4, "rate.burst_tx_bytes: there is no tx_bytes"),
    (P("rate = { tx_bytes = 1000;\n burst_tx_bytes = 1517; };"), 4, "rate.burst_tx_bytes: 1517 is too small: at least 1518"),
    (P("rate = { rx_frames = 100000;\n burst_rx_frames = 999; };"), 4, "999 is too small: at least 1000"),
    (P("storm = {\n brodcast = 5; };"), 4, "storm.brodcast: unknown key: known are broadcast, burst_broadcast"),
    (P("storm = {\n unknown = -5; };"), 4, "storm.unknown: -5 is out of range"),
    (P('no_flood = "broadcast";'), 3, '"no_flood" has the wrong type: it must be a list'),
    (P('no_flood = [ "broadcats" ];'), 3, 'no_flood: "broadcats" is not known: use "broadcast"'),
    (P("no_flood = [ 1 ];"), 3, 'no_flood: "?" is not known'),
    (P("mac_limit = 5;"), 3, '"mac_limit" has the wrong type'),
    (P("mac_limit = {\n adresses = 5; };"), 4, "mac_limit.adresses: unknown key"),
    (P("mac_limit = {\n addresses = 2000000; };"), 4, "mac_limit.addresses: 2000000 is out of range"),
    (P("mac_limit = {\n drop = true; };"), 4, "mac_limit.drop: there is no limit"),
    (PORTS3 + "mirrors = ( 5 );\n", 3, "mirrors: must be a group"),
    (PORTS3 + 'mirrors = (\n { to = "a"; } );\n', 4, "mirrors.port: is missing"),
    (PORTS3 + 'mirrors = (\n { port = "a"; } );\n', 4, "mirrors.to: is missing"),
    (PORTS3 + 'mirrors = (\n { port = "a";\n to = "nix"; } );\n', 5, 'mirrors.to: there is no port "nix"'),
    (PORTS3 + 'mirrors = (\n { port = "a";\n to = "a"; } );\n', 5, 'mirrors.to: "a" would be mirrored to itself'),
    (PORTS3 + 'mirrors = (\n { port = "a"; to = "b";\n what = ["tx", "all"]; } );\n', 5, 'mirrors.what: "all" is not known'),
    (PORTS3 + 'mirrors = (\n { port = "a"; to = "b";\n what = []; } );\n', 5, "mirrors.what: empty"),
    (PORTS3 + 'mirrors = (\n { port = "a"; to = "b";\n snap = 5; } );\n', 5, "mirrors.snap: 5 is out of range"),
    (PORTS3 + 'mirrors = (\n { port = "a"; to = "b"; },\n { port = "a"; to = "b"; } );\n', 5, '"a" is mirrored to "b" already'),
    (PORTS3 + 'mirrors = (\n { port = "a"; to = "b"; },\n { port = "b"; to = "c"; } );\n', 5, '"b" is where "a" is mirrored to'),
    (PORTS3 + 'mirrors = (\n { port = "a"; to = "b"; },\n { port = "c"; to = "a"; } );\n', 5, '"a" is mirrored itself, to "b"'),
    ('ports = ( { name = "m"; }, ' + ", ".join('{ name = "p%d"; }' % i for i in range(5)) + " );\nmirrors = (\n" +
     ",\n".join(' { port = "m"; to = "p%d"; }' % i for i in range(5)) + "\n);\n", 7, '"m" has 4 mirrors already'),
    ('ports = ( { name = "a"; } );\nfdb = (\n { mac = "02:00:00:00:00:01"; port = "a";\n vid = 0; } );\n', 4,
     "vid: 0 is out of range: use 1 to 4094"),
    ('state_dir = "var";\n', 1, "must be an absolute path"),
    ("dpdk = {\n memory = 4;\n};\n", 2, "memory: 4 is out of range"),
    ('dpdk = {\n huge_dir = "x";\n};\n', 2, "must be an absolute path"),
    ('dpdk = {\n library = "";\n};\n', 2, "library: empty"),
    ('switch = { max_ports = 1; };\nports = (\n { name = "a"; } );\n'
     'nics = ( { name = "n"; vdev = "net_null0"; } );\n', 2, "2 of them with the NICs, but switch.max_ports is 1"),
    ('ports = ( { name = "a"; } );\nfdb = (\n { mac = "02:00:00:00:00:01"; port = "a"; },\n'
     ' { mac = "02:00:00:00:00:01"; port = "a"; }\n);\n', 4, "twice"),
]


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
         library = "/opt/lib/libvswitch-nic.so.0"; };
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
