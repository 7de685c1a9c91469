# SPDX-License-Identifier: BSD-3-Clause
"""The configuration, read again: all of it or nothing, and nobody else notices."""
import os
import signal
import subprocess

import daemontest as dt
from mistakes import ERRORS

BASE = dt.LOCAL + """
ports = ( { name = "a"; vm = "local"; }, { name = "b"; transport = "local"; }, { name = "web0"; vm = "web"; },
          { name = "old"; groups = [3]; } );
fdb = ( { mac = "02:00:00:00:00:01"; port = "web0"; }, { mac = "02:00:00:00:00:02"; port = "web0"; vid = 5; } );
mirrors = ( { port = "old"; to = "web0"; } );
vms = ( { name = "v1"; auto_attach = false; }, { name = "v2"; } );
"""

CHANGED = dt.LOCAL + """
ports = ( { name = "a"; vm = "local"; }, { name = "b"; transport = "local"; },
          { name = "web0"; vm = "web"; mtu = 9000; vlan = { mode = "access"; pvid = 7; }; },
          { name = "new"; groups = [4]; rate = { tx_bytes = 1000; }; } );
fdb = ( { mac = "02:00:00:00:00:02"; port = "web0"; vid = 5; }, { mac = "02:00:00:00:00:03"; port = "new"; } );
mirrors = ( { port = "new"; to = "web0"; what = [ "rx" ]; } );
vms = ( { name = "v2"; pid_file = "/run/v2.pid"; }, { name = "v3"; } );
"""


class Reload(dt.DaemonCase):
    config = BASE

    def write(self, text):
        with open(self.d.config, "w") as f:
            f.write(text)

    def reload(self, text, **params):
        self.write(text)
        return self.d.call("reload", **params)

    def state(self):
        """All that a reload could change."""
        fdb = [e for e in self.d.call("fdb.list")["entries"] if e["static"]]
        return [self.d.call("port.list"), sorted(fdb, key=lambda e: (e["mac"], e["vid"])),
                self.d.call("mirror.list"), sorted(self.d.call("status")["vms"])]

    def gen(self, name, *args):
        return self.spawn(dt.GEN, "-t", self.d.spec(name), *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)

    def traffic(self):
        """From a to b, until it is told to end."""
        rx = self.gen("b", "--rx", "-n", "100000000", "-T", "300", "--rx-size", "8192")
        dt.wait_for(lambda: self.d.call("port.show", name="b")["link"])
        mac = self.d.call("port.show", name="b")["mac"]
        tx = self.gen("a", "--tx", "-n", "100000000", "--window", "32", "--pause", "2000",
                      "--dst", mac)
        dt.wait_for(lambda: self.frames() > 0)
        return tx, rx

    def frames(self):
        return self.d.call("stats", port="b")["ports"]["b"]["rx_frames"]

    def end(self, tx, rx):
        """Both are as they were; all that was sent has arrived, but for what had no buffer."""
        self.assertEqual((tx.poll(), rx.poll()), (None, None))
        tx.send_signal(signal.SIGSTOP)
        before = -1
        while before != self.frames():
            before = self.frames()
        ports = self.d.call("stats")["ports"]
        sent, got, lost = ports["a"]["tx_frames"], ports["b"]["rx_frames"], ports["b"]["drops"]
        self.assertEqual((ports["a"]["drops"], set(lost) - {"rx-no-buffer"}), ({}, set()))
        # The sender may have been stopped within a call, of at most 32 frames.
        self.assertLessEqual(abs(sent - got - lost.get("rx-no-buffer", 0)), 32)
        tx.kill()
        rx.kill()

    def test_nothing_to_do(self):
        before = self.state()
        r = self.reload(BASE)
        self.assertEqual((r["changed"], r["restart_needed"], r["errors"]), ([], [], []))
        self.assertEqual(self.state(), before)

    def test_changes(self):
        tx, rx = self.traffic()
        before = self.state()
        want = {"port web0: mtu, vlan", "port new: added", "port old: deleted", "VM v3: added", "VM v2: changed",
                "VM v1: not the configuration's any more",
                "address 02:00:00:00:00:01 of VLAN 0 at port web0: deleted",
                "address 02:00:00:00:00:03 of VLAN 0 at port new: added",
                "mirror of port old to web0: deleted", "mirror of port new to web0: added"}
        r = self.reload(CHANGED, check=True)
        self.assertEqual((set(r["changed"]), r["outcome"]), (want, "checked"))
        self.assertEqual(self.state(), before)
        r = self.d.call("reload")
        self.assertEqual((set(r["changed"]), r["errors"], r["restart_needed"]), (want, [], []))
        dt.wait_for(lambda: "old" not in self.d.call("port.list")["ports"])
        ports, fdb, mirrors, vms = self.state()
        ports = ports["ports"]
        self.assertEqual(set(ports), {"a", "b", "web0", "new"})
        self.assertEqual((ports["web0"]["mtu"], ports["web0"]["vlan"]), (9000, {"mode": "access", "pvid": 7}))
        self.assertEqual(ports["new"]["origin"], "configuration")
        self.assertEqual([(e["mac"], e["vid"], e["port"]) for e in fdb],
                         [("02:00:00:00:00:02", 5, "web0"), ("02:00:00:00:00:03", 0, "new")])
        self.assertEqual(mirrors["mirrors"], [{"port": "new", "to": "web0", "what": ["rx"], "origin": "configuration"}])
        self.assertEqual(vms, ["a", "b", "v2", "v3"])
        for name in "ab":
            self.assertEqual(ports[name], before[0]["ports"][name])
        self.assertEqual(self.d.call("reload")["changed"], [])
        for i in range(10):     # and to and fro, with traffic
            self.reload(CHANGED if i % 2 else BASE)
            dt.wait_for(lambda: not any(p.get("deleting") for p in self.d.call("port.list")["ports"].values()))
        self.end(tx, rx)

    def test_run_time(self):
        """What was added at run time stays; what the file has becomes as it says."""
        d = self.d
        d.call("port.add", name="q")
        d.call("fdb.add", mac="02:00:00:00:00:09", port="q")
        d.call("mirror.add", port="q", to="web0")
        d.call("port.set", name="web0", mtu=1400)
        d.call("port.del", name="old")
        d.call("fdb.del", mac="02:00:00:00:00:01")
        dt.wait_for(lambda: "old" not in d.call("port.list")["ports"])
        r = self.reload(BASE)
        self.assertIn("port web0: mtu", r["changed"])
        self.assertIn("port old: added", r["changed"])
        ports, fdb, mirrors, vms = self.state()
        self.assertEqual(ports["ports"]["web0"]["mtu"], 1500)
        self.assertEqual(set(ports["ports"]), {"a", "b", "web0", "old", "q"})
        self.assertEqual([e["mac"][-1] for e in fdb], ["1", "2", "9"])
        self.assertEqual({m["port"] for m in mirrors["mirrors"]}, {"old", "q"})
        r = self.reload(BASE.replace('ports = (', 'ports = ( { name = "q"; mtu = 2000; },'))
        self.assertEqual(r["changed"], ["port q: is the configuration's now; mtu"])
        self.assertEqual(d.call("port.show", name="q")["origin"], "configuration")
        self.reload(BASE)
        dt.wait_for(lambda: "q" not in d.call("port.list")["ports"])

    def test_swapped_addresses(self):
        one, two = ('ports = ( { name = "x"; mac = "02:00:00:00:00:0%d"; }, { name = "y"; mac = "02:00:00:00:00:0%d"; } );'
                    % m for m in ((1, 2), (2, 1)))
        self.reload(one)
        self.assertEqual(set(self.reload(two)["changed"]), {"port x: mac", "port y: mac"})
        ports = self.d.call("port.list")["ports"]
        self.assertEqual((ports["x"]["mac"][-1], ports["y"]["mac"][-1]), ("2", "1"))
        r = self.reload('ports = ( { name = "z"; mac = "02:00:00:00:00:01"; } );')
        self.assertEqual(set(r["changed"]), {"port z: added", "port x: deleted", "port y: deleted"})

    def test_needs_a_restart(self):
        before = self.state()
        r = self.reload(BASE.replace("local = { enable = true; };", """
            switch = { fdb_capacity = 4096; max_ports = 100; hugepages = "auto"; };
            control = { socket = "/tmp/other.sock"; }; doorbell = { enable = false; };
            local = { enable = true; socket = "/tmp/local.sock"; };
            nics = ( { name = "up0"; vdev = "net_null0"; } ); dpdk = { huge = false; };
            metrics = { port = 9999; }; state_dir = "/tmp";""").replace(
                'name = "web0";', 'name = "web0"; queues = 4; uplink = "up0";').replace(
                'name = "old";', 'name = "old"; transport = "local";'))
        text = "\n".join(r["restart_needed"])
        for key in ("switch.fdb_capacity: 65536 -> 4096", "switch.max_ports: 256 -> 100", 'switch.hugepages: "never" -> "auto"', "control.socket", "local.socket",
                    "doorbell.enable: 1 -> 0", "NIC up0: new", "dpdk.huge", "metrics.port", "state_dir",
                    "port web0: queues: 1 -> 4", "port web0: uplink: NIC up0 is new", "port old: transport: vm -> local"):
            self.assertIn(key, text)
        self.assertEqual(r["changed"], [])
        self.assertNotIn("max_vms", text)
        self.assertEqual(self.state(), before)

    def test_all_ports(self):
        """As many as there can be at all."""
        text = "switch = { max_ports = 1024; };\nports = (" + ",".join('{ name = "p%d"; }' % i for i in range(1024)) + ");"
        self.end_children()
        self.d.process.terminate()
        self.d.process.wait()
        self.write(text)
        self.d.start()
        r = self.d.call("reload")
        self.assertEqual((r["changed"], r["restart_needed"], r["errors"]), ([], [], []))

    def test_clashes(self):
        """What is right in itself, and not beside what runs."""
        self.d.call("port.add", name="q", mac="02:00:00:00:00:0a")
        before = self.state()
        for text, message in (
                ('ports = ( { name = "r"; mac = "02:00:00:00:00:0a"; } );', 'has the MAC address 02:00:00:00:00:0a of a port'),
                ("ports = (" + ",".join('{ name = "p%d"; }' % i for i in range(253)) + ");", "switch.max_ports is 256")):
            with self.assertRaisesRegex(dt.Refused, "nothing has changed") as e:
                self.reload(text)
            self.assertEqual(len(e.exception.data["errors"]), 1)
            self.assertIn(message, e.exception.data["errors"][0])
            self.assertEqual(self.state(), before)

    def test_in_part(self):
        """What can only be found out by doing it: all else is done, and nobody is told that all is well."""
        self.end_children()
        self.d.process.terminate()
        self.d.process.wait()
        small = BASE + "switch = { fdb_capacity = 1024; };"
        self.write(small)
        self.d.start()
        fdb = "fdb = ( %s );" % ",".join('{ mac = "02:00:00:01:%02x:%02x"; port = "a"; }' % divmod(i, 256)
                                         for i in range(4000))
        text = 'ports = ( { name = "a"; transport = "local"; mtu = 1600; } );\n' + fdb
        self.write(dt.LOCAL + "switch = { fdb_capacity = 1024; };" + text)
        r = self.d.ctl("reload")
        self.assertEqual(r.returncode, 1)
        self.assertIn("taken in part", r.stderr)
        self.assertIn("address at port a: No space left", r.stderr)
        self.assertEqual(self.d.call("port.show", name="a")["mtu"], 1600)
        self.assertGreater(len(self.d.call("fdb.list")["entries"]), 900)
        self.assertIn("was taken in part: ", self.d.log())
        self.write(small)
        self.assertEqual(self.d.call("reload")["outcome"], "applied")

    def test_mirrors_beside_others(self):
        """Those of run time and of captures stay, and what does not fit beside them changes nothing."""
        with self.d.rpc() as rpc:
            rpc.call("capture", ports=["b"])
            before = self.state()
            for mirror, why in (('{ port = "a"; to = "b"; }', "is mirrored itself"),
                                ('{ port = "web0"; to = "b"; }', "is mirrored itself")):
                for check in (False, True):
                    with self.assertRaisesRegex(dt.Refused, "nothing has changed") as e:
                        self.reload(CHANGED.replace("mirrors = (", "mirrors = ( %s," % mirror), check=check)
                    self.assertIn(why, e.exception.data["errors"][0])
                    self.assertEqual(self.state(), before)
        dt.wait_for(lambda: len(self.d.call("mirror.list")["mirrors"]) == 1)
        self.d.call("mirror.add", port="b", to="a")
        before = self.state()
        with self.assertRaisesRegex(dt.Refused, "nothing has changed"):
            self.reload(CHANGED.replace("mirrors = (", 'mirrors = ( { port = "a"; to = "web0"; },'))
        self.assertEqual(self.state(), before)
        self.assertEqual(self.reload(CHANGED)["errors"], [])

    def test_mistakes(self):
        """Each one: its sentence with file and line, and a switch that goes on as if nothing had been."""
        tx, rx = self.traffic()
        before = self.state()
        for text, line, message in ERRORS:
            with self.subTest(message=message):
                seen = self.frames()
                self.write(text)
                with self.assertRaisesRegex(dt.Refused, "nothing has changed") as e:
                    self.d.call("reload")
                errors = e.exception.data["errors"]
                self.assertEqual(len(errors), 1)
                self.assertTrue(errors[0].startswith("%s:%d: " % (self.d.config, line)), errors)
                self.assertIn(message, errors[0])
                self.assertEqual(self.state(), before)
                dt.wait_for(lambda: self.frames() > seen)
        self.end(tx, rx)

    def test_files(self):
        tx, rx = self.traffic()
        before = self.state()
        def gone():
            os.unlink(self.d.config)
        def folder():
            os.mkdir(self.d.config)
        def fifo():
            os.mkfifo(self.d.config)
        def includes():
            self.write('@include "/tmp"\n')
        def nul():
            self.write("ports = (\0);\n")
        for make, message in ((gone, "No such file"), (folder, "not a regular file"), (fifo, "not a regular file"),
                              (includes, 'is not a file of'), (nul, "NUL byte")):
            if os.path.isdir(self.d.config):
                os.rmdir(self.d.config)
            elif os.path.exists(self.d.config) and make != gone:
                os.unlink(self.d.config)
            make()
            r = self.d.ctl("reload")
            self.assertEqual((r.returncode, r.stdout, len(r.stderr.splitlines())), (1, "", 2), r.stderr)
            self.assertIn(self.d.config, r.stderr.splitlines()[1])
            self.assertIn(message, r.stderr.splitlines()[1])
            self.assertEqual(self.state(), before)
        self.end(tx, rx)

    def test_elisactl(self):
        self.write(CHANGED)
        r = self.d.ctl("reload", "--check")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn("port new: added\n", r.stdout)
        self.assertIn("good, would make 10 changes\n", r.stdout)
        r = self.d.ctl("reload")
        self.assertIn("%s: 10 changes\n" % self.d.config, r.stdout)
        self.write("ports = (\n { name = 5; },\n { name = \"x\"; mtu = 1; } );\n")
        r = self.d.ctl("reload")
        self.assertEqual(r.returncode, 1)
        self.assertEqual([l.split(":")[1] for l in r.stderr.splitlines()[1:]], ["2", "3"])
        self.assertEqual(self.d.ctl("reload", "--pvid", "5").returncode, 2)

    def test_hangup(self):
        self.write(CHANGED)
        self.d.process.send_signal(signal.SIGHUP)
        dt.wait_for(lambda: "new" in self.d.call("port.list")["ports"])
        self.assertIn("was read again: 10 changes", self.d.log())
        self.write("bogus = 1;\n")
        self.d.process.send_signal(signal.SIGHUP)
        dt.wait_for(lambda: "nothing has changed" in self.d.log())
        self.assertIn('%s:1: top level: unknown key "bogus"' % self.d.config, self.d.log())



class Nic(dt.DaemonCase):
    """An address that the daemon itself had put there, for NICs, becomes the configuration's."""
    config = dt.LOCAL + """
ports = ( { name = "b"; transport = "local"; } );
""" + dt.NULL_NIC

    def setUp(self):
        dt.need_nic(self)
        super().setUp()

    def statics(self):
        return [(e["mac"], e["port"]) for e in self.d.call("fdb.list")["entries"] if e["static"]]

    def test_pinned(self):
        mac = self.d.call("port.show", name="b")["mac"]
        self.spawn(dt.GEN, "-t", self.d.spec("b"), "--rx", "-n", "1", "-T", "300", stdout=subprocess.DEVNULL)
        dt.wait_for(lambda: self.statics() == [(mac, "b")])
        with open(self.d.config, "a") as f:
            f.write('fdb = ( { mac = "%s"; port = "b"; } );\n' % mac)
        self.assertEqual(len(self.d.call("reload")["changed"]), 1)
        self.assertEqual(self.statics(), [(mac, "b")])
        self.end_children()
        dt.wait_for(lambda: not self.d.call("port.show", name="b")["bound_to"])
        self.assertEqual(self.statics(), [(mac, "b")])


dt.main()
