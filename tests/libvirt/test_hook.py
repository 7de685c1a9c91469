# SPDX-License-Identifier: BSD-3-Clause
"""
libvirt's hook: what it reads from a domain's XML, and what it does with and without a daemon. The
daemon is the one with the test double of libelisa-host.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.environ["DAEMON_TESTS"])
import daemontest as dt

HOOK = os.environ["LIBVIRT_HOOK_SAN"]
UUID = "79ea160f-5b0a-4c83-9d6a-478398fc343d"
NS = "https://elisa-vswitch.org/xmlns/libvirt/domain/1.0"
VM = '<elisa:vm xmlns:elisa="%s"%%s>%%s</elisa:vm>' % NS
# As libvirt writes it: other elements before and after, ours among others' metadata.
DOMAIN = """<domain type='kvm' id='1' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>%s</name>
  <uuid>%s</uuid>
  <metadata>
    <other:x xmlns:other="http://example.com/"><other:port name="no"/></other:x>
    %s
  </metadata>
  <memory unit='KiB'>65536</memory>
  <devices><interface><port name="no"/></interface></devices>
</domain>
"""


def domain(ports="", attributes="", name="web", uuid=UUID):
    return DOMAIN % (name, uuid, VM % (attributes, ports))


def hook(*args, text="", timeout=10):
    return subprocess.run([HOOK, *args], input=text if isinstance(text, bytes) else text.encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)


GOOD = (
    ("", "", []),
    ("<elisa:port/>", "", [{}]),
    ('<elisa:port name="7" mac="02:00:00:00:00:01" queues="2" mtu="9000" up="no"/>', "",
     [{"name": "7", "mac": "02:00:00:00:00:01", "queues": 2, "mtu": 9000, "up": False}]),
    ('<elisa:port groups="0"/><elisa:port groups="0,3,63" no_flood="broadcast,unknown"/>', "",
     [{"groups": [0]}, {"groups": [0, 3, 63], "no_flood": ["broadcast", "unknown"]}]),
    ('<elisa:port anti_spoof="yes" uplink="1"><elisa:vlan mode="trunk" pvid="10" allowed="10"/>'
     '<elisa:rate tx_bytes="1000000"/><elisa:mac_limit addresses="4" drop="yes"/></elisa:port>', "",
     [{"anti_spoof": True, "uplink": "1", "vlan": {"mode": "trunk", "pvid": 10, "allowed": "10"},
       "rate": {"tx_bytes": 1000000}, "mac_limit": {"addresses": 4, "drop": True}}]),
    (' <!-- c --> <elisa:port name="a&amp;&#66;"/> text ', ' required="yes"', [{"name": "a&B"}]),
    ('<e:port xmlns:e="%s" mtu="99999999999999999999"/>' % NS, "", [{"mtu": "9" * 20}]),
)

BAD = (
    (domain("<elisa:prot/>"), "unknown element <prot> in <elisa:vm>: use <elisa:port>"),
    (domain("<port/>"), "unknown element <port>"),
    (domain("<elisa:port><x/></elisa:port>"), "unknown element <x> in <elisa:port>"),
    (domain("<elisa:port><elisa:vlan><elisa:x/></elisa:vlan></elisa:port>"), "unknown element <x>"),
    (domain("<elisa:port><elisa:vlan/><elisa:vlan/></elisa:port>"), "<elisa:vlan> is given twice"),
    (domain('<elisa:port vlan="1"><elisa:vlan/></elisa:port>'), "<elisa:vlan> is given twice"),
    (domain('<elisa:port elisa:name="x"/>'), 'attribute "name" has a namespace'),
    (domain("<elisa:port/>" * 65), "more than 64 ports"),
    (domain('<elisa:port name="%s"/>' % ("x" * 70000)), "too large"),
    (domain("", ' required="maybe"'), 'required="maybe": use yes or no'),
    (domain("", ' requird="yes"'), 'unknown attribute "requird" of <elisa:vm>'),
    (DOMAIN % ("web", UUID, VM % ("", "") * 2), "two <elisa:vm>"),
    (domain().replace("domain/1.0", "domain/2.0"), 'domain/2.0" is not known: use <elisa:vm xmlns'),
    (domain(name="x" * 200), "longer than 127 bytes"),
    (domain(uuid="x" * 200), "longer than 63 bytes"),
    (domain(name=""), "no name or no UUID"),
    (domain(uuid=""), "no name or no UUID"),
    ("", "not XML, line 1: no element found"),
    ("<domain>", "not XML, line 1: no element found"),
    ("<network/>", "not a libvirt domain: its first element is <network>"),
    (domain("<elisa:port>"), "not XML, line 6: mismatched tag"),
    (domain('<elisa:port name="&x;"/>'), "not XML, line 6: undefined entity"),
    (domain().encode() + b"\0", "not XML"),
    (b"\xff\xfe\xff" * 10, "not XML"),
    (domain("<!-- %s -->" % ("x" * (1 << 20))), "longer than 1048576 bytes"),
    ("<domain>" + "<a>" * 100000, "not XML"),
    ('<!DOCTYPE domain [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + domain(),
     "document type declaration is not accepted"),
    ('<!DOCTYPE domain SYSTEM "file:///etc/passwd">' + domain(), "document type"),
)


class Xml(unittest.TestCase):
    def test_good(self):
        for ports, attributes, wanted in GOOD:
            r = hook("--show", text=domain(ports, attributes))
            self.assertEqual((r.returncode, r.stderr), (0, b""))
            out = json.loads(r.stdout)
            self.assertEqual((out["ports"], out["name"], out["uuid"]), (wanted, "web", UUID))
            self.assertEqual(out.get("required", False), "yes" in attributes)

    def test_not_ours(self):
        for text in (DOMAIN % ("web", UUID, ""), "<domain/>",
                     "<domain><metadata/>%s</domain>" % (VM % ("", "<elisa:port/>")),
                     domain().replace("metadata>", "description>")):
            r = hook("--show", text=text)
            self.assertEqual((r.returncode, r.stdout), (0, b"null\n"), r.stderr)

    def test_bad(self):
        for text, wanted in BAD:
            r = hook("--show", text=text)
            self.assertEqual((r.returncode, r.stdout), (1, b""), wanted)
            self.assertIn(wanted, r.stderr.decode())
            self.assertEqual(r.stderr.count(b"\n"), 1, r.stderr)

    def test_cut_off(self):
        """Any beginning of a domain, and one with any byte gone wrong, is read or refused."""
        text = domain('<elisa:port name="web0"><elisa:vlan pvid="1"/></elisa:port>').encode()
        for i in range(0, len(text), 7):
            for changed in text[:i], text[:i] + bytes([text[i] ^ 0x55]) + text[i + 1:]:
                self.assertIn(hook("--show", text=changed).returncode, (0, 1))

    def test_usage(self):
        self.assertEqual(hook("--help").returncode, 0)
        self.assertIn(b"elisa-libvirt-hook 0.", hook("--version").stdout)
        for args in (), ("web",), ("--show", "web"), ("--wrong",):
            self.assertEqual(hook(*args, text=domain()).returncode, 2)


class Calls(dt.DaemonCase):
    program = dt.FAKE
    config = 'ports = ( { name = "taken"; } );\n'

    def setUp(self):
        dt.fake_host(self)
        super().setUp()
        self.pid = self.spawn("qemu -uuid " + UUID, "1000", executable="/bin/sleep").pid
        with open(os.path.join(self.fake, "web.pid"), "w") as f:
            f.write("%d\n" % self.pid)

    def hook(self, op, text, wanted=0):
        """Returns what it says."""
        begin = time.monotonic()
        r = hook("--run-dir", self.d.dir, "--pid-dir", self.fake, "web", op, "begin", "-", text=text)
        self.assertEqual((r.returncode, r.stdout), (wanted, b""), r.stderr)
        self.assertLess(time.monotonic() - begin, 8)
        return r.stderr.decode()

    def state(self):
        vm = self.d.call("status")["vms"].get("web")
        return vm and vm["state"]

    def file(self):
        return self.d.path("domains/%s.json" % UUID)

    def test_life(self):
        text = domain('<elisa:port name="web0" mtu="2000"/>', ' required="yes"')
        self.assertEqual(self.hook("prepare", text), "")
        self.assertIsNone(self.state())
        self.hook("start", text)
        self.assertIsNone(self.state())
        for op in "started", "reconnect":
            self.assertEqual(self.hook(op, text), "")
            self.assertEqual(self.state(), "attached")
        self.assertEqual(self.d.call("port.show", name="web0")["mtu"], 2000)
        self.hook("stopped", text)
        dt.wait_for(lambda: self.state() is None)
        self.assertEqual(self.hook("release", text), "")
        self.assertEqual(list(self.d.call("port.list")["ports"]), ["taken"])

    def test_nothing_of_ours(self):
        text = DOMAIN % ("web", UUID, "")
        for op in "prepare", "start", "started", "reconnect", "stopped", "release", "migrate", "new":
            self.assertEqual(self.hook(op, text), "")
        self.assertIsNone(self.state())

    def test_metadata_removed(self):
        """...while it runs: noticed when libvirtd is started again."""
        self.hook("started", domain("<elisa:port/>"))
        self.assertEqual(self.hook("reconnect", DOMAIN % ("web", UUID, "")), "")
        dt.wait_for(lambda: self.state() is None)

    def test_refused(self):
        for ports, text in (('<elisa:port name="taken"/>', 'there is a port "taken" already'),
                            ('<elisa:port vlam="1"/>', 'port "web-0": unknown: "vlam"'),
                            ('<elisa:port mtu="x"/>', '"mtu" must be a whole number'),
                            ("<elisa:prot/>", "metadata: unknown element <prot>")):
            self.assertIn("elisa: web: ", self.hook("started", domain(ports)))
            self.assertIn(text, self.hook("started", domain(ports)))
            for op in "prepare", "started":
                self.assertIn(text, self.hook(op, domain(ports, ' required="yes"'), 1))
            self.assertIn(text, self.hook("reconnect", domain(ports, ' required="yes"')))
            self.assertEqual(self.hook("prepare", domain(ports)), "")
            self.assertIsNone(self.state())
            self.assertFalse(os.path.exists(self.file()))

    def test_module_refuses(self):
        with open(os.path.join(self.fake, str(self.pid)), "w") as f:
            f.write("refuse 32\n")
        text = domain("", ' required="yes"')
        self.assertEqual(self.hook("prepare", text), "")
        self.assertIn("refused: guest-pcid", self.hook("started", text, 1))
        self.hook("stopped", text)
        self.assertIsNone(self.state())

    def test_daemon_away(self):
        self.d.kill()
        text, required = domain('<elisa:port name="web0"/>'), domain("", ' required="yes"')
        for op in "prepare", "started":
            self.assertIn("elisa: web: elisa-vswitchd does not run: start it (systemctl start",
                          self.hook(op, required, 1))
        self.assertIn("; its ports come when it is back", self.hook("started", text))
        self.d.start()
        dt.wait_for(lambda: self.state() == "attached")
        self.assertEqual(self.d.call("status")["vms"]["web"]["ports"], ["web0"])
        self.d.kill()
        self.hook("stopped", text)
        self.assertFalse(os.path.exists(self.file()))
        self.d.start()
        time.sleep(0.3)
        self.assertIsNone(self.state())

    def test_never_ran(self):
        """Not even its folder is there."""
        self.d.kill()
        shutil.rmtree(self.d.path("domains"))
        self.hook("started", domain("<elisa:port/>"))
        self.assertEqual(os.stat(self.file()).st_mode & 0o777, 0o600)

    def test_daemon_hangs(self):
        text = domain('<elisa:port name="web0"/>')
        os.kill(self.d.process.pid, signal.SIGSTOP)
        self.assertIn("does not answer", self.hook("started", text))
        self.assertTrue(os.path.exists(self.file()))
        self.assertIn("does not answer", self.hook("prepare", domain("", ' required="yes"'), 1))
        os.kill(self.d.process.pid, signal.SIGCONT)
        dt.wait_for(lambda: self.state() == "attached")
        os.kill(self.d.process.pid, signal.SIGSTOP)
        self.hook("stopped", text)
        self.assertFalse(os.path.exists(self.file()))
        os.kill(self.d.process.pid, signal.SIGCONT)
        dt.wait_for(lambda: self.state() is None)


dt.main()
