# SPDX-License-Identifier: BSD-3-Clause
"""
VMs as libvirt's hook tells of them (vm.define, vm.undefine), with the test double of libelisa-host.
"""
import json
import os

import daemontest as dt

CONFIG = """
ports = ( { name = "free0"; }, { name = "taken"; mac = "02:00:00:00:00:77"; } );
vms = ( { name = "conf"; auto_attach = false; } );
"""
UUID = "79ea160f-5b0a-4c83-9d6a-478398fc343d"
OTHER = "0af93b2c-5b0a-4c83-9d6a-478398fc343d"


class Domain(dt.DaemonCase):
    program = dt.FAKE
    config = CONFIG

    def setUp(self):
        dt.fake_host(self)
        super().setUp()

    def script(self, pid, **values):
        dt.fake_put(self, str(pid), "".join("%s %d\n" % v for v in values.items()))

    def vm(self, called="qemu"):
        """A process whose command line begins so."""
        return self.spawn(called, "1000", executable="/bin/sleep").pid

    def define(self, pid=None, uuid=UUID, name="web", ports=({"name": "web0"}, {}), **more):
        if pid:
            more["pid"] = pid
        return self.d.call("vm.define", name=name, uuid=uuid, ports=list(ports), **more)

    def undefine(self, uuid=UUID):
        return self.d.call("vm.undefine", uuid=uuid)["was_defined"]

    def vms(self):
        return self.d.call("status")["vms"]

    def ports(self):
        return self.d.call("port.list")["ports"]

    def file(self, uuid=UUID):
        return self.d.path("domains/%s.json" % uuid)

    def gone(self):
        dt.wait_for(lambda: sorted(self.ports()) == ["free0", "taken"] and list(self.vms()) == ["conf"])

    # ---- in and out ----

    def test_define_undefine(self):
        pid = self.vm()
        r = self.define(pid)
        self.assertEqual((r["state"], r["ports"], r["pid"], r["domain"], r["configured"]),
                         ("attached", ["web0", "web-1"], pid, UUID, False))
        port = self.d.call("port.show", name="web0")
        self.assertEqual((port["origin"], port["vm"], port["bound_to"]), ("domain", "web", "web"))
        with self.assertRaisesRegex(dt.Refused, 'belongs to the libvirt domain "web"'):
            self.d.call("port.del", name="web0")
        self.assertTrue(self.undefine())
        self.gone()
        self.assertFalse(os.path.exists(self.file()))
        self.assertFalse(self.undefine())

    def test_other_name(self):
        """The VM is called otherwise from now on: ports of the same names come back, when the former ones
        are gone."""
        pid = self.vm()
        self.define(pid)
        try:
            self.define(pid, name="shop")
        except dt.Refused as e:     # it is attached by its former name for a moment
            print(e)
        dt.wait_for(lambda: self.vms().get("shop", {}).get("state") == "attached" and
                    set(self.vms()["shop"]["ports"]) == {"web0", "shop-1"})
        dt.wait_for(lambda: "web" not in self.vms() and "web-1" not in self.ports())
        self.assertEqual(self.d.call("port.show", name="web0")["bound_to"], "shop")

    def test_its_process_ends_first(self):
        self.define(self.vm())
        self.children[0].kill()
        dt.wait_for(lambda: self.vms()["web"]["state"] == "waiting")
        self.assertTrue(self.undefine())
        self.gone()

    def test_started_again(self):
        """The next process comes before the former one's ports are gone."""
        for i in range(5):
            pid = self.vm()
            self.define(pid)
            dt.wait_for(lambda: self.vms()["web"]["state"] == "attached" and
                        self.vms()["web"]["pid"] == pid and len(self.vms()["web"]["ports"]) == 2)
            self.children[-1].kill()
            self.undefine()
        self.gone()

    def test_defined_again(self):
        """As a libvirtd that was restarted does: nothing happens but what is asked for."""
        pid = self.vm()
        self.define(pid)
        link = self.d.call("port.show", name="web0")["index"]
        self.define(pid)
        r = self.define(pid, ports=[{"name": "web0", "mtu": 9000}, {"name": "web2"}])
        self.assertEqual(r["ports"], ["web0", "web2"])
        self.assertEqual(self.d.call("port.show", name="web0")["index"], link)
        self.assertEqual(self.ports()["web0"]["mtu"], 9000)
        dt.wait_for(lambda: "web-1" not in self.ports())
        with open(os.path.join(self.fake, "log")) as f:
            self.assertEqual(f.read().count("attach %d" % pid), 1)

    def test_held(self):
        """What the administrator detached stays so, also when libvirtd is restarted."""
        pid = self.vm()
        self.define(pid)
        self.d.call("detach", name="web")
        self.assertEqual(self.define(pid)["state"], "detached")
        self.assertEqual(self.d.call("attach", name="web", pid=pid)["state"], "attached")

    def test_refused(self):
        pid = self.vm()
        self.script(pid, refuse=32, detail=1)
        with self.assertRaisesRegex(dt.Refused, "refused: guest-pcid"):
            self.define(pid)
        self.script(pid)    # tried again
        dt.wait_for(lambda: self.vms()["web"]["state"] == "attached")

    def test_migration(self):
        """Away while its memory is copied, then attached again."""
        pid = self.vm()
        self.define(pid)
        self.script(pid, logged=1)
        dt.wait_for(lambda: self.vms()["web"].get("refusal") == "dirty-logging")
        self.assertEqual((self.vms()["web"]["state"], self.vms()["web"]["ports"]), ("waiting", []))
        self.assertIn("its memory is being copied (migration): detached meanwhile", self.d.log())
        self.script(pid)
        dt.wait_for(lambda: self.vms()["web"]["state"] == "attached")
        self.assertEqual(self.vms()["web"]["ports"], ["web0", "web-1"])

    def test_migration_seen_by_another(self):
        """The module tells of it once, and whoever asks for the VM's state may be the one who is told."""
        pid = self.vm()
        self.define(pid)
        self.script(pid, logged=1)
        self.vms()
        self.script(pid)
        dt.wait_for(lambda: "its memory is being copied (migration): detached meanwhile" in self.d.log())
        dt.wait_for(lambda: self.vms()["web"]["state"] == "attached")

    def test_configured_vm(self):
        """One that the configuration has, too, is the configuration's again afterwards."""
        r = self.define(self.vm(), name="conf", ports=[{}])
        self.assertEqual((r["state"], r["ports"]), ("attached", ["conf-0"]))
        self.undefine()
        self.assertEqual(self.vms()["conf"]["state"], "attached")
        self.children[-1].kill()
        dt.wait_for(lambda: self.vms()["conf"]["state"] == "detached")
        self.gone()

    # ---- what is refused, and leaves everything as it was ----

    def test_wrong(self):
        self.define(self.vm(), uuid=OTHER, name="db", ports=[{"name": "db0"}])
        before = self.ports(), self.vms()
        for params, text in (
                ({"ports": [{"name": "a b"}]}, '"a b" is not a port name'),
                ({"ports": [{"vlam": 1}]}, 'port "web-0": unknown: "vlam"'),
                ({"ports": [{"vm": "x"}]}, 'unknown: "vm"'),
                ({"ports": [{"transport": "local"}]}, 'unknown: "transport"'),
                ({"ports": [{"mtu": 67}]}, 'port "web-0": mtu: 67 is out of range'),
                ({"ports": [{"mtu": "x"}]}, '"mtu" must be a whole number'),
                ({"ports": [{"mac": "03:00:00:00:00:01"}]}, "multicast"),
                ({"ports": [{}, {"name": "taken"}]}, 'there is a port "taken" already'),
                ({"ports": [{}, {"name": "db0"}]}, 'there is a port "db0" already'),
                ({"ports": [{"name": "x"}, {"name": "x"}]}, 'there is a port "x" already'),
                ({"ports": [{"mac": "02:00:00:00:00:77"}]}, 'is that of port "taken"'),
                ({"ports": [{"mac": "02:00:00:00:00:78"}] * 2}, 'is that of port "web-0"'),
                ({"ports": [{}] * 9}, "8 ports at most"),
                ({"ports": 1}, "an array"),
                ({"uuid": "x"}, '"x" is not a UUID'),
                ({"uuid": "../" * 12}, "is not a UUID"),
                ({"name": "a/b"}, '"a/b" is not a VM name'),
                ({"name": "local"}, "take another name"),
                ({"name": "db"}, 'VM "db" is the domain ' + OTHER),
                ({"pid": -1}, "must|number"),
                ({"pid": 4000000}, "process 4000000 does not run"),
                ({"pod": 1}, 'unknown parameter "pod"')):
            for check in (False, True):
                with self.assertRaisesRegex(dt.Refused, text):
                    self.d.call("vm.define", **{"name": "web", "uuid": UUID, "check": check} | params)
        self.assertEqual((self.ports(), self.vms()), before)
        self.assertEqual(os.listdir(self.d.path("domains")), [OTHER + ".json"])
        self.assertEqual(self.define(check=True)["state"], "good")
        self.assertEqual((self.ports(), self.vms()), before)

    def test_wrong_again(self):
        """A redefinition that is refused changes nothing."""
        pid = self.vm()
        self.define(pid)
        before = self.ports()
        for port in {"queues": 4}, {"mac": "02:00:00:00:00:77"}, {"mtu": 1}:
            with self.assertRaises(dt.Refused):
                self.define(pid, ports=[dict(port, name="web0")])
        self.assertEqual(self.ports(), before)
        self.assertEqual(self.vms()["web"]["state"], "attached")

    # ---- how many ports there may be ----

    def test_no_room(self):
        """More than there is room for changes nothing: not what there is of the domain, either."""
        self.restart_with("switch = { max_ports = 3; };" + CONFIG)
        pid = self.vm()
        self.assertEqual(self.define(pid, ports=[{}])["ports"], ["web-0"])
        before = self.ports()
        with self.assertRaisesRegex(dt.Refused, "no room for 2 ports, only for 1: raise switch.max_ports"):
            self.define(pid, ports=[{}, {}])
        with self.assertRaisesRegex(dt.Refused, "raise switch.max_ports"):
            self.d.call("port.add", name="more")
        self.assertEqual((self.ports(), self.vms()["web"]["state"]), (before, "attached"))
        # Captures have their own.
        with self.d.rpc() as rpc:
            self.assertIn("buf_len", rpc.call("capture"))

    def test_room_comes_later(self):
        """Former domains' ports are still being deleted, as many as there can be."""
        self.restart_with("switch = { max_ports = 3; };" + CONFIG)
        pid, lines = self.vm(), []
        for i in range(10):
            for method, params in (("vm.define", dict({"pid": pid} if i == 9 else {}, name="web",
                                                        ports=[{"name": "p%d" % i}])),
                                   ("vm.undefine", {})):
                lines.append(json.dumps({"jsonrpc": "2.0", "id": len(lines), "method": method,
                                         "params": dict(params, uuid=UUID)}))
        with self.d.rpc() as rpc:
            rpc.send("\n".join(lines[:-1]).encode() + b"\n")
            for _ in lines[:-1]:
                self.assertNotIn("error", rpc.line())
        dt.wait_for(lambda: sorted(self.ports()) == ["free0", "p9", "taken"])
        dt.wait_for(lambda: self.vms()["web"]["ports"] == ["p9"])

    def restart_with(self, config):
        self.end()
        with open(self.d.config, "w") as f:
            f.write(config)
        self.d.start()

    # ---- the daemon goes and comes ----

    def test_daemon_restart(self):
        pid = self.vm()
        self.define(pid, ports=[{"name": "web0", "mtu": 2000, "groups": [3]}])
        before = self.ports()["web0"]
        for end in self.d.kill, self.end:
            end()
            self.d.start()
            dt.wait_for(lambda: self.vms()["web"]["state"] == "attached")
            self.assertEqual(self.ports()["web0"], before)
        self.undefine()
        self.gone()

    def end(self):
        self.d.process.terminate()
        self.assertEqual(self.d.process.wait(10), 0)

    def test_reload(self):
        """Configuration that is read again leaves domains alone, also one that takes their VM on."""
        self.define(self.vm())
        for text in (CONFIG.replace('"free0";', '"free0"; mtu = 2000;'),
                     CONFIG.replace("vms = (", 'vms = ( { name = "web"; },'), CONFIG):
            with open(self.d.config, "w") as f:
                f.write(text)
            self.d.call("reload")
            self.assertEqual((self.vms()["web"]["state"], self.vms()["web"]["ports"]),
                             ("attached", ["web0", "web-1"]))
        self.undefine()
        self.gone()

    def test_ended_while_away(self):
        self.define(self.vm())
        self.d.kill()
        self.children[0].kill()
        self.children[0].wait()
        self.d.start()
        self.gone()
        self.assertFalse(os.path.exists(self.file()))

    def put(self, text, uuid=UUID):
        with open(self.file(uuid), "w") as f:
            f.write(text)

    def test_written_by_the_hook(self):
        """It has no start time; the UUID on the command line says that it is its QEMU."""
        self.d.kill()
        pid, other = self.vm("qemu -uuid " + UUID), self.vm()
        self.put(json.dumps({"name": "web", "uuid": UUID, "pid": pid, "ports": [{"name": "w"}]}))
        self.put(json.dumps({"name": "db", "uuid": OTHER, "pid": other, "ports": []}), OTHER)
        self.d.start()
        dt.wait_for(lambda: self.vms()["web"]["state"] == "attached")
        self.assertEqual(self.vms()["web"]["ports"], ["w"])
        self.assertNotIn("db", self.vms())
        self.assertFalse(os.path.exists(self.file(OTHER)))

    def test_bad_files(self):
        self.d.kill()
        for i, text in enumerate(("", "[]", "{}", "{", '{"name": "x", "uuid": "y"}', "\0" * 100,
                                  json.dumps({"name": "web", "uuid": UUID, "ports": [{"x": 1}]}))):
            self.put(text, "bad-%d" % i)
        self.d.start()
        self.assertEqual(sorted(self.ports()), ["free0", "taken"])
        self.assertEqual(self.d.log().count("domains/bad-"), 7)

    def test_no_pid(self):
        """A domain whose process is not known waits for a QEMU of that name."""
        self.assertEqual(self.define()["state"], "waiting")
        dt.wait_for(lambda: self.vms()["web"]["note"] == "its QEMU does not run")
        self.assertEqual(self.d.call("attach", name="web", pid=self.vm())["ports"],
                         ["web0", "web-1"])


dt.main()
