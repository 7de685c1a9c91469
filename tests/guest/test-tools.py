#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The guest's programs against libvswitch over the local transport (no isolation).

Usage: test-tools.py SWITCHD ELISA_TAP ELISA_GEN ELISA_INFO TOY_BELL [TestClass...]
"""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SWITCHD, TAP, GEN, INFO, BELL = sys.argv[1:6]


def eventually(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


class WithSwitch(unittest.TestCase):
    mtu = 1500

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="elisa-tools-")
        self.socket = self.dir.name + "/s"
        self.running = []
        self.start_switch()

    def tearDown(self):
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()
        self.dir.cleanup()

    def start_switch(self):
        self.switch = subprocess.Popen([SWITCHD, self.socket, str(self.mtu)],
                                       stdout=subprocess.PIPE, text=True)
        self.running.append(self.switch)
        self.assertEqual(self.switch.stdout.readline(), "ready\n")

    def stop_switch(self, sig=signal.SIGTERM):
        self.switch.send_signal(sig)
        self.switch.wait(10)

    def spec(self, name):
        return f"local:{self.socket},name={name},ram=64M"

    def spawn(self, *command, prefix=()):
        process = subprocess.Popen([*prefix, *command], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.running.append(process)
        return process

    def run_ok(self, *command, status=0):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout



class Info(WithSwitch):
    def test_attached(self):
        info = json.loads(self.run_ok(INFO, "--json", "-t", self.spec("one")))
        self.assertTrue(info["attached"])
        self.assertEqual(info["transport"], "local (no isolation)")
        self.assertEqual(info["ports"][0]["name"], "one")
        self.assertEqual(info["ports"][0]["mac"], "02:00:00:00:00:01")
        self.assertIn("no isolation", self.run_ok(INFO, "-t", self.spec("one")))

    def test_not_attached(self):
        self.stop_switch()
        info = json.loads(self.run_ok(INFO, "--json", "-t", self.spec("one"), status=1))
        self.assertFalse(info["attached"])

    def test_mac_info(self):
        info = json.loads(self.run_ok(GEN, "--mac-info", "-t", self.spec("one")))
        self.assertEqual(info["mac"], "02:00:00:00:00:01")
        self.assertTrue(info["link"])


class Gen(WithSwitch):
    mtu = 9000

    def receiver(self, count, *options):
        process = self.spawn(GEN, "--rx", "-t", self.spec("rx"), "--count", str(count),
                             "--timeout", "15", *options)
        # It has to be there before anything is sent: ask for its port through the FDB-less way,
        # that is, wait until a broadcast is forwarded to it.
        def hears():
            run = json.loads(subprocess.run(
                [GEN, "--tx", "-t", self.spec("probe"), "-n", "1", "-b", "1", "--seq",
                 "4000000000"], capture_output=True, text=True).stdout)["runs"][0]
            return run["forwarded"] == 1
        self.assertTrue(eventually(hears))
        return process

    def finish(self, process):
        out, err = process.communicate(timeout=30)
        return json.loads(out), process.returncode, err

    def send(self, *options, status=0):
        out = self.run_ok(GEN, "--tx", "-t", self.spec("tx"), "--pause", "500", *options,
                          status=status)
        return json.loads(out)["runs"]

    def test_every_frame_arrives(self):
        # As many buffers as frames: a receiver that gets no CPU for a while loses nothing.
        rx = self.receiver(10000, "--rx-size", "16384")
        runs = self.send("--sizes", "64,1518", "--bursts", "1,4,8,32,128", "--count", "1000",
                         "--window", "128")
        result, status, err = self.finish(rx)
        self.assertEqual(len(runs), 10)
        for run in runs:
            self.assertEqual(run["taken"], 1000)
            self.assertEqual(run["forwarded"], 1000)
            self.assertGreaterEqual(run["bursts_timed"], 1000 // run["burst"] // 2)
            self.assertGreater(run["tsc_per_packet"]["median"], 0)
        self.assertEqual(status, 0, f"{result} {err}")
        self.assertEqual(result["frames"], 10000 + result["unexpected"])
        self.assertEqual(result["missing"], 0)
        self.assertEqual(result["corrupt"], 0)
        self.assertEqual(result["duplicates"], 0)

    def test_chained_both_ways(self):
        rx = self.receiver(1200, "--rx-buffer", "1024", "--rx-size", "8192")
        self.send("--sizes", "64,1519,9014", "--bursts", "1,8", "--count", "200", "--segs", "5",
                  "--window", "16")
        result, status, err = self.finish(rx)
        self.assertEqual(status, 0, f"{result} {err}")
        self.assertEqual(result["missing"], 0)

    def test_missing_is_noticed(self):
        rx = self.receiver(100, "--timeout", "2")
        self.send("--count", "99", "--burst", "3")
        result, status, _ = self.finish(rx)
        self.assertEqual(status, 1)
        self.assertEqual(result["missing"], 1)

    def test_nop(self):
        result = json.loads(self.run_ok(GEN, "--nop", "1000", "-t", self.spec("one")))
        self.assertEqual(result["failed"], 0)
        # A single call may hide behind the reading of the counter, a row of them cannot.
        self.assertGreater(result["tsc_per_call_loop"], 1)
        gated = json.loads(self.run_ok(GEN, "--nop", "1000", "-t", self.spec("two") + ",gate=5000"))
        self.assertIn("simulated by a spin of 5000 ns", gated["transport"])
        self.assertGreater(gated["tsc_per_call"]["median"], result["tsc_per_call"]["median"] + 2500)

    def test_spoofed_is_dropped(self):
        rx = self.receiver(10, "--timeout", "2")
        runs = self.send("--count", "10", "--src", "02:00:00:00:00:77")
        result, status, _ = self.finish(rx)
        self.assertEqual(runs[0]["forwarded"], 0)
        self.assertEqual(status, 1)
        self.assertEqual(result["missing"], 10)

    def test_too_long_is_refused(self):
        done = subprocess.run([GEN, "--tx", "-t", self.spec("tx"), "-s", "9015"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("MTU of 9000", done.stderr)

    def test_bad_options(self):
        for options in (["--tx", "-b", "257"], ["--tx", "-s", "3"], ["--tx", "--dst", "x"], [],
                        ["--tx", "-b", "128", "--segs", "8"], ["--rx", "-n", "0"]):
            done = subprocess.run([GEN, *options], capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0, options)
            self.assertIn("elisa-gen --help", done.stderr)


def can_use_tap():
    probe = subprocess.run(["unshare", "-n", "sh", "-c", "ip tuntap add dev elisaprobe mode tap"],
                           capture_output=True, text=True)
    return probe.returncode == 0


@unittest.skipUnless(can_use_tap(), "no /dev/net/tun, network namespaces or iproute2 here")
class WithTaps(WithSwitch):
    def netns(self):
        holder = self.spawn("sleep", "600", prefix=("unshare", "-n"))
        eventually(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") !=
                   os.readlink("/proc/self/ns/net"))
        return ("nsenter", "-t", str(holder.pid), "-n")

    def tap(self, ns, name, address, *options):
        stats = f"{self.dir.name}/{name}.json"
        process = self.spawn(TAP, "-t", self.spec(name), "-i", "e0", "-a", address,
                             "--stats-file", stats, "--wait", "5", *options, prefix=ns)
        process.stats = stats
        self.assertTrue(eventually(lambda: self.carrier(ns) == "1"), name)
        return process

    def carrier(self, ns):
        done = subprocess.run([*ns, "ip", "-j", "link", "show", "e0"], capture_output=True,
                              text=True)
        if done.returncode:
            return None
        return "1" if "LOWER_UP" in json.loads(done.stdout)[0]["flags"] else "0"

    def ping(self, ns, address, size=56, count=5):
        """Percent of echo requests without an answer."""
        done = subprocess.run([*ns, sys.executable, "-c", PING, address, str(size), str(count)],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return float(done.stdout)

    def stats(self, tap):
        with open(tap.stats, encoding="utf-8") as f:
            return json.load(f)

    def two(self):
        self.a, self.b = self.netns(), self.netns()
        self.tap_a = self.tap(self.a, "vm-a", "10.9.0.1/24")
        self.tap_b = self.tap(self.b, "vm-b", "10.9.0.2/24", "-a", "fd09::2/64")

    def bulk(self, size=4 << 20):
        data = os.urandom(size)
        source = self.dir.name + "/data"
        with open(source, "wb") as f:
            f.write(data)
        server = self.spawn(sys.executable, "-c", RECEIVE, prefix=self.b)
        time.sleep(0.3)
        self.run_ok(*self.a, sys.executable, "-c", SEND, source)
        out, _ = server.communicate(timeout=30)
        self.assertEqual(out.strip(), hashlib.sha256(data).hexdigest())


class Tap(WithTaps):
    mtu = 9000

    def test_ping_and_end(self):
        self.two()
        self.assertEqual(self.ping(self.a, "10.9.0.2"), 0)
        # 8,972 bytes fill an MTU of 9,000: chained RX buffers.
        self.assertEqual(self.ping(self.a, "10.9.0.2", size=8972), 0)
        link = json.loads(self.run_ok(*self.a, "ip", "-j", "link", "show", "e0"))[0]
        self.assertEqual((link["mtu"], link["address"]), (9000, "02:00:00:00:00:01"))
        self.tap_a.send_signal(signal.SIGUSR1)
        self.assertTrue(eventually(lambda: os.path.exists(self.tap_a.stats)))
        stats = self.stats(self.tap_a)
        self.assertGreaterEqual(stats["to_switch_frames"], 10)
        self.assertGreaterEqual(stats["switch"]["rx_frames"], 10)
        self.assertEqual(stats["tap_refused"], 0)
        self.tap_a.terminate()
        self.assertEqual(self.tap_a.wait(10), 0)
        self.assertIsNone(self.carrier(self.a))
        self.assertEqual(self.stats(self.tap_a)["port"], "vm-a")

    def test_idle_costs_little(self):
        self.two()
        time.sleep(0.5)

        def cpu():
            with open(f"/proc/{self.tap_a.pid}/stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])
        before = cpu()
        time.sleep(2)
        self.assertLess((cpu() - before) / os.sysconf("SC_CLK_TCK") / 2, 0.25)

    def test_switch_dies_and_returns(self):
        self.two()
        self.assertEqual(self.ping(self.a, "10.9.0.2"), 0)
        for sig in (signal.SIGKILL, signal.SIGTERM):
            self.stop_switch(sig)
            self.assertTrue(eventually(lambda: self.carrier(self.a) == "0"))
            self.assertTrue(eventually(lambda: self.carrier(self.b) == "0"))
            self.start_switch()
            self.assertTrue(eventually(lambda: self.carrier(self.a) == "1", 2))
            self.assertTrue(eventually(lambda: self.carrier(self.b) == "1", 2))
            self.assertLess(self.ping(self.a, "10.9.0.2", count=10), 50)
            self.assertEqual(self.ping(self.a, "10.9.0.2"), 0)

    def test_announces_itself(self):
        """An ARP announcement each time that the link is back: others need not wait to ask again."""
        self.two()
        self.stop_switch(signal.SIGTERM)
        self.assertTrue(eventually(lambda: self.carrier(self.a) == "0"))
        with subprocess.Popen([*self.b, "tcpdump", "-l", "-n", "-i", "e0", "-c", "1", "arp", "and",
                               "src", "host", "10.9.0.1", "and", "dst", "host", "10.9.0.1"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as seen:
            try:
                while "listening on" not in (line := seen.stderr.readline()):
                    self.assertTrue(line, "tcpdump has ended")
                # a's waits until b's link is up: stopped, it cannot be the first.
                self.tap_a.send_signal(signal.SIGSTOP)
                self.start_switch()
                self.assertTrue(eventually(lambda: self.carrier(self.b) == "1", 2))
                self.tap_a.send_signal(signal.SIGCONT)
                line = seen.communicate(timeout=5)[0]
            finally:
                self.tap_a.send_signal(signal.SIGCONT)
                seen.kill()
        self.assertRegex(line, r"who-has 10\.9\.0\.1 tell 10\.9\.0\.1|Announcement 10\.9\.0\.1")
        self.assertEqual(self.ping(self.a, "10.9.0.2"), 0)

    def test_peer_killed_and_back(self):
        self.two()
        for _ in range(3):
            self.tap_b.kill()
            self.tap_b.wait()
            self.tap_b = self.tap(self.b, "vm-b", "10.9.0.2/24")
            self.assertLess(self.ping(self.a, "10.9.0.2", count=10), 50)
        self.assertEqual(self.ping(self.a, "10.9.0.2"), 0)
        self.assertIsNone(self.tap_a.poll())

    def test_link_down_and_up(self):
        self.two()
        self.switch.send_signal(signal.SIGUSR1)
        self.assertTrue(eventually(lambda: self.carrier(self.a) == "0", 2))
        self.switch.send_signal(signal.SIGUSR1)
        self.assertTrue(eventually(lambda: self.carrier(self.a) == "1", 2))
        self.assertTrue(eventually(lambda: self.carrier(self.b) == "1", 2))
        self.assertEqual(self.ping(self.a, "10.9.0.2"), 0)

    def test_bulk(self):
        self.two()
        self.bulk()

    def test_daemon(self):
        ns = self.netns()
        pid_file = self.dir.name + "/pid"
        self.run_ok(*ns, TAP, "-d", "-t", self.spec("d"), "-i", "e0", "--pid-file", pid_file,
                    "--stats-file", self.dir.name + "/d.json")
        with open(pid_file, encoding="ascii") as f:
            pid = int(f.read())
        self.assertEqual(self.carrier(ns), "1")
        os.kill(pid, signal.SIGTERM)
        self.assertTrue(eventually(lambda: self.carrier(ns) is None))
        self.assertTrue(eventually(lambda: not os.path.exists(pid_file)))
        self.run_ok(*ns, TAP, "-d", "-t", "local:/nonexistent", status=1)

    def test_no_such_port(self):
        done = subprocess.run([TAP, "-t", self.spec("x"), "-p", "nobody"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn('no port "nobody"', done.stderr)


@unittest.skipUnless(shutil.which("iperf3") and shutil.which("nstat"), "needs iperf3 and nstat")
class Offload(WithTaps):
    """Checksums and segmentation left to the other end or to the switch: TCP's own view of it."""
    mtu = 1500

    def ends(self, ours, theirs):
        self.a, self.b = self.netns(), self.netns()
        self.tap_a = self.tap(self.a, "vm-a", "10.9.0.1/24", "-a", "fd09::1/64",
                              f"--offload={ours}")
        self.tap_b = self.tap(self.b, "vm-b", "10.9.0.2/24", "-a", "fd09::2/64",
                              f"--offload={theirs}")
        self.targets = ["10.9.0.2", "fd09::2"]
        for ns, address in ((self.a, "10.9.5.1/24"), (self.b, "10.9.5.2/24")):
            if subprocess.run([*ns, "ip", "link", "add", "link", "e0", "name", "v5", "type",
                               "vlan", "id", "5"], capture_output=True).returncode:
                print("no VLANs: this kernel has none", file=sys.stderr)
                break
            self.run_ok(*ns, "ip", "addr", "add", address, "dev", "v5")
            self.run_ok(*ns, "ip", "link", "set", "v5", "up")
        else:
            self.targets.append("10.9.5.2")
        # Addresses of IPv6 are tentative at first.
        self.assertTrue(eventually(lambda: subprocess.run(
            [*self.a, "ping", "-6", "-c1", "-W1", "fd09::2"], capture_output=True).returncode == 0
            if shutil.which("ping") else not time.sleep(3), 10))

    def csum_errors(self, ns):
        lines = self.run_ok(*ns, "nstat", "-asz").splitlines()
        found = {line.split()[0]: int(line.split()[1]) for line in lines if "CsumErrors" in line}
        self.assertIn("TcpInCsumErrors", found)
        return {name: n for name, n in found.items() if n}

    def iperf(self, size, *options):
        # A server for each test: one that serves many is busy for a while after each.
        server = self.spawn("iperf3", "-s", "-1", prefix=self.b)
        self.assertTrue(eventually(lambda: ":5201" in self.run_ok(*self.b, "ss", "-Hltn")))
        out = json.loads(self.run_ok(*self.a, "iperf3", "-J", "-n", size, *options))
        self.assertNotIn("error", out)
        server.wait(10)
        return out["end"]

    def counters(self, tap):
        os.path.exists(tap.stats) and os.unlink(tap.stats)
        tap.send_signal(signal.SIGUSR1)
        self.assertTrue(eventually(lambda: os.path.exists(tap.stats)))
        return self.stats(tap)

    def combination(self, ours, theirs):
        self.ends(ours, theirs)
        speed = []
        for target in self.targets:
            for way in ((), ("-R",)):
                end = self.iperf("30M", "-c", target, *way)
                self.assertGreater(end["sum_received"]["bytes"], 100000, (target, way))
                speed.append(round(end["sum_received"]["bits_per_second"] / 1e9, 2))
            end = self.iperf("1M", "-c", target, "-u", "-b", "40M", "-l", "1300")
            self.assertGreater(end["sum"]["packets"] - end["sum"]["lost_packets"], 100)
        print(f"offload {ours}/{theirs}: TCP, Gbit/s there and back to {self.targets}: "
              f"{speed} (this machine, whatever else runs on it)", file=sys.stderr)
        self.assertEqual(self.csum_errors(self.a), {})
        self.assertEqual(self.csum_errors(self.b), {})
        self.bulk()
        a, b = self.counters(self.tap_a), self.counters(self.tap_b)
        for stats, asks, other in ((a, ours, theirs), (b, theirs, ours)):
            self.assertEqual(stats["tap_refused"], 0)
            self.assertEqual(stats["unsayable"], 0)
            self.assertEqual([name for name in stats["switch"]["drops"] if
                              name not in ("rx-no-buffer", "tx-no-destination", "rx-link-down")],
                             [])
            size = stats["to_switch_bytes"] / stats["to_switch_frames"]
            # Who asks for segmentation sends longer frames than the MTU; the switch cuts them up
            # just for the other end that does not.
            cut = stats["switch"]["tx_segmented"]
            if asks == "on":
                self.assertGreater(size, 1514)
            else:
                self.assertLessEqual(size, 1518)
            self.assertEqual(cut > 0, asks == "on" and other == "off")
            self.assertEqual(stats["switch"]["tx_csum"] > 0, asks == "on" and other == "off")

    def test_on_on(self):
        self.combination("on", "on")

    def test_on_off(self):
        self.combination("on", "off")

    def test_off_on(self):
        self.combination("off", "on")

    def test_off_off(self):
        self.combination("off", "off")

    def test_small_segments(self):
        """More segments than the switch would cut: the kernel leaves it smaller frames."""
        self.ends("on", "off")
        self.run_ok(*self.b, "ip", "route", "replace", "10.9.0.0/24", "dev", "e0", "advmss", "100")
        self.run_ok(*self.a, "ip", "route", "replace", "10.9.0.0/24", "dev", "e0", "advmss", "100")
        self.bulk(200000)
        stats = self.counters(self.tap_a)
        self.assertGreater(stats["switch"]["tx_segmented"], 0)
        self.assertNotIn("tx-bad-offload", stats["switch"]["drops"])

    def test_bad_options(self):
        for options in (["--offload=maybe"], ["--idle=never"]):
            done = subprocess.run([TAP, *options], capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0, options)
            self.assertIn("elisa-tap --help", done.stderr)


class Doorbell(WithTaps):
    """Sleeping until the sender rings, with a doorbell made of FIFOs."""
    mtu = 1500

    def belled(self, ns, number):
        return (*ns, "env", f"LD_PRELOAD={BELL}", f"TOY_BELL_DIR={self.dir.name}",
                f"TOY_BELL_ID={number}")

    def pair(self, *options, wrong=0):
        self.a, self.b = self.netns(), self.netns()
        self.tap_a = self.start("vm-a", self.a, 1 + wrong, "10.9.0.1/24", *options)
        self.tap_b = self.start("vm-b", self.b, 2 + wrong, "10.9.0.2/24", *options)

    def start(self, name, ns, number, address, *options):
        stats = f"{self.dir.name}/{name}.json"
        process = self.spawn(TAP, "-t", self.spec(name), "-i", "e0", "-a", address,
                             "--stats-file", stats, *options, prefix=self.belled(ns, number))
        process.stats = stats
        self.assertTrue(eventually(lambda: self.carrier(ns) == "1"), name)
        return process

    def counters(self, tap):
        if os.path.exists(tap.stats):
            os.unlink(tap.stats)
        tap.send_signal(signal.SIGUSR1)
        self.assertTrue(eventually(lambda: os.path.exists(tap.stats)))
        return self.stats(tap)

    def test_sleeps_and_wakes(self):
        self.pair("--idle=doorbell")
        time.sleep(1)
        before = self.counters(self.tap_b)
        time.sleep(2)
        after = self.counters(self.tap_b)
        # It looks at the link ten times a second, and the kernel may have something to say.
        self.assertLess(after["sleeps"] - before["sleeps"], 60)
        start = time.monotonic()
        self.assertEqual(self.ping(self.a, "10.9.0.2", count=40), 0)
        # Each echo wakes both ends; 40 times the 20 ms that PING waits, and no 100 ms for any.
        self.assertLess(time.monotonic() - start, 4)
        self.assertGreater(self.counters(self.tap_b)["rung"], after["rung"] + 20)
        self.assertGreater(self.counters(self.tap_a)["switch"]["tx_bells"], 20)
        self.bulk()

    def test_switch_returns(self):
        self.pair("--idle=doorbell")
        self.stop_switch()
        self.assertTrue(eventually(lambda: self.carrier(self.a) == "0"))
        self.start_switch()
        self.assertTrue(eventually(lambda: self.carrier(self.a) == "1", 5))
        self.assertTrue(eventually(lambda: self.carrier(self.b) == "1", 5))
        self.assertLess(self.ping(self.a, "10.9.0.2", count=10), 50)
        self.assertEqual(self.ping(self.a, "10.9.0.2"), 0)

    def test_another_doorbell_is_not_waited_for(self):
        self.pair("--idle=doorbell", wrong=4)
        self.assertEqual(self.ping(self.a, "10.9.0.2"), 0)
        self.assertEqual(self.counters(self.tap_b)["rung"], 0)
        self.tap_b.terminate()
        self.assertIn("the switch rings another doorbell", self.tap_b.communicate()[1])

    def test_poll(self):
        self.pair("--idle=poll")
        self.assertEqual(self.ping(self.a, "10.9.0.2"), 0)
        self.assertEqual(self.counters(self.tap_b)["rung"], 0)

    def test_there_is_none(self):
        done = subprocess.run([TAP, "-t", self.spec("x"), "--idle=doorbell"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("elisa-tap: no doorbell", done.stderr)


PING = """
import os, select, socket, struct, sys, time
address, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.setsockopt(socket.IPPROTO_IP, 10, 2)    # IP_MTU_DISCOVER, IP_PMTUDISC_DO: no fragments
me, answers = os.getpid() & 0xffff, 0

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff

for number in range(count):
    body = bytes(i & 0xff for i in range(size))
    packet = struct.pack("!BBHHH", 8, 0, 0, me, number) + body
    packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
    s.sendto(packet, (address, 0))
    end = time.monotonic() + 1
    while (left := end - time.monotonic()) > 0:
        if not select.select([s], [], [], left)[0]:
            break
        got = s.recv(65536)[20:]
        if got[0] == 0 and struct.unpack("!HH", got[4:8]) == (me, number):
            answers += got[8:] == body
            break
    time.sleep(0.02)
print(100 * (count - answers) / count)
"""
RECEIVE = """
import hashlib, socket
s = socket.create_server(("10.9.0.2", 5000))
c, _ = s.accept()
h = hashlib.sha256()
while data := c.recv(65536):
    h.update(data)
print(h.hexdigest())
"""
SEND = """
import socket, sys
s = socket.create_connection(("10.9.0.2", 5000), 10)
s.sendall(open(sys.argv[1], "rb").read())
s.close()
"""

def main():
    program = unittest.main(argv=[sys.argv[0], "-v", *sys.argv[6:]], exit=False)
    result = program.result
    if result.wasSuccessful() and result.testsRun == len(result.skipped):
        sys.exit(77)
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
