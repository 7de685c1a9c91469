# SPDX-License-Identifier: BSD-3-Clause
"""
VMs come, go, die and are killed, as seen by the daemon: with a test double of libelisa-host, whose
"VMs" are sleeping processes. The daemon's other parts are the real ones.
"""
import errno
import json
import os
import re
import signal
import subprocess
import threading
import time

import daemontest as dt

CONFIG = dt.LOCAL + """
ports = ( { name = "web0"; vm = "web"; }, { name = "db0"; vm = "db"; }, { name = "free0"; },
          { name = "free1"; }, { name = "a"; transport = "local"; }, { name = "b"; transport = "local"; } );
vms = ( { name = "db"; pid_file = "FAKE/db.pid"; } );
"""


class Vm(dt.FakeCase):
    config = CONFIG

    def script(self, pid, **values):
        self.put(str(pid), "".join("%s %d\n" % v for v in values.items()))

    def fake_log(self):
        path = os.path.join(self.fake, "log")
        if not os.path.exists(path):
            return []
        with open(path) as f:
            return f.read().split("\n")

    def vm(self):
        return self.spawn("sleep", "1000").pid

    def attach(self, **params):
        return self.d.call("attach", **params)

    def wait_state(self, name, state, timeout=5):
        dt.wait_for(lambda: self.state(name) == state, timeout)

    def bound(self, port):
        return self.d.call("port.show", name=port)["bound_to"]

    # ---- in and out ----

    def test_attach_detach(self):
        pid = self.vm()
        r = self.attach(pid=pid, name="web")
        self.assertEqual((r["state"], r["vcpus"], r["armed"], r["ports"], r["pid"]),
                         ("attached", 2, 2, ["web0"], pid))
        self.assertEqual(self.bound("web0"), "web")
        stats = self.d.call("stats")["vms"]["web"]
        self.assertEqual(stats["totals"]["exits_trusted"], 6)
        self.assertEqual(stats["vcpus"][1]["inside_by_reason"], {"external-interrupt": 3})
        with self.assertRaisesRegex(dt.Refused, "attached already"):
            self.attach(pid=pid, name="web")
        with self.assertRaisesRegex(dt.Refused, "attached already"):
            self.attach(pid=pid, name="other")
        self.assertEqual(self.d.call("detach", name="web")["state"], "detached")
        self.assertIsNone(self.state("web"))
        self.assertIsNone(self.bound("web0"))
        log = self.fake_log()
        self.assertLess(log.index("disarm %d" % pid), log.index("detach %d" % pid))

    def test_refusals(self):
        pid = self.vm()
        for number, name in ((32, "guest-pcid"), (40, "guest-vpmu"), (38, "guest-la57"),
                             (33, "guest-vmx"), (21, "ram-in-window"), (16, "not-kvm")):
            self.script(pid, refuse=number, detail=1)
            r = self.d.ctl("attach", "--pid", str(pid), "--name", "web", "--json")
            self.assertEqual(r.returncode, 1)
            self.assertTrue(r.stderr.startswith("elisactl: refused: %s: " % name), r.stderr)
            self.assertGreater(len(r.stderr), len("elisactl: refused: : ") + len(name) + 20)
            self.assertEqual(json.loads(r.stdout)["data"]["refusal"], name)
            self.assertIsNone(self.state("web"))
        self.script(pid)
        self.assertEqual(self.attach(pid=pid, name="web")["state"], "attached")

    def test_no_process(self):
        with self.assertRaisesRegex(dt.Refused, "refused: no-process"):
            self.attach(pid=4000000, name="web")

    def test_module_comes_later(self):
        self.d.kill()
        self.put("no-module", "")
        self.d.start()
        pid = self.vm()
        with self.assertRaisesRegex(dt.Refused, "refused: no-module: .*modprobe elisa"):
            self.attach(pid=pid, name="web")
        self.assertFalse(self.d.call("status")["module"]["present"])
        os.unlink(os.path.join(self.fake, "no-module"))
        self.assertEqual(self.attach(pid=pid, name="web")["state"], "attached")
        self.assertTrue(self.d.call("status")["module"]["present"])

    def test_lent_ports(self):
        pid = self.vm()
        r = self.attach(pid=pid, name="web", ports=["free0", "free1"])
        self.assertEqual(r["ports"], ["web0", "free0", "free1"])
        with self.assertRaisesRegex(dt.Refused, 'port "free0" belongs to VM "web"'):
            self.attach(pid=self.vm(), name="other", ports=["free0"])
        self.d.call("detach", name="web")
        self.assertEqual(self.d.call("port.show", name="free0")["vm"], "")
        self.assertEqual(self.attach(pid=self.vm(), name="other", ports=["free0"])["ports"], ["free0"])

    def test_port_added_to_attached(self):
        self.attach(pid=self.vm(), name="web")
        self.assertEqual(self.d.call("port.add", name="web1", vm="web")["bound_to"], "web")
        with self.assertRaisesRegex(dt.Refused, "is used by web: detach it first"):
            self.d.call("port.set", name="web1", vm="")
        self.d.call("port.del", name="web1")
        self.assertEqual(self.d.call("status")["vms"]["web"]["ports"], ["web0"])

    def test_hotplug(self):
        pid = self.vm()
        self.attach(pid=pid, name="web")
        self.script(pid, vcpus=4)
        dt.wait_for(lambda: self.d.call("status")["vms"]["web"]["armed"] == 4)

    # ---- on their own ----

    def test_gone(self):
        pid = self.vm()
        self.attach(pid=pid, name="web")
        os.kill(pid, signal.SIGKILL)
        self.children[-1].wait()
        dt.wait_for(lambda: self.state("web") is None)
        self.assertIn("detach %d" % pid, self.fake_log())
        self.assertIsNone(self.bound("web0"))

    def test_killed(self):
        pid = self.vm()
        self.attach(pid=pid, name="web")
        self.script(pid, kill=1, code=48, gpa=0x1234)
        self.wait_state("web", "killed")
        vm = self.d.call("status")["vms"]["web"]
        self.assertEqual((vm["kill"]["reason"], vm["kill"]["exit"]), ("exit", "ept-violation"))
        self.assertIn("killed: exit (ept-violation)", self.d.log())
        self.assertIn("GPA 0x1234: libfake.so+0x1234, not exported", self.d.log())
        self.assertEqual(self.d.call("status")["kills"], 1)
        time.sleep(0.5)     # it stays out until told otherwise
        self.assertEqual(self.state("web"), "killed")
        self.script(pid)
        self.assertEqual(self.attach(pid=pid, name="web")["state"], "attached")

    def test_killed_then_gone(self):
        pid = self.vm()
        self.attach(pid=pid, name="web")
        self.script(pid, kill=1, code=48)
        self.wait_state("web", "killed")
        os.kill(pid, signal.SIGKILL)
        self.children[-1].wait()
        dt.wait_for(lambda: self.state("web") is None)

    def test_wrong_module(self):
        """None, no permission, another revision: one sentence each, and all else goes on."""
        self.d.kill()
        for number, message in ((errno.ENOENT, r'not loaded \(no /dev/elisa\): run "modprobe elisa"'),
                                (errno.EACCES, "no permission to open /dev/elisa: run the daemon as root"),
                                (errno.EPROTO, 'of another revision: .*"rmmod elisa; modprobe elisa"'),
                                (errno.EMFILE, "/dev/elisa: Too many open files")):
            self.put("no-module", "errno %d\n" % number)
            self.d.start()
            before = self.d.call("port.list")
            self.assertRegex(self.d.call("status")["module"]["note"], message)
            self.assertTrue([f for f in self.d.call("doctor")["findings"] if f["check"] == "module" and f["level"] == "fail"])
            self.assertEqual(len(re.findall(message, self.d.log())), 1)
            with self.assertRaises(dt.Refused):
                self.attach(pid=self.vm(), name="web")
            self.assertEqual(self.d.call("port.list"), before)
            self.d.kill()
            os.unlink(self.d.path("log"))
        os.unlink(os.path.join(self.fake, "no-module"))
        self.d.start()

    def test_touched_comes_back(self):
        pid = self.vm()
        self.attach(pid=pid, name="web")
        self.script(pid, kill=2, code=1)
        dt.wait_for(lambda: "detach %d" % pid in self.fake_log())
        self.script(pid)
        self.wait_state("web", "attached")
        self.assertEqual(self.bound("web0"), "web")

    def test_touched_too_often(self):
        pid = self.vm()
        self.attach(pid=pid, name="web")
        self.script(pid, kill=2, code=1)
        self.wait_state("web", "killed")
        self.assertEqual(self.fake_log().count("attach %d" % pid), 4)

    def test_reset(self):
        pid = self.vm()
        self.attach(pid=pid, name="web")
        for i in range(3):
            self.script(pid, reset=i + 1)
            dt.wait_for(lambda: self.d.log().count("VM web (pid %d): reset" % pid) == i + 1)
        self.assertEqual(self.state("web"), "attached")

    # ---- large ones: their memory comes and goes in steps ----

    def slowly(self, steps=150, step_ms=10, **more):
        pid = self.vm()
        self.script(pid, steps=steps, step_ms=step_ms, **more)
        return pid

    def begin(self, **params):
        """An attach that is under way, as the thread that waits for it; .outcome."""
        def run():
            try:
                t.outcome = self.attach(**params)["state"]
            except (dt.Refused, OSError, ValueError) as e:
                t.outcome = e
        t = threading.Thread(target=run)
        t.outcome = None
        t.start()
        self.addCleanup(t.join)
        dt.wait_for(lambda: self.state(params["name"]) == "attaching" or t.outcome)
        return t

    def served_until(self, over):
        """How long requests took, sorted, from now until over()."""
        took = []
        while not over():
            begin = time.monotonic()
            self.d.call("port.list")
            took.append(time.monotonic() - begin)
        return sorted(took)

    def check_served(self, took):
        # The median: this machine may have more to do than this test.
        self.assertGreater(len(took), 10)
        self.assertLess(took[len(took) // 2], 0.1)

    def test_slow_attach_and_detach(self):
        pid = self.slowly()
        began = time.monotonic()
        t = self.begin(pid=pid, name="web")
        self.assertIn("is being mapped", self.d.call("status")["vms"]["web"]["note"])
        self.check_served(self.served_until(lambda: t.outcome))
        self.assertEqual(t.outcome, "attached")
        self.assertGreater(time.monotonic() - began, 1.5)
        t = threading.Thread(target=self.d.call, args=("detach",), kwargs={"name": "web"})
        t.start()
        self.check_served(self.served_until(lambda: self.state("web") is None))
        t.join()
        self.assertIn("detach %d" % pid, self.fake_log())   # and not "all at once"

    def test_small_beside_large(self):
        large, small = self.slowly(steps=10000), self.vm()
        self.begin(pid=large, name="web")
        self.script(small, steps=5)
        for i in range(2):
            self.assertEqual(self.attach(pid=small, name="other", ports=["free0"])["state"], "attached")
            self.assertEqual(self.d.call("detach", name="other")["state"], "detached")
        self.assertEqual(self.state("web"), "attaching")
        os.kill(large, signal.SIGKILL)

    def test_gone_while_mapped(self):
        pid = self.slowly()
        t = self.begin(pid=pid, name="web")
        os.kill(pid, signal.SIGKILL)
        self.children[-1].wait()
        t.join(5)
        self.assertRegex(str(t.outcome), "its process ended meanwhile")
        self.assertIsNone(self.state("web"))
        self.assertNotIn("mapped %d" % pid, self.fake_log())
        self.assertIn("detach %d" % pid, self.fake_log())
        self.assertEqual(self.attach(pid=self.vm(), name="web")["state"], "attached")

    def test_detached_while_mapped(self):
        pid = self.slowly()
        t = self.begin(pid=pid, name="web")
        self.assertEqual(self.d.call("detach", name="web")["state"], "detached")
        t.join(5)
        self.assertRegex(str(t.outcome), "detached by the administrator")
        self.assertIn("detach %d" % pid, self.fake_log())

    def test_map_fails(self):
        pid = self.slowly(steps=20, step_fails=7)
        with self.assertRaisesRegex(dt.Refused, "its memory cannot be mapped: Cannot allocate"):
            self.attach(pid=pid, name="web")
        self.assertIsNone(self.state("web"))
        self.assertIn("detach %d" % pid, self.fake_log())

    def test_no_memory_for_a_vcpu(self):
        pid = self.vm()
        self.script(pid, vcpus=2, arm_fails=2)
        with self.assertRaisesRegex(dt.Refused, "its vCPUs could not be armed: Cannot allocate"):
            self.attach(pid=pid, name="web")
        self.assertIsNone(self.state("web"))
        self.assertIn("detach %d" % pid, self.fake_log())
        self.script(pid, vcpus=2)
        self.assertEqual(self.attach(pid=pid, name="web")["state"], "attached")

    def test_no_memory_for_a_later_vcpu(self):
        pid = self.vm()
        self.script(pid, vcpus=1)
        self.attach(pid=pid, name="web")
        self.script(pid, vcpus=2, arm_fails=2)
        warning = "vCPU 1 was not armed"
        dt.wait_for(lambda: warning in self.d.log())
        self.assertEqual(self.state("web"), "attached")
        self.script(pid, vcpus=2)
        dt.wait_for(lambda: "arm %d 1" % pid in self.fake_log())
        self.assertEqual(self.d.log().count(warning), 1)

    def test_migration_begins_while_mapped(self):
        pid = self.slowly()
        t = self.begin(pid=pid, name="web")
        self.script(pid, steps=150, step_ms=10, logged=1)
        t.join(5)
        self.assertRegex(str(t.outcome), "dirty-logging")
        self.assertNotIn("mapped %d" % pid, self.fake_log())
        self.assertNotIn("arm %d 0" % pid, self.fake_log())

    def test_stop_while_mapped(self):
        pid = self.slowly(steps=1000)
        t = self.begin(pid=pid, name="web")
        begin = time.monotonic()
        self.d.process.terminate()
        self.assertEqual(self.d.process.wait(), 0)
        self.assertLess(time.monotonic() - begin, 3)
        t.join(5)
        self.assertIsInstance(t.outcome, Exception)
        self.assertIn("away %d" % pid, self.fake_log())
        self.assertNotIn("detach %d" % pid, self.fake_log())
        self.d.start()

    # ---- stopped inside ----

    def test_stopped_inside(self):
        pid, other = self.vm(), self.vm()
        self.attach(pid=pid, name="web")
        self.script(pid, inside=1)
        with self.assertRaisesRegex(dt.Refused, '"web" is still draining: 1 of its vCPUs stopped inside'):
            self.d.call("detach", name="web", wait_ms=200)
        self.assertEqual(self.state("web"), "draining")
        # meanwhile everything else goes on
        self.assertEqual(self.attach(pid=other, name="other", ports=["free0"])["state"], "attached")
        self.assertEqual(self.d.call("detach", name="other")["state"], "detached")
        with self.assertRaisesRegex(dt.Refused, "draining already"):
            self.attach(pid=pid, name="web")
        self.assertNotIn("disarm %d" % pid, self.fake_log())
        self.script(pid)
        dt.wait_for(lambda: self.state("web") is None)
        self.assertIn("disarm %d" % pid, self.fake_log())

    def test_force(self):
        pid = self.vm()
        self.attach(pid=pid, name="web")
        self.script(pid, inside=1)
        r = self.d.ctl("detach", "web", "--wait", "0")
        self.assertEqual(r.returncode, 1)
        self.assertIn("it goes on", r.stderr)
        r = self.d.ctl("detach", "web", "--force")
        self.assertEqual((r.returncode, r.stdout), (0, "web detached\n"), r.stderr)
        self.assertIn("disarm %d now" % pid, self.fake_log())

    def test_waiting_client_leaves(self):
        pid = self.vm()
        self.attach(pid=pid, name="web")
        self.script(pid, inside=1)
        for i in range(5):
            with self.d.rpc() as rpc:
                rpc.send(b'{"jsonrpc":"2.0","id":1,"method":"detach","params":{"name":"web"}}\n')
        self.script(pid)
        dt.wait_for(lambda: self.state("web") is None)

    # ---- configured ones ----

    def test_configured(self):
        self.assertEqual(self.state("db"), "waiting")
        pid = self.vm()
        self.put("db.pid", "%d\n" % pid)
        self.wait_state("db", "attached")
        self.assertEqual(self.bound("db0"), "db")
        self.d.call("detach", name="db")
        self.assertEqual(self.state("db"), "detached")
        time.sleep(1.5)
        self.assertEqual(self.state("db"), "detached")
        self.d.kill()
        self.d.start()
        time.sleep(1.5)
        self.assertEqual(self.state("db"), "detached")
        self.assertEqual(self.attach(name="db")["pid"], pid)
        os.kill(pid, signal.SIGKILL)
        self.children[-1].wait()
        self.wait_state("db", "waiting")
        pid = self.vm()
        self.put("db.pid", "%d\n" % pid)
        self.wait_state("db", "attached")

    def test_configured_refused_then_not(self):
        pid = self.vm()
        self.script(pid, refuse=19)
        self.put("db.pid", "%d\n" % pid)
        dt.wait_for(lambda: self.d.call("status")["vms"]["db"].get("refusal") == "no-vcpu")
        self.script(pid)
        self.wait_state("db", "attached")

    # ---- the daemon's own life ----

    def test_restart(self):
        pid, dead = self.vm(), self.vm()
        self.attach(pid=pid, name="web", ports=["free1"])
        self.attach(pid=dead, name="dead")
        for end in (self.d.kill, lambda: (self.d.process.terminate(), self.d.process.wait())):
            end()
            if dead:
                os.kill(dead, signal.SIGKILL)
                self.children[-1].wait()
                dead = None
            self.d.start()
            begin = time.monotonic()
            self.wait_state("web", "attached")
            self.assertLess(time.monotonic() - begin, 1)
            self.assertEqual(self.d.call("status")["vms"]["web"]["ports"], ["web0", "free1"])
            self.assertIsNone(self.state("dead"))
        self.assertIn("away %d" % pid, self.fake_log())      # SIGTERM: away, not detached
        self.assertNotIn("detach %d" % pid, self.fake_log())

    def test_pid_reused(self):
        """The same pid with another start time is another process."""
        pid = self.vm()
        self.attach(pid=pid, name="web")
        self.d.kill()
        path = self.d.path("state.json")
        with open(path) as f:
            state = json.load(f)
        state["vms"][0]["pid_start"] += 1
        with open(path, "w") as f:
            json.dump(state, f)
        self.d.start()
        time.sleep(0.5)
        self.assertIsNone(self.state("web"))

    def usage(self):
        pid = self.d.process.pid
        with open("/proc/%d/maps" % pid) as f:
            shared = len(re.findall(r"memfd:", f.read()))
        return len(os.listdir("/proc/%d/fd" % pid)), shared

    def test_nothing_leaks(self):
        pid = self.vm()
        self.attach(pid=pid, name="web", ports=["free0"])
        self.d.call("detach", name="web")
        before = self.usage()
        for i in range(50):
            self.attach(pid=pid, name="web", ports=["free0"])
            self.d.call("detach", name="web")
        # `before` may still hold the descriptor of the request before
        dt.wait_for(lambda: all(now <= then for now, then in zip(self.usage(), before)))
        log = self.fake_log()
        self.assertEqual(log.count("attach %d" % pid), 51)
        self.assertEqual(log.count("detach %d" % pid), 51)

    # ---- with local clients ----

    def test_among_local_clients(self):
        """50 attaches and detaches of a VM between two local clients that go on unharmed."""
        pid = self.vm()
        mac = self.d.call("port.show", name="b")["mac"]
        rx = self.spawn(dt.GEN, "-t", self.d.spec("b"), "--rx", "-n", "200000", "-T", "20",
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        dt.wait_for(lambda: self.d.call("port.show", name="b")["link"])
        tx = self.spawn(dt.GEN, "-t", self.d.spec("a"), "--tx", "-n", "200000", "--dst", mac,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        looked = 0
        for i in range(50):
            self.attach(pid=pid, name="web")
            try:
                with open("/proc/%d/maps" % rx.pid) as f:
                    mapped = f.read().count("memfd:fake-ram")
            except OSError:
                mapped = 0
            if rx.poll() is None:  # on a slow machine it may have all its frames before the end
                self.assertEqual(mapped, 2)
                looked += 1
            self.d.call("detach", name="web")
        self.assertGreater(looked, 5)
        out, err = tx.communicate(timeout=90)
        self.assertEqual(tx.returncode, 0, out + err)
        report = json.loads(rx.communicate(timeout=90)[0])
        # A receiver that got no CPU for long runs out of buffers; nothing else may go wrong.
        drops = self.d.call("stats", port="b")["ports"]["b"]["drops"]
        self.assertEqual(report["missing"], drops.pop("rx-no-buffer", 0), report)
        self.assertEqual((drops, report["duplicates"], report["corrupt"], report["resets"]),
                         ({}, 0, 0, 0))

    def test_local_ram_is_exported(self):
        subprocess.run([dt.INFO, "-t", self.d.spec("a")], stdout=subprocess.DEVNULL, check=True)
        dt.wait_for(lambda: self.d.call("status")["local"]["clients"] == 0)
        log = self.fake_log()
        exports = [l.split()[1] for l in log if l.startswith("export ")]
        unexports = [l.split()[1] for l in log if l.startswith("unexport ")]
        self.assertEqual(len(exports), 2)        # the arena and the client's RAM
        self.assertEqual(unexports, exports[1:])


dt.main()
