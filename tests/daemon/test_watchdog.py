# SPDX-License-Identifier: BSD-3-Clause
"""WATCHDOG=1 is said when frames pass and NICs' threads run, and is not when either fails."""
import os
import signal
import socket
import subprocess
import threading
import time

import daemontest as dt

EVERY = 0.2     # seconds; the manager's time is three times that


class WatchdogCase(dt.DaemonCase):
    program = dt.FAKE
    watchdog = True

    def setUp(self):
        dt.fake_host(self)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        path = self.env["NOTIFY_SOCKET"] = os.path.join(self.fake, "notify")
        self.manager.bind(path)
        self.lines = []
        listener = threading.Thread(target=self.listen)
        listener.start()
        self.addCleanup(listener.join)
        self.addCleanup(lambda: self.manager.sendto(b"end", path))
        if self.watchdog:
            self.env["WATCHDOG_USEC"] = str(round(3 * EVERY * 1e6))
        super().setUp()

    def fault(self, text):
        """What the double does to the daemon; see fake-host.c."""
        dt.fake_put(self, "0", text + "\n")

    def listen(self):
        """All the time, as the manager does: who tells it waits while it has too much to read."""
        while True:
            text = self.manager.recv(65536).decode()
            if text == "end":
                return
            self.lines += text.split("\n")

    def said(self, seconds=0):
        """What the manager was told since last asked, and within so many seconds."""
        time.sleep(seconds)
        lines, self.lines = self.lines, []
        return lines

    def pings(self, seconds):
        return self.said(seconds).count("WATCHDOG=1")

    def status(self):
        return self.d.call("status")["watchdog"]

    def failing(self):
        dt.wait_for(lambda: not self.status()["ok"], 10)
        self.said()


class Watchdog(WatchdogCase):
    config = dt.LOCAL + """
switch = { max_ports = 3; };
ports = ( { name = "a"; transport = "local"; }, { name = "b"; transport = "local"; } );
"""

    def test_pings(self):
        lines = self.said(10 * EVERY)
        self.assertIn("READY=1", lines)
        self.assertGreater(lines.count("WATCHDOG=1"), 4)
        st = self.status()
        self.assertEqual((st["ok"], st["frames"], st["notifies"], st["failed"], st["every_ms"]),
                         (True, True, True, 0, int(EVERY * 1000)))
        self.assertGreater(st["checks"], 4)

    def test_lost(self):
        dt.wait_for(lambda: self.status()["checks"])
        self.fault("watchdog 1")
        self.failing()
        self.assertEqual(self.pings(10 * EVERY), 0)
        said = "the switch's own test failed: a frame of its own did not arrive; unless it passes"
        self.assertEqual(self.d.log().count(said), 1)        # and not each time
        self.assertEqual(self.status()["note"], "a frame of its own did not arrive")
        self.fault("")
        dt.wait_for(lambda: self.status()["ok"], 10)
        self.assertGreater(self.pings(5 * EVERY), 1)
        self.assertEqual(self.d.log().count("the switch's own test passes again"), 1)

    def test_refused(self):
        self.fault("watchdog 2")
        self.failing()
        self.fault("")
        self.assertEqual(self.pings(5 * EVERY), 0)
        self.assertIn("the switch refused to send: Stale file handle", self.d.log())

    def test_loop_stands_still(self):
        self.said()
        self.d.process.send_signal(signal.SIGSTOP)
        self.said()
        self.assertEqual(self.pings(5 * EVERY), 0)
        self.d.process.send_signal(signal.SIGCONT)
        self.assertGreater(self.pings(5 * EVERY), 1)

    def test_hidden(self):
        """Its ports, addresses and frames are nobody else's, and take nobody's room."""
        dt.wait_for(lambda: self.status()["checks"] > 1)
        self.assertEqual(sorted(self.d.call("port.list")["ports"]), ["a", "b"])
        stats = self.d.call("stats")
        self.assertEqual(sorted(stats["ports"]), ["a", "b"])
        self.assertEqual(stats["vms"], {})
        self.assertEqual((stats["fdb"]["used"], stats["fdb"]["static"], stats["fdb"]["learned"]),
                         (0, 0, 0))
        self.assertEqual(self.d.call("fdb.list")["entries"], [])
        self.assertEqual(self.d.call("fdb.list")["used"], 0)
        self.d.call("port.add", name="c")

    def test_floods_stay_out(self):
        """Floods from all sides change nothing for it, nor it for others."""
        rx = self.spawn(dt.GEN, "-t", self.d.spec("b"), "--rx", "-n", "50000", "-T", "30",
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        dt.wait_for(lambda: self.d.call("port.show", name="b")["link"])
        tx = self.spawn(dt.GEN, "-t", self.d.spec("a"), "--tx", "-n", "50000", "--dst",
                        "ff:ff:ff:ff:ff:ff", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = tx.communicate(timeout=60)
        self.assertEqual(tx.returncode, 0, out + err)
        rx.communicate(timeout=60)
        checks = self.status()["checks"]
        dt.wait_for(lambda: self.status()["checks"] > checks + 1)
        self.assertEqual(self.status()["failed"], 0, self.d.log())
        b = self.d.call("stats", port="b")["ports"]["b"]
        a = self.d.call("stats", port="a")["ports"]["a"]
        # One copy for each frame: for b.
        self.assertEqual(a["tx_broadcast"], 50000 - b["drops"].get("rx-no-buffer", 0))
        self.assertEqual(a["drops"], {})


class NoManager(WatchdogCase):
    watchdog = False

    def test_tests_all_the_same(self):
        dt.wait_for(lambda: self.status()["checks"])
        st = self.status()
        self.assertEqual((st["ok"], st["notifies"], st["every_ms"]), (True, False, 10000))
        self.assertNotIn("WATCHDOG=1", self.said(0.2))


class NoRoom(WatchdogCase):
    """All ports that there can be are configured: then only the rest is watched."""
    config = dt.LOCAL + "switch = { max_ports = 1024; };\nports = (" + ", ".join(
        '{ name = "p%d"; }' % i for i in range(1023)) + ");\n"

    def test_pings(self):
        self.assertGreater(self.said(10 * EVERY).count("WATCHDOG=1"), 4)
        self.assertEqual((self.status()["ok"], self.status()["frames"]), (True, False))
        self.assertIn("does not test whether frames pass", self.d.log())
        self.d.call("port.add", name="last")


class Nic(WatchdogCase):
    """A NIC's thread that does not come back."""
    config = dt.NULL_NIC

    def setUp(self):
        dt.need_nic(self)
        super().setUp()

    def test_late(self):
        dt.wait_for(lambda: self.d.call("status")["nics"]["null0"]["state"] == "up", 20)
        self.assertGreater(self.pings(5 * EVERY), 1)
        self.fault("stuck 1")
        self.failing()
        self.assertEqual(self.pings(5 * EVERY), 0)
        self.assertIn("NIC null0: its thread does not come back from the driver", self.d.log())
        self.fault("")
        dt.wait_for(lambda: self.status()["ok"], 10)
        self.assertGreater(self.pings(5 * EVERY), 1)


del WatchdogCase    # it has no tests of its own
dt.main()
