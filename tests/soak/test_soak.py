# SPDX-License-Identifier: BSD-3-Clause
"""
Ten million frames while everything about the switch changes all the time.

The daemon's memory, descriptors and threads are looked at after each round of changes, when all that
came has gone again; every frame is accounted for at the end. The "VMs" are those of the fake host.
"""
import json
import os
import random
import select
import subprocess
import sys
import time
import unittest

import daemontest as dt

FRAMES = int(os.environ.get("SOAK_FRAMES", "10000000"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "30"))
WARM = 0.25             # part of the rounds that may fill caches
# Resident bytes that may be more at the end than after warming up, by a straight line through all
# points; malloc's own noise is a third of that at most. A round is some 65 changes and half a minute 100
# to 400 rounds: a few hundred bytes lost by one kind of change once a round would show.
GROWTH_MAX = 128 << 10

CONFIG = dt.LOCAL + """
switch = { fdb_capacity = 1024; };
ports = (
  { name = "a"; vm = "soak"; transport = "local"; anti_spoof = false; },
  { name = "b"; vm = "soak"; transport = "local"; anti_spoof = false; },
  { name = "c"; vm = "soak"; transport = "local"; groups = [0, 1]; },
  { name = "k"; vm = "soak"; transport = "local"; },
  { name = "m"; vm = "soak"; transport = "local"; },
  { name = "guest"; vm = "guest"; });
"""


class Usage:
    """What a process uses, point by point."""

    def __init__(self, pid):
        self.pid = pid
        self.points = []

    def look(self):
        with open("/proc/%d/status" % self.pid) as f:
            status = dict(line.split(":", 1) for line in f)
        self.points.append((int(status["VmRSS"].split()[0]) << 10,
                            len(os.listdir("/proc/%d/fd" % self.pid)), int(status["Threads"])))

    def findings(self):
        """What grew, in words; nothing is good."""
        points = self.points[int(len(self.points) * WARM):]
        assert len(points) >= 12, "too few points: %d" % len(points)
        found = []
        slope, n = line([p[0] for p in points]), len(points)
        if slope * n > GROWTH_MAX:
            found.append("%d bytes of memory a round" % slope)
        # The least of each: a connection just closed may still be counted, one that is lost stays.
        for what, i in (("descriptors", 1), ("threads", 2)):
            counts = [p[i] for p in points]
            if min(counts[-n // 4:]) > min(counts[:n // 4]):
                found.append("%s: %s" % (what, counts))
        return found

    def text(self):
        first, last = self.points[0], self.points[-1]
        return "%d points, VmRSS %d to %d KiB (%d bytes a round after warming up), descriptors %d " \
               "to %d, threads %d to %d" % (
                   len(self.points), first[0] >> 10, last[0] >> 10,
                   line([p[0] for p in self.points[int(len(self.points) * WARM):]]), first[1],
                   last[1], first[2], last[2])


def line(values):
    """Slope of the straight line through them, least squares."""
    n = len(values)
    x, y = (n - 1) / 2, sum(values) / n
    return sum((i - x) * (v - y) for i, v in enumerate(values)) / sum((i - x) ** 2 for i in range(n))


class Measure(unittest.TestCase):
    """The measure finds what it is to find."""
    LEAKY = """
import os, sys, threading
kept, fds = [], []
for line in sys.stdin:
    if "memory" in sys.argv: kept.append(bytearray(6000))    # much less than a page at each change
    if "descriptor" in sys.argv and len(kept) % 5 == 0: fds.append(os.open("/", os.O_RDONLY))
    if "thread" in sys.argv: threading.Thread(target=threading.Event().wait, daemon=True).start()
    kept.append(None)
    print("done", flush=True)
"""

    def findings(self, *leaks):
        child = subprocess.Popen([sys.executable, "-c", self.LEAKY] + list(leaks), text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        usage = Usage(child.pid)
        for i in range(60):
            child.stdin.write("go\n")
            child.stdin.flush()
            child.stdout.readline()
            usage.look()
        child.kill()
        child.communicate()
        return usage.findings()

    def test_measure(self):
        self.assertEqual(self.findings(), [])
        for leak in ("memory", "descriptor", "thread"):
            self.assertRegex(str(self.findings(leak)), leak)


class Soak(dt.DaemonCase):
    program = os.environ["VSWITCHD_SOAK"]
    config = CONFIG

    def setUp(self):
        dt.fake_host(self)
        super().setUp()
        self.random = random.Random(5)
        self.rpc = self.d.rpc()
        self.addCleanup(self.rpc.close)
        self.changes = 0

    def call(self, method, **params):
        self.changes += 1
        return self.rpc.call(method, **params)

    def counters(self, port):
        return self.rpc.call("stats", port=port)["ports"][port]

    # ---- what changes; each leaves all as it was, but for its numbers ----

    def ports_come_and_go(self):
        for i in range(3):
            self.call("port.add", name="t%d" % i, transport="local" if i else "vm")
        for i in range(3):
            self.call("port.set", name="t%d" % i, mtu=1000 + self.random.randrange(8000))
            self.call("port.del", name="t%d" % i)

        def gone():
            return not any("t%d" % i in self.rpc.call("port.list")["ports"] for i in range(3))
        dt.wait_for(gone)

    def ports_change(self):
        for name in "ab":
            self.call("port.set", name=name, up=False)
            self.call("port.set", name=name, up=True, groups=[0, self.random.randrange(2, 64)])
            self.call("port.set", name=name, groups=[self.random.randrange(2, 64)])
            self.call("port.set", name=name, groups=[0], mtu=1400)
            self.call("port.set", name=name, mtu=1500, anti_spoof=bool(self.random.randrange(2)))

    def vlans(self):
        access = {"mode": "access", "pvid": 10}
        trunk = {"mode": "trunk", "pvid": self.random.randrange(10, 12), "allowed": "10,20-4000"}
        for name, vlan in self.random.sample([("a", access), ("b", trunk)], 2):
            self.call("port.set", name=name, vlan=vlan)
        for name in "ab":
            self.call("port.set", name=name, vlan={"mode": "none"})

    def limits(self):
        for name in "ab":
            self.call("port.set", name=name, rate={
                "tx_frames": self.random.randrange(1000, 200000)},
                storm={"broadcast": 10, "unknown": 10}, no_flood=["multicast"],
                mac_limit={"addresses": 5, "drop": True})
        # Of the others' drops nobody could say who had sent the frames.
        self.call("port.set", name="k", rate={"rx_frames": self.random.randrange(10, 100)})
        time.sleep(0.02)
        self.call("port.set", name="k", rate={"rx_frames": 0})
        for name in "ab":
            self.call("port.set", name=name, rate={"tx_frames": 0},
                      storm={"broadcast": 0, "unknown": 0}, no_flood=[], mac_limit={"addresses": 0})

    def mirrors(self):
        for name in "ab":
            self.call("mirror.add", port=name, to="m", what=["tx", "rx"],
                      snap=self.random.choice([14, 64, 9000]))
        self.call("mirror.list")
        for name in "ab":
            self.call("mirror.del", port=name, to="m")

    def configuration(self):
        """Other ports, other values, mistakes; then as it was."""
        other = CONFIG.replace('"guest"; }', '"guest"; mtu = %d; }, { name = "new"; }' %
                               self.random.randrange(100, 9000))
        for text, bad in (other, False), (other + "nonsense", True), (CONFIG, False):
            with open(self.d.config, "w") as f:
                f.write(text)
            if bad:
                with self.assertRaises(dt.Refused):
                    self.call("reload")
            else:
                self.call("reload")
        dt.wait_for(lambda: "new" not in self.rpc.call("port.list")["ports"])

    def captures(self):
        path = self.d.path("captured")
        done = self.d.ctl("capture", "a,k", "-w", path, "--count", "20", "--drops",
                          "--seconds", "1")     # at the end nothing comes
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(os.path.getsize(path), 27)     # a section header
        os.unlink(path)
        self.changes += 1

    def addresses(self):
        macs = ["02:00:00:00:%02x:%02x" % (self.random.randrange(256), i) for i in range(8)]
        for mac in macs:
            self.call("fdb.add", mac=mac, port=self.random.choice("abc"))
        self.call("fdb.flush")
        for mac in macs:
            self.call("fdb.del", mac=mac)

    def clients(self):
        # Heard by c only: what it leaves half done must not stop the others, nor count with them.
        self.call("port.add", name="guest-of-a-moment", transport="local", groups=[1])
        spec = self.d.spec("guest-of-a-moment")
        subprocess.run([dt.INFO, "-t", spec], stdout=subprocess.DEVNULL, check=True)
        subprocess.run([dt.GEN, "-t", spec, "--tx", "-n", "50"], stdout=subprocess.DEVNULL, check=True)
        child = subprocess.Popen([dt.GEN, "-t", spec, "--rx", "-n", "1000000"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        dt.wait_for(lambda: self.rpc.call("port.show", name="guest-of-a-moment")["link"])
        child.kill()
        child.wait()
        self.call("port.del", name="guest-of-a-moment")
        dt.wait_for(lambda: "guest-of-a-moment" not in self.rpc.call("port.list")["ports"])
        dt.wait_for(lambda: self.rpc.call("status")["local"]["clients"] == 1)

    def vms(self):
        child = subprocess.Popen(["sleep", "1000"])
        try:
            self.call("attach", pid=child.pid, name="guest")
            if self.random.randrange(2):
                self.call("detach", name="guest")
        finally:
            child.kill()
            child.wait()
        dt.wait_for(lambda: "guest" not in self.rpc.call("status")["vms"])
        path = os.path.join(self.fake, "log")
        if os.path.exists(path):
            os.truncate(path, 0)

    def questions(self):
        for method in ("status", "port.list", "fdb.list", "stats", "doctor", "metrics"):
            self.call(method)
        for i in range(3):
            with self.d.rpc() as other:
                with self.assertRaises(dt.Refused):
                    other.call("port.add", name="a")
                other.send(b'{"jsonrpc": "2.0", "method"')   # and gone

    def round(self):
        for change in self.random.sample(self.CHANGES, len(self.CHANGES)):
            change(self)

    CHANGES = [ports_come_and_go, ports_change, vlans, limits, mirrors, configuration, captures,
               addresses, clients, vms, questions]

    # ---- the test ----

    def account(self, report):
        """Each frame is with its receiver, or in a counter that says why not."""
        stats = {name: self.counters(name) for name in "abckm"}

        def drops(name, way):
            return sum(n for why, n in stats[name]["drops"].items() if why.startswith(way))
        for name, other in ("ab", "ba"):
            arrived = report[other]["received"]
            self.assertGreater(arrived, 0)
            self.assertEqual(report[name]["sent"],
                             arrived + drops(name, "tx-") + drops(other, "rx-"), (report, stats))
            self.assertEqual(stats[name]["tx_frames"], arrived, (report, stats))
        # What c sends is all that k hears.
        self.assertEqual(report["c"]["casts"], report["k"]["casts_received"] + drops("k", "rx-"),
                         (report, stats))
        for name in "abckm":
            self.assertEqual(report[name]["refused"], 0)
            self.assertEqual(stats[name]["rx_frames"], report[name]["frames"], (report, stats))
        return {why: sum(stats[name]["drops"].get(why, 0) for name in "abckm")
                for name in "abckm" for why in stats[name]["drops"]}

    def test_soak(self):
        macs = {name: self.rpc.call("port.show", name=name)["mac"] for name in "ab"}
        for name, mac in macs.items():
            self.call("fdb.add", mac=mac, port=name)
        client = self.spawn(os.environ["SOAK_CLIENT"], self.d.spec("soak"), str(FRAMES), str(SECONDS),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(client.stdout.readline(), "ready\n")
        usage = Usage(self.d.process.pid)
        begin = time.monotonic()
        ended = False
        while not ended:
            ended = bool(select.select([client.stdout], [], [], 0)[0])    # waits until we have asked
            if not ended:
                self.round()
                usage.look()
        took = time.monotonic() - begin
        self.assertEqual(client.stdout.readline(), "finished\n")
        client.stdin.close()
        report = json.loads(client.stdout.readline())
        print("%d frames in %.0f s, %d changes; %s" % (
            sum(p["sent"] + p["casts"] for p in report.values()), took, self.changes, usage.text()))
        print("dropped, all accounted for:", self.account(report))
        self.assertEqual(usage.findings(), [])


dt.main()
