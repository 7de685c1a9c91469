# SPDX-License-Identifier: BSD-3-Clause
"""Local clients exchange frames through the daemon; they come, go and die as they like."""
import json
import os
import re
import signal
import subprocess
import time

import daemontest as dt


class Local(dt.DaemonCase):
    def gen(self, name, *args):
        return self.spawn(dt.GEN, "-t", self.d.spec(name), *args, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)

    def link(self, name):
        return self.d.call("port.show", name=name)["link"]

    def receiver(self, name, count, timeout=20):
        rx = self.gen(name, "--rx", "-n", str(count), "-T", str(timeout), "--rx-size", "8192")
        dt.wait_for(lambda: self.link(name))
        return rx

    def mac(self, name):
        return self.d.call("port.show", name=name)["mac"]

    def finish(self, child, code=0):
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, code, out + err)
        return out

    def counters(self, name):
        return self.d.call("stats", port=name)["ports"][name]

    def exchange(self, count=20000, size=64):
        before = self.counters("b")
        rx = self.receiver("b", count, 5)
        tx = self.gen("a", "--tx", "-n", str(count), "-s", str(size), "--dst", self.mac("b"))
        self.finish(tx)
        report = json.loads(rx.communicate(timeout=60)[0])
        after = self.counters("b")
        # A receiver that got no CPU for long runs out of buffers; nothing else may go wrong.
        lost = after["drops"].get("rx-no-buffer", 0) - before["drops"].get("rx-no-buffer", 0)
        self.assertLess(lost, count / 2)
        self.assertEqual((report["frames"], report["missing"], report["duplicates"],
                          report["corrupt"], report["resets"]), (count - lost, lost, 0, 0, 0))
        self.assertEqual(after["rx_frames"] - before["rx_frames"], count - lost)

    def test_frames(self):
        self.exchange()
        self.exchange(2000, 1514)
        entries = {e["mac"]: e for e in self.d.call("fdb.list")["entries"]}
        self.assertEqual(entries[self.mac("a")]["port"], "a")
        self.assertEqual(self.d.call("fdb.flush")["flushed"], 1)
        self.assertEqual(self.d.call("fdb.list")["entries"], [])

    def test_spoofing(self):
        before = self.counters("a")["drops"].get("tx-spoofed-source", 0)
        tx = self.gen("a", "--tx", "-n", "64", "--src", "02:00:00:00:99:99", "--dst", self.mac("b"))
        tx.communicate(timeout=60)
        self.assertEqual(self.counters("a")["drops"]["tx-spoofed-source"] - before, 64)

    def test_which_port(self):
        for name, message in (("web0", 'port "web0" is for a VM'),
                              ("nix", 'there is no port for local client "nix"')):
            r = subprocess.run([dt.INFO, "-t", self.d.spec(name)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, timeout=30)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn(message, r.stdout + r.stderr)
        rx = self.receiver("b", 1)
        r = subprocess.run([dt.INFO, "-t", self.d.spec("b")], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=30)
        self.assertIn('port "b" is used by process %d' % rx.pid, r.stdout + r.stderr)

    def test_shown_as_not_isolated(self):
        self.receiver("b", 1)
        status = self.d.call("status")
        self.assertEqual(status["vms"]["b"]["transport"], "local (no isolation)")
        self.assertEqual(status["local"]["clients"], 1)
        for command in (["status"], ["port", "list"], ["stats"], ["port", "show", "b"]):
            self.assertIn("no isolation", self.d.ctl(*command).stdout)

    def test_dies_in_traffic(self):
        """kill -9 of a sender at any moment: the receiver stays whole, the port is free again."""
        for i in range(10):
            rx = self.receiver("b", 100000000, 60)
            tx = self.gen("a", "--tx", "-n", "100000000", "--dst", self.mac("b"))
            dt.wait_for(lambda: self.counters("b")["rx_frames"] > 0)
            time.sleep(0.02 + i * 0.003)
            tx.send_signal(signal.SIGKILL)
            tx.communicate()
            dt.wait_for(lambda: "a" not in self.d.call("status")["vms"])
            rx.send_signal(signal.SIGTERM if i % 2 else signal.SIGKILL)
            rx.communicate(timeout=30)
            dt.wait_for(lambda: self.d.call("status")["local"]["clients"] == 0)
        self.exchange()

    def test_stopped_inside(self):
        """A stopped client may hold a port's removal up, and nothing else; then it is named."""
        rx = self.receiver("b", 100000000, 60)
        tx = self.gen("a", "--tx", "-n", "100000000", "--dst", self.mac("b"))
        dt.wait_for(lambda: self.counters("b")["rx_frames"] > 0)
        self.d.call("port.add", name="c", transport="local")
        tx.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        state = self.d.call("port.del", name="c")["state"]
        self.assertIn(state, ("deleted", "deleting"))
        self.assertTrue(self.d.answers())
        self.assertLess(time.monotonic() - begin, 2)
        tx.send_signal(signal.SIGCONT)
        dt.wait_for(lambda: "c" not in self.d.call("port.list")["ports"])
        tx.kill()
        rx.kill()

    def test_daemon_restart(self):
        """A client outlives kill -9 of the daemon and is served by the next one within 2 s."""
        rx = self.receiver("b", 1000, 30)
        self.d.kill()
        self.d.start()
        begin = time.monotonic()
        dt.wait_for(lambda: self.link("b"), 5)
        self.assertLess(time.monotonic() - begin, 2)
        self.finish(self.gen("a", "--tx", "-n", "1000", "--dst", self.mac("b")))
        report = json.loads(self.finish(rx))
        self.assertEqual((report["frames"], report["missing"]), (1000, 0))

    def test_nothing_leaks(self):
        def usage():
            pid = self.d.process.pid
            with open("/proc/%d/maps" % pid) as f:
                ram = len(re.findall(r"^31[0-9a-f]{10}-", f.read(), re.M))
            return len(os.listdir("/proc/%d/fd" % pid)), ram
        subprocess.run([dt.INFO, "-t", self.d.spec("a")], stdout=subprocess.DEVNULL)
        dt.wait_for(lambda: self.d.call("status")["local"]["clients"] == 0)
        before = usage()
        for i in range(50):
            subprocess.run([dt.INFO, "-t", self.d.spec("a")], stdout=subprocess.DEVNULL, check=True)
        dt.wait_for(lambda: self.d.call("status")["local"]["clients"] == 0)
        dt.wait_for(lambda: all(now <= then for now, then in zip(usage(), before)))
        self.assertEqual(before[1], 0)

    def test_detach(self):
        rx = self.receiver("b", 100)
        self.d.call("port.set", name="b", mtu=1400)
        r = self.d.ctl("detach", "b")
        self.assertEqual((r.returncode, r.stdout), (0, "b detached\n"), r.stderr)
        rx.kill()


class LocalPlain(Local):
    """The same, with the daemon as it is installed."""
    program = dt.VSWITCHD


class LocalOff(dt.DaemonCase):
    config = 'ports = ( { name = "v"; } );'

    def test_off(self):
        self.assertFalse(os.path.exists(self.d.path("local.sock")))
        self.assertFalse(self.d.call("status")["local"]["enabled"])
        with self.assertRaisesRegex(dt.Refused, "local.enable is false"):
            self.d.call("port.add", name="q", transport="local")


dt.main()
