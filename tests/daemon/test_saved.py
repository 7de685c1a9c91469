# SPDX-License-Identifier: BSD-3-Clause
"""Changes with --save: they outlast the daemon, whatever end it finds, until they are forgotten."""
import json
import os
import subprocess

import daemontest as dt

CONFIG = dt.LOCAL + """
ports = ( { name = "a"; vm = "local"; }, { name = "b"; transport = "local"; }, { name = "web0"; vm = "web"; },
          { name = "gone"; } );
fdb = ( { mac = "02:00:00:00:00:01"; port = "web0"; }, { mac = "02:00:00:00:00:04"; port = "gone"; } );
mirrors = ( { port = "a"; to = "web0"; }, { port = "gone"; to = "web0"; } );
"""


class Saved(dt.DaemonCase):
    config = CONFIG

    def ok(self, *args):
        r = self.d.ctl(*args)
        self.assertEqual((r.returncode, r.stderr), (0, ""), args)
        return r.stdout

    def state(self):
        fdb = [e for e in self.d.call("fdb.list")["entries"] if e["static"]]
        mirrors = self.d.call("mirror.list")["mirrors"]
        return [self.d.call("port.list"), sorted(fdb, key=lambda e: (e["mac"], e["vid"])),
                sorted(mirrors, key=lambda m: (m["port"], m["to"]))]

    def again(self, state=True):
        """The daemon dies, and nothing but what was saved is left."""
        self.d.kill()
        if not state:
            os.unlink(self.d.path("state.json"))
        self.d.start()
        return self.state()

    def saved(self):
        with open(self.d.path("saved.json")) as f:
            return json.load(f)

    def changes(self):
        self.ok("port", "set", "web0", "--mtu", "4000", "--vlan", "access", "--pvid", "7", "--save")
        self.ok("port", "set", "web0", "--rate-tx", "1M", "--save")
        self.ok("port", "set", "web0", "--groups", "0,5")
        self.ok("port", "add", "q", "--groups", "3", "--save")
        self.ok("port", "set", "q", "--mtu", "2000", "--save")
        self.ok("port", "del", "gone", "--save")
        self.ok("fdb", "add", "02:00:00:00:00:02", "q", "--vid", "9", "--save")
        self.ok("fdb", "del", "02:00:00:00:00:01", "--save")
        self.ok("mirror", "add", "q", "web0", "--snap", "99", "--save")
        self.ok("mirror", "del", "a", "web0", "--save")
        dt.wait_for(lambda: "gone" not in self.d.call("port.list")["ports"])

    def check(self, state):
        ports, fdb, mirrors = state
        ports = ports["ports"]
        self.assertEqual(set(ports), {"a", "b", "web0", "q"})
        self.assertEqual((ports["web0"]["mtu"], ports["web0"]["vlan"], ports["web0"]["rate"], ports["web0"]["vm"]),
                         (4000, {"mode": "access", "pvid": 7}, {"tx_bytes": 1000000}, "web"))
        self.assertEqual((ports["q"]["groups"], ports["q"]["mtu"], ports["q"]["origin"]), ([3], 2000, "saved"))
        self.assertEqual((ports["web0"]["origin"], ports["a"]["origin"]), ("saved", "configuration"))
        self.assertEqual([(e["mac"], e["vid"], e["port"]) for e in fdb], [("02:00:00:00:00:02", 9, "q")])
        self.assertEqual([(m["port"], m["to"], m["snap"], m["origin"]) for m in mirrors],
                         [("q", "web0", 99, "configuration")])

    def test_all(self):
        self.changes()
        self.assertEqual(self.d.call("port.show", name="web0")["groups"], [0, 5])
        self.check(self.state())
        for state in (True, False):
            self.check(self.again(state))
            self.assertEqual(self.d.call("port.show", name="web0")["groups"], [0])     # was not saved
        self.assertNotIn("warning: port", self.d.log())
        self.assertNotIn("not kept", self.d.log())
        self.assertEqual(self.d.call("reload")["changed"], [])
        self.check(self.state())
        r = subprocess.run([dt.SAN, "--check", "--config", self.d.config, "--run-dir", self.d.dir],
                           stdout=subprocess.PIPE, text=True, check=True)
        self.assertIn("4 ports, 0 VMs, 1 static addresses", r.stdout)

    def test_show_and_forget(self):
        before = self.state()
        self.assertEqual(self.ok("saved"), "in %s\n" % self.d.path("saved.json"))
        self.changes()
        out = self.ok("saved", "show")
        for line in ("port gone: deleted", 'port web0: {"mtu":4000,', 'port q: {"mac":', "address 02:00:00:00:00:01 of VLAN 0: deleted",
                     "address 02:00:00:00:00:02 of VLAN 9: at port q", "mirror of port a to web0: deleted",
                     "mirror of port q to web0: tx, rx"):
            self.assertIn(line, out)
        r = self.d.ctl("saved", "forget", "nix")
        self.assertEqual(r.returncode, 1)
        self.assertIn('nothing is saved of "nix"', r.stderr)
        self.assertIn("1 forgotten", self.ok("saved", "forget", "web0"))
        self.assertIn("port web0: mtu, groups, vlan, rate", self.ok("reload"))
        self.assertEqual(self.d.call("port.show", name="web0")["origin"], "configuration")
        self.assertIn("2 forgotten", self.ok("saved", "forget", "q"))       # and its mirror
        self.assertIn("4 forgotten", self.ok("saved", "forget"))
        self.ok("reload")
        dt.wait_for(lambda: "q" not in self.d.call("port.list")["ports"])
        self.assertEqual(self.state(), before)
        self.assertEqual(self.again(), before)

    def test_added_and_deleted(self):
        """Of what only was saved nothing is left; a run-time port becomes a saved one."""
        self.ok("port", "add", "q")
        self.assertEqual(self.d.call("port.show", name="q")["origin"], "control")
        self.ok("port", "set", "q", "--mtu", "1600", "--save")
        self.assertEqual(self.d.call("port.show", name="q")["origin"], "saved")
        self.again(False)
        self.assertEqual(self.d.call("port.show", name="q")["mtu"], 1600)
        self.ok("port", "del", "q", "--save")
        self.assertEqual(self.saved()["ports"], {})
        self.ok("port", "del", "gone", "--save")
        dt.wait_for(lambda: "gone" not in self.d.call("port.list")["ports"])
        self.ok("port", "add", "gone", "--mtu", "1700", "--save")
        self.again(False)
        self.assertEqual(self.d.call("port.show", name="gone")["mtu"], 1700)

    def test_file_changes_beneath(self):
        """What is saved of something that the file has no longer is left alone; a clash is said."""
        self.changes()
        with open(self.d.config, "w") as f:
            f.write('ports = ( { name = "x"; } );')
        self.d.call("reload")
        self.assertIn('port "web0" is not in the configuration any more', self.d.log())
        dt.wait_for(lambda: set(self.d.call("port.list")["ports"]) == {"x", "q"})
        mac = self.d.call("port.show", name="q")["mac"]
        before = self.state()
        with open(self.d.config, "w") as f:
            f.write('ports = ( { name = "x"; mac = "%s"; } );' % mac)
        r = self.d.ctl("reload")
        self.assertEqual(r.returncode, 1)
        self.assertIn('saved.json: port q: it has the MAC address of "x": take it out, or run "elisactl saved forget q"',
                      r.stderr)
        self.assertEqual(self.state(), before)
        self.d.kill()
        r = subprocess.run([dt.SAN, "--config", self.d.config, "--run-dir", self.d.dir], stderr=subprocess.PIPE,
                           text=True, timeout=20)
        self.assertEqual(r.returncode, 78)
        self.assertIn("saved.json: port q:", r.stderr)
        os.unlink(self.d.path("saved.json"))
        self.d.start()

    def test_wrong_files(self):
        before = self.state()
        for text, message in (("{", "saved.json:1: "), ("[]", "not of this daemon's form"), ('{"revision": 2}', "not of this"),
                              ('{"revision": 1, "ports": {"a": {"mtu": 5}}, "fdb": [], "mirrors": []}', "port a: mtu: 5 is out"),
                              ('{"revision": 1, "ports": {"a": 5}, "fdb": [], "mirrors": []}', "port a: "),
                              ('{"revision": 1, "ports": {"a b": {"added": true}}, "fdb": [], "mirrors": []}', "is not a port name"),
                              ('{"revision": 1, "ports": {}, "fdb": [5], "mirrors": []}', "fdb: not an address"),
                              ('{"revision": 1, "ports": {}, "fdb": [], "mirrors": [{}]}', "mirrors.port: is missing")):
            with self.subTest(text=text):
                with open(self.d.path("saved.json"), "w") as f:
                    f.write(text)
                r = self.d.ctl("reload")
                self.assertEqual((r.returncode, len(r.stderr.splitlines())), (1, 2), r.stderr)
                self.assertIn(message, r.stderr)
                self.assertEqual(self.state(), before)
        with open(self.d.path("saved.json"), "w") as f:
            f.write("{")
        r = self.d.ctl("port", "set", "a", "--mtu", "1600", "--save")
        self.assertEqual(r.returncode, 1)
        self.assertIn("is so now, but was not saved: ", r.stderr)
        with open(self.d.path("saved.json")) as f:
            self.assertEqual(f.read(), "{")     # not overwritten
        os.unlink(self.d.path("saved.json"))

    def test_cannot_write(self):
        os.mkdir(self.d.path("saved.json.new"))
        r = self.d.ctl("fdb", "add", "02:00:00:00:00:09", "a", "--save")
        self.assertEqual(r.returncode, 1)
        self.assertIn("done, but not saved: ", r.stderr)
        self.assertFalse(os.path.exists(self.d.path("saved.json")))
        os.rmdir(self.d.path("saved.json.new"))


dt.main()
