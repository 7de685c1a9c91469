# SPDX-License-Identifier: BSD-3-Clause
"""elisactl capture: the file against tshark, tcpdump and a reader of our own; its client against the
switch: slow, stopped, killed or hostile, it costs nobody but itself."""
import array
import json
import mmap
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

import daemontest as dt

SPOOFED = "02:00:00:00:99:99"


def blocks(data):
    """(type, body); both lengths agree and no byte is left."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0 and length >= 12 and at + length <= len(data)
        assert struct.unpack_from("<I", data, at + length - 4)[0] == length
        yield kind, data[at + 8:at + length - 4]
        at += length


def options(body):
    result, at = {}, 0
    while at < len(body):
        code, length = struct.unpack_from("<HH", body, at)
        if code == 0:
            assert at + 4 == len(body)
            return result
        result[code] = body[at + 4:at + 4 + length]
        at += 4 + (length + 3) // 4 * 4
    assert not body
    return result


class File:
    """A pcapng file, read by what its specification says."""

    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read()
        self.ports, self.packets, self.statistics = [], [], []
        for kind, body in blocks(data):
            if kind == 6:
                self.packet(body)
            elif kind == 1:
                assert struct.unpack_from("<H", body)[0] == 1
                o = options(body[8:])
                assert o[9] == b"\x09"
                self.ports.append(o[2].decode())
            elif kind == 5:
                o = options(body[12:])
                self.statistics.append([struct.unpack("<Q", o[c])[0] for c in (4, 5, 6)])
            else:
                assert kind == 0x0a0d0d0a, kind

    def packet(self, body):
        port, high, low, captured, length = struct.unpack_from("<IIIII", body)
        o = options(body[20 + (captured + 3) // 4 * 4:])
        self.packets.append({
            "port": self.ports[port], "time": (high << 32 | low) / 1e9, "length": length,
            "data": body[20:20 + captured],
            "direction": {1: "rx", 2: "tx"}[struct.unpack("<I", o[2])[0]],
            "comment": o.get(1, b"").decode()})

    def of(self, port, direction, comment=""):
        return [p for p in self.packets
                if (p["port"], p["direction"], p["comment"]) == (port, direction, comment)]


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def frame(dst, src, seq, size):
    """What elisa-gen sends."""
    head = mac_bytes(dst) + mac_bytes(src) + b"\x88\xb5\xe1\x5a" + struct.pack("<IH", seq, size)
    return head + bytes((seq + i) & 255 for i in range(len(head), size))


class Base(dt.DaemonCase):
    def setUp(self):
        super().setUp()
        self.file = self.d.path("x.pcapng")

    def mac(self, name):
        return self.d.call("port.show", name=name)["mac"]

    def start(self, *args, file=None):
        begun = self.d.log().count("begun")
        child = self.spawn(dt.CTL, "--socket", self.d.path("control.sock"), "capture", *args,
                           "-w", file or self.file, stderr=subprocess.PIPE, text=True)
        dt.wait_for(lambda: child.poll() is not None or self.d.log().count("begun") > begun)
        return child

    def end(self, child, code=0):
        if child.poll() is None:
            time.sleep(0.05)
            child.send_signal(signal.SIGINT)
        err = child.communicate(timeout=20)[1]
        self.assertEqual(child.returncode, code, err)
        return err

    def send(self, *args, port="a"):
        r = subprocess.run([dt.GEN, "-t", self.d.spec(port), "--tx"] + list(args), timeout=60,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return r

    def receiver(self, count, port="b"):
        rx = self.spawn(dt.GEN, "-t", self.d.spec(port), "--rx", "-n", str(count), "-T", "30",
                        "--rx-size", "8192", stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE, text=True)
        dt.wait_for(lambda: self.d.call("port.show", name=port)["link"])
        return rx

    def captures_in(self):
        """Mappings of captures in the daemon."""
        with open("/proc/%d/maps" % self.d.process.pid) as f:
            return len(re.findall(r"^321[0-9a-f]{9}-", f.read(), re.M))


class Capture(Base):
    config = dt.LOCAL + """
        ports = ( { name = "a"; vm = "local"; mtu = 9216; },
                  { name = "b"; transport = "local"; mtu = 9216; }, { name = "web0"; vm = "web"; } );"""

    def exchange(self, size="64", count="100"):
        rx = self.receiver(count)
        self.send("-n", count, "-s", size, "--dst", self.mac("b"))
        self.assertEqual(json.loads(rx.communicate(timeout=40)[0])["missing"], 0)

    def check_frames(self, packets, size, count=100):
        a, b = self.mac("a"), self.mac("b")
        self.assertEqual([p["data"] for p in packets], [frame(b, a, i, size) for i in range(count)])
        self.assertEqual({p["length"] for p in packets}, {size})

    def test_every_frame_once(self):
        """In order, byte for byte, at the right port and in the right direction."""
        for size in (60, 1514, 9230):
            child = self.start("a,b")
            begin = time.time()
            self.exchange(str(size))
            self.assertIn("200 frames written, 0 filtered out, 0 missed", self.end(child))
            f = File(self.file)
            self.assertEqual(sorted(f.ports), ["a", "b"])
            self.check_frames(f.of("a", "tx"), size)
            self.check_frames(f.of("b", "rx"), size)
            self.assertEqual(len(f.packets), 200)
            self.assertEqual(f.statistics, [[100, 0, 100], [100, 0, 100]])
            for p in f.packets:
                self.assertTrue(begin - 0.5 <= p["time"] <= time.time() + 0.5)
            os.unlink(self.file)

    @unittest.skipUnless(shutil.which("tshark"), "no tshark: see lab/setup.sh")
    def test_tshark(self):
        child = self.start("a,b", "--drops")
        self.exchange("128", "20")
        self.send("-n", "5", "--src", SPOOFED)
        self.end(child)

        def tshark(*args):
            return subprocess.run(["tshark", "-r", self.file] + list(args), timeout=60, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.splitlines()
        self.assertEqual(tshark("-Y", "_ws.malformed"), [])
        fields = tshark("-T", "fields", "-E", "separator=|", "-e", "frame.interface_name", "-e",
                        "frame.packet_flags_direction", "-e", "frame.comment", "-e", "eth.src")
        a = self.mac("a")
        self.assertEqual(sorted(fields), sorted(
            ["a|0x00000002||" + a] * 20 + ["b|0x00000001||" + a] * 20 +
            ["a|0x00000002|elisa: dropped: tx-spoofed-source|" + SPOOFED] * 5))

    @unittest.skipUnless(shutil.which("tcpdump"), "no tcpdump: see lab/setup.sh")
    def test_tcpdump_and_stdout(self):
        self.receiver(1000)
        child = subprocess.Popen([dt.CTL, "--socket", self.d.path("control.sock"), "capture", "a",
                                  "--count", "7"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        dt.wait_for(lambda: "begun" in self.d.log())
        self.send("-n", "20", "--dst", self.mac("b"))
        text = subprocess.run(["tcpdump", "-nn", "-e", "-r", "-"], stdin=child.stdout, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        self.assertEqual(child.wait(10), 0)
        child.stdout.close()
        self.assertEqual(len(re.findall("^.*%s > %s" % (self.mac("a"), self.mac("b")), text, re.M)), 7)

    def test_direction(self):
        for args, want in ((["--direction", "tx"], {("a", "tx")}), (["--direction", "rx"], {("b", "rx")}),
                           (["--direction", "both"], {("a", "tx"), ("b", "rx")})):
            child = self.start("a,b", *args)
            self.exchange(count="10")
            self.end(child)
            self.assertEqual({(p["port"], p["direction"]) for p in File(self.file).packets}, want)
            os.unlink(self.file)

    def test_any(self):
        child = self.start("any")
        self.exchange(count="10")
        self.end(child)
        f = File(self.file)
        self.assertEqual((sorted(f.ports), len(f.packets)), (["a", "b", "web0"], 20))

    def test_mirrored_to(self):
        """Such a port cannot be captured; all others can."""
        self.d.call("mirror.add", port="a", to="web0")
        r = self.d.ctl("capture", "a,web0", "-w", self.file)
        self.assertEqual((r.returncode, "mirrored to" in r.stderr), (1, True), r.stderr)
        dt.wait_for(lambda: self.captures_in() == 0)
        child = self.start("any")
        self.exchange(count="10")
        self.end(child)
        self.assertEqual(len(File(self.file).packets), 20)

    def test_drops(self):
        """Each with its reason, those of the sender and those of the receiver; as many as counted."""
        child = self.start("a,b", "--direction", "none", "--drops")
        self.send("-n", "30", "--src", SPOOFED)
        self.d.call("port.set", name="b", mtu=1500)
        rx = self.receiver(10)
        self.send("-n", "12", "-s", "2000", "--dst", self.mac("b"))
        self.send("-n", "10", "--dst", self.mac("b"))
        rx.communicate(timeout=40)
        self.end(child)
        f = File(self.file)
        self.assertEqual(len(f.of("a", "tx", "elisa: dropped: tx-spoofed-source")), 30)
        long = f.of("b", "rx", "elisa: dropped: rx-too-long")
        self.assertEqual([p["data"] for p in long],
                         [frame(self.mac("b"), self.mac("a"), i, 2000) for i in range(12)])
        self.assertEqual(len(f.packets), 42)
        stats = self.d.call("stats")["ports"]
        self.assertEqual((stats["a"]["drops"]["tx-spoofed-source"], stats["b"]["drops"]["rx-too-long"]),
                         (30, 12))

    def test_filter(self):
        child = self.start("a,b", "ether", "src", SPOOFED, "--drops")
        self.exchange(count="10")
        self.send("-n", "5", "--src", SPOOFED)
        self.assertIn("5 frames written, 20 filtered out, 0 missed", self.end(child))
        self.assertEqual({p["data"][6:12] for p in File(self.file).packets}, {mac_bytes(SPOOFED)})
        r = self.d.ctl("capture", "a", "-w", self.file, "udp", "prot", "53")
        self.assertEqual(r.returncode, 2)
        self.assertIn('the filter "udp prot 53"', r.stderr)

    def test_snap(self):
        for snap in (14, 100, 1000):
            child = self.start("a", "--snap", str(snap))
            self.exchange("1514", "50")
            self.end(child)
            f = File(self.file)
            self.assertEqual([(p["data"], p["length"]) for p in f.packets],
                             [(frame(self.mac("b"), self.mac("a"), i, 1514)[:snap], 1514)
                              for i in range(50)])
            os.unlink(self.file)

    def test_count_and_seconds(self):
        self.receiver(100000)
        child = self.start("a", "--count", "5")
        self.send("-n", "50", "--dst", self.mac("b"))
        self.end(child)
        self.assertEqual(len(File(self.file).packets), 5)
        begin = time.monotonic()
        r = self.d.ctl("capture", "a", "--seconds", "1", "-w", self.file)
        self.assertEqual(r.returncode, 0)
        self.assertTrue(0.9 < time.monotonic() - begin < 5)

    def test_not_seen_elsewhere(self):
        before = self.d.call("port.list"), self.d.call("fdb.list"), self.d.call("stats")["fdb"]
        child = self.start("any")
        self.assertEqual((self.d.call("port.list"), self.d.call("fdb.list"),
                          self.d.call("stats")["fdb"]), before)
        self.assertNotIn(".capture", json.dumps([self.d.call("stats"), self.d.call("status"),
                                                 self.d.call("metrics")]))
        # A flood does not reach it but as the mirror's copy: once.
        rx = self.receiver(10)
        self.send("-n", "10")
        rx.communicate(timeout=40)
        self.end(child)
        self.assertEqual(len(File(self.file).packets), 20)

    def test_refused(self):
        for args, text, code in ((["nix"], 'there is no port "nix"', 1), (["a,nix"], "nix", 1),
                                 ([], "needs a PORT", 2), (["a", "--snap", "13"], "snap", 1),
                                 (["a", "--direction", "up"], "up", 2),
                                 (["a", "--direction", "none"], "what", 1),
                                 (["a", "-w", "/nonexistent/x"], "/nonexistent/x", 1)):
            r = self.d.ctl("capture", *args) if "-w" in args else self.d.ctl("capture", *args, "-w", self.file)
            self.assertEqual((r.returncode, text in r.stderr), (code, True), r.stderr)
        children = [self.start("a", file=self.d.path("x%d" % i)) for i in range(4)]
        r = self.d.ctl("capture", "a", "-w", self.file)
        self.assertEqual((r.returncode, "4 captures run already" in r.stderr), (1, True), r.stderr)
        for child in children:
            self.end(child)
        dt.wait_for(lambda: self.captures_in() == 0)
        self.end(self.start("a"))

    def test_port_goes(self):
        """It may be deleted while somebody looks at it; another of that name is not looked at."""
        self.d.call("port.add", name="c", transport="local")
        child = self.start("a,c")
        self.d.call("port.del", name="c")
        dt.wait_for(lambda: "c" not in self.d.call("port.list")["ports"])
        self.exchange(count="10")
        self.end(child)
        self.assertEqual(len(File(self.file).packets), 10)

    def test_daemon_goes(self):
        child = self.start("a")
        self.exchange(count="10")
        self.d.kill()
        self.assertIn("the daemon has ended", self.end(child, 3))
        self.assertEqual(len(File(self.file).packets), 10)
        self.d.start()
        child = self.start("a")
        self.exchange(count="10")
        self.end(child)

    def test_killed(self):
        """kill -9 at any moment, under traffic: nobody else loses a frame, nothing stays behind."""
        fds = len(os.listdir("/proc/%d/fd" % self.d.process.pid))
        for i in range(8):
            before = self.d.call("stats")["ports"]
            rx = self.receiver(30000)
            child = self.start("any", "--drops")
            tx = self.spawn(dt.GEN, "-t", self.d.spec("a"), "--tx", "-n", "30000", "-s", "300", "--dst",
                            self.mac("b"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.005 * i)
            child.kill()
            tx.wait(60)
            self.assertEqual(tx.returncode, 0)
            if not self.all_there(before):
                rx.send_signal(signal.SIGTERM)
            report = json.loads(rx.communicate(timeout=60)[0])
            after = self.d.call("stats")["ports"]
            lost = sum(after["b"]["drops"].values()) - sum(before["b"]["drops"].values())
            self.assertEqual((report["corrupt"], report["duplicates"]), (0, 0))
            self.assertEqual(after["b"]["rx_frames"] - before["b"]["rx_frames"] + lost, 30000)
            self.assertEqual(set(after["b"]["drops"]) - {"rx-no-buffer"}, set())
            child.wait(10)
            dt.wait_for(lambda: self.captures_in() == 0)
        dt.wait_for(lambda: len(os.listdir("/proc/%d/fd" % self.d.process.pid)) <= fds)
        child = self.start("a")
        self.exchange(count="10")
        self.end(child)
        self.assertEqual(len(File(self.file).packets), 10)

    def all_there(self, before):
        """Else the receiver, which lost some for want of CPU, would wait for them."""
        b = self.d.call("stats")["ports"]["b"]
        return b["rx_frames"] - before["b"]["rx_frames"] == 30000

    def test_stopped(self):
        """A reader that sleeps misses frames, is told how many, and holds nobody up."""
        child = self.start("a")
        child.send_signal(signal.SIGSTOP)
        self.receiver(1000000)
        r = self.send("-n", "20000", "-s", "200", "--dst", self.mac("b"))
        self.assertEqual(r.returncode, 0, r.stderr)
        child.send_signal(signal.SIGCONT)
        time.sleep(0.3)
        err = self.end(child)
        written, _, missed = map(int, re.search(r"(\d+) frames written, (\d+) filtered out, (\d+) missed",
                                                err).groups())
        sent = self.d.call("stats")["ports"]["a"]
        self.assertEqual(written + missed, sent["tx_frames"])
        self.assertGreaterEqual(missed, 20000 - 4096 - written)
        self.assertGreater(missed, 0)
        f = File(self.file)
        self.assertEqual(f.statistics, [[written, missed, written]])
        # What is there is sound.
        for p in f.packets:
            seq = struct.unpack_from("<I", p["data"], 16)[0]
            self.assertEqual(p["data"], frame(self.mac("b"), self.mac("a"), seq, 200))

    def test_hostile(self):
        """A client that writes rubbish into its rings: they are its own."""
        rpc = self.d.rpc()
        self.addCleanup(rpc.close)
        rpc.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "capture",
                             "params": {"ports": ["a", "b"], "what": ["tx", "rx", "drops"]}}).encode() + b"\n")
        fds = array.array("i", [-1])
        data, control, _, _ = rpc.sock.recvmsg(65536, socket.CMSG_SPACE(4))
        fds.frombytes(control[0][2])
        fd = fds[-1]
        while b"\n" not in data:
            data += rpc.sock.recv(65536)
        where = json.loads(data)["result"]
        for length in (0, where["size"] - 4096, where["size"] + 4096):
            with self.assertRaises(OSError):
                os.ftruncate(fd, length)        # sealed
        mem = mmap.mmap(fd, where["size"])
        os.close(fd)
        rng = random.Random(7)
        for i in range(60):
            mem[where["rx"]:where["rx"] + 8192] = rng.randbytes(8192)
            if i % 3 == 0:
                mem[where["completions"]:where["buffers"]] = rng.randbytes(
                    where["buffers"] - where["completions"])
            if i % 4 == 0:      # as it should be, so that something is delivered, too
                mem[where["rx"]:where["rx"] + 4] = struct.pack("<I", where["entries"])
            self.exchange("200", "64")
        self.assertGreater(rpc.call("capture.stats")["missed"], 0)
        with self.assertRaises(dt.Refused):
            rpc.call("capture", ports=["a"])    # one for a connection
        mem.close()
        rpc.close()
        dt.wait_for(lambda: self.captures_in() == 0)
        self.exchange()

    def test_wrong_parameters(self):
        for params in ({"ports": "a"}, {"ports": []}, {"ports": [1]}, {"what": []}, {"what": ["up"]}, {"what": ["tx", "up"]},
                       {"snap": -1}, {"snap": "x"}, {"snap": 65536}, {"port": "a"}):
            with self.assertRaises(dt.Refused):
                self.d.call("capture", **params)
        with self.assertRaises(dt.Refused):
            self.d.call("capture.stats")
        self.assertEqual(self.captures_in(), 0)


class CaptureOfVms(Base):
    """With a trusted context (a test double's): the ring is in there as long as it is used."""
    program = dt.FAKE

    def setUp(self):
        dt.fake_host(self)
        super().setUp()

    def exports(self):
        with open(os.path.join(self.fake, "log")) as f:
            return [line for line in f.read().splitlines() if "export" in line]

    def test_exported(self):
        before = len(self.exports())
        child = self.start("any")
        kind, size = self.exports()[before].split()
        self.assertEqual((kind, int(size, 16) >> 20), ("export", 8))
        self.assertEqual(len(self.exports()), before + 1)
        self.end(child)
        dt.wait_for(lambda: len(self.exports()) == before + 2)
        self.assertEqual(self.exports()[-1], "unexport " + size)


class CaptureAlone(Base):
    """No local clients are possible: nobody has to map the ring first."""
    config = 'ports = ( { name = "web0"; vm = "web"; } );'

    def test_begin_and_end(self):
        self.end(self.start("web0"))
        self.assertEqual(File(self.file).ports, ["web0"])
        dt.wait_for(lambda: self.captures_in() == 0)


if __name__ == "__main__":
    dt.main()
