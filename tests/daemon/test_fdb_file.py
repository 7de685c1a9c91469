# SPDX-License-Identifier: BSD-3-Clause
"""Learned addresses outlive the daemon, however it ends; what is wrong with their file does no harm."""
import os
import random
import struct
import subprocess
import time

import daemontest as dt

# As in fdb-file.c.
HEAD = struct.Struct("=8sIIQQ40s")
NAME_LEN = 32
ENTRY = struct.Struct("=6sHII")
CONFIG = dt.LOCAL + """
ports = ( { name = "a"; vm = "local"; anti_spoof = false; }, { name = "b"; vm = "local"; },
          { name = "c"; vm = "local"; } );
"""


def boot_id():
    with open("/proc/sys/kernel/random/boot_id", "rb") as f:
        return f.read().strip()


def boot_time():
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def content(ports, entries, magic=b"elisafdb", revision=1, when=None, boot=None):
    """entries: (mac, vid, index, age)"""
    head = HEAD.pack(magic, revision, len(ports), len(entries), boot_time() if when is None else when,
                     boot_id() if boot is None else boot)
    return head + b"".join(p.encode().ljust(NAME_LEN, b"\0") for p in ports) + \
        b"".join(ENTRY.pack(*e) for e in entries)


def mac(n):
    return b"\x02\x10" + n.to_bytes(4, "big")


def text(raw):
    return ":".join("%02x" % byte for byte in raw)


class FdbFile(dt.DaemonCase):
    config = CONFIG

    def setUp(self):
        super().setUp()
        self.file = self.d.path("fdb")

    def read(self):
        """{(mac, vid): (port, age)}"""
        with open(self.file, "rb") as f:
            data = f.read()
        magic, revision, ports, entries, when, boot = HEAD.unpack_from(data)
        self.assertEqual((magic, revision, boot.rstrip(b"\0")), (b"elisafdb", 1, boot_id()))
        self.assertAlmostEqual(when, boot_time(), delta=60)
        names = [data[HEAD.size + i * NAME_LEN:][:NAME_LEN].rstrip(b"\0").decode() for i in range(ports)]
        body = data[HEAD.size + ports * NAME_LEN:]
        self.assertEqual(len(body), entries * ENTRY.size)
        return {(text(m), vid): (names[port], age) for m, vid, port, age in ENTRY.iter_unpack(body)}

    def write(self, data):
        with open(self.file, "wb") as f:
            f.write(data)

    def learned(self):
        return {e["mac"]: e for e in self.d.call("fdb.list")["entries"] if not e["static"]}

    def restart(self, before=None):
        """By kill -9; `before` is done in between."""
        self.d.kill()
        if before:
            before()
        self.d.start()

    def link(self, name):
        return self.d.call("port.show", name=name)["link"]

    def counters(self, name):
        return self.d.call("stats", port=name)["ports"][name]

    def gen(self, name, *args):
        return self.spawn(dt.GEN, "-t", self.d.spec(name), *args, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)

    def send(self, name, dst, *args):
        tx = self.gen(name, "--tx", "-n", "100", "--dst", dst, *args)
        out, err = tx.communicate(timeout=60)
        self.assertEqual(tx.returncode, 0, out + err)

    def receivers(self, *names):
        for name in names:
            self.gen(name, "--rx", "-n", "100000", "-T", "120")
        for name in names:
            dt.wait_for(lambda: self.link(name))

    def test_killed(self):
        """A learned address is one after kill -9, too: what is sent there does not reach others."""
        self.receivers("b", "c")
        there = "02:00:00:00:77:01"
        # An address that is not known is flooded: the test can tell.
        before = self.counters("c")["rx_frames"]
        self.send("a", "02:00:00:00:77:02", "--src", there)
        self.assertEqual(self.counters("c")["rx_frames"] - before, 100)
        self.assertEqual(self.learned()[there]["port"], "a")
        dt.wait_for(lambda: os.path.exists(self.file) and (there, 0) in self.read(), 15)
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
        self.end_children()
        self.restart()
        self.assertEqual(self.learned()[there]["port"], "a")
        self.receivers("a", "c")
        before = self.counters("c")["rx_frames"]
        self.send("b", there)
        self.assertEqual(self.counters("c")["rx_frames"], before)
        dt.wait_for(lambda: self.counters("a")["rx_frames"] == 100)
        self.assertEqual(self.counters("b")["tx_flooded"], 0)
        self.send("b", "02:00:00:00:77:03")
        self.assertEqual(self.counters("c")["rx_frames"] - before, 100)

    def test_orderly_end(self):
        """At the end it is written at once, and without what is static or flushed."""
        self.receivers("b")
        self.send("a", "02:00:00:00:77:02", "--src", "02:00:00:00:77:01")
        self.d.call("fdb.add", mac="02:00:00:00:77:05", port="b")
        self.d.process.terminate()
        self.assertEqual(self.d.process.wait(20), 0)
        self.assertEqual({k: v[0] for k, v in self.read().items()}, {("02:00:00:00:77:01", 0): "a"})
        self.assertFalse(os.path.exists(self.file + ".new"))
        self.d.start()
        self.assertEqual(set(self.learned()), {"02:00:00:00:77:01"})
        self.d.call("fdb.flush")
        dt.wait_for(lambda: self.read() == {}, 15)
        self.restart()
        self.assertEqual(self.learned(), {})

    def test_ages(self):
        """The time without a daemon counts; who has been silent for too long is forgotten."""
        self.restart(lambda: self.write(content(
            ["a"], [(mac(1), 0, 0, 10), (mac(2), 0, 0, 250), (mac(3), 0, 0, 0), (mac(4), 0, 0, 2 ** 32 - 1)],
            when=boot_time() - 100)))
        got = self.learned()
        self.assertEqual(set(got), {text(mac(1)), text(mac(3))})
        self.assertAlmostEqual(got[text(mac(1))]["age_s"], 110, delta=15)
        self.assertAlmostEqual(got[text(mac(3))]["age_s"], 100, delta=15)
        self.restart(lambda: self.write(content(["a"], [(mac(1), 0, 0, 10)], when=0)))
        self.assertEqual(self.learned(), {})
        # Those of another boot are nobody's any more; that is no fault.
        self.restart(lambda: self.write(content(["a"], [(mac(1), 0, 0, 10)], boot=b"x" * 36)))
        self.assertEqual(self.learned(), {})
        self.assertNotIn("are not used", self.d.log())

    def test_ports_come_later(self):
        """Addresses wait for their ports, and until then the file has them all."""
        data = content(["late", "", "a"], [(mac(i), 0, i % 3, 0) for i in range(300)])
        self.restart(lambda: self.write(data))
        self.assertEqual(set(self.learned()), {text(mac(i)) for i in range(2, 300, 3)})
        self.d.call("port.add", name="late", transport="local")
        dt.wait_for(lambda: len(self.learned()) == 200)
        self.assertEqual({e["port"] for e in self.learned().values()}, {"a", "late"})
        time.sleep(7)
        with open(self.file, "rb") as f:
            self.assertEqual(f.read(), data)
        # Then those whose ports never came are given up, and it is written again.
        dt.wait_for(lambda: len(self.read()) == 200, 40)
        self.assertIn("100 addresses of the former daemon are not kept", self.d.log())

    def test_port_deleted(self):
        """Its addresses are not another port's that has its place."""
        self.d.call("port.add", name="x", transport="local")
        self.d.call("port.add", name="y", transport="local")
        self.restart(lambda: self.write(content(["x", "y"], [(mac(i), 0, i % 2, 0) for i in range(100)])))
        dt.wait_for(lambda: os.path.exists(self.file) and len(self.read()) == 100, 15)
        self.d.call("port.del", name="x")
        dt.wait_for(lambda: "x" not in self.d.call("port.list")["ports"])
        self.d.call("port.add", name="z", transport="local")
        dt.wait_for(lambda: {p for p, age in self.read().values()} == {"y"}, 15)
        self.restart()
        self.assertEqual({e["port"] for e in self.learned().values()}, {"y"})

    def test_not_writable(self):
        """One message, not one each few seconds; and again when it can be written."""
        os.mkdir(self.file + ".new")
        self.receivers("b")
        for i in range(3):
            self.send("a", "02:00:00:00:77:02", "--src", "02:00:00:00:77:%02x" % i)
            time.sleep(6)
        self.assertEqual(self.d.log().count("fdb was not written: Is a directory"), 1)
        os.rmdir(self.file + ".new")
        dt.wait_for(lambda: os.path.exists(self.file) and len(self.read()) == 3, 15)

    def bad(self, data):
        size = len(self.d.log())
        self.restart(lambda: self.write(data) if data is not None else None)
        return self.d.log()[size:].count("that the former daemon had learned are not used")

    def test_wrong_files(self):
        """One warning, and nothing of it is used."""
        good = content(["a"], [(mac(1), 0, 0, 0)])
        for data in (b"", b"x", b"\0" * 4096, good[:-1], good + b"\0", good[:40],
                     content(["a"], [(mac(1), 0, 0, 0)], magic=b"elisafdc"),
                     content(["a"], [(mac(1), 0, 0, 0)], revision=2),
                     content(["a"], [(mac(1), 0, 1, 0)]), content([], [(mac(1), 0, 0, 0)]),
                     content(["a"], [(mac(1), 0, 2 ** 32 - 1, 0)]),
                     content(["a" * 32], [(mac(1), 0, 0, 0)]), content(["a"] * 1025, []),
                     content(["a"], [(mac(1), 0, 0, 0)], when=boot_time() + 1000),
                     HEAD.pack(b"elisafdb", 1, 0, 2 ** 60, boot_time(), boot_id()),
                     HEAD.pack(b"elisafdb", 1, 0, 2 ** 64 - 1, boot_time(), boot_id()),
                     HEAD.pack(b"elisafdb", 1, 2 ** 32 - 1, 0, boot_time(), boot_id())):
            with self.subTest(data=data[:100]):
                self.assertEqual(self.bad(data), 1)
                self.assertEqual(self.learned(), {})

        def huge():
            self.write(b"")
            os.truncate(self.file, 1 << 40)
        for make in (huge, lambda: os.mkfifo(self.file), lambda: os.symlink("/etc/passwd", self.file),
                     lambda: os.mkdir(self.file)):
            self.d.kill()
            if os.path.lexists(self.file):
                os.unlink(self.file)
            make()
            size = len(self.d.log())
            self.d.start()
            self.assertEqual(self.d.log()[size:].count("had learned are not used"), 1)
        os.rmdir(self.file)
        self.restart(lambda: self.write(good))
        self.assertEqual(set(self.learned()), {text(mac(1))})

    def test_entries_that_cannot_be(self):
        """A good file with addresses that no port can have: only those are left out."""
        self.restart(lambda: self.write(content(["a", "_watchdog"], [
            (b"\xff" * 6, 0, 0, 0), (b"\x01\0\x5e\0\0\1", 0, 0, 0), (b"\0" * 6, 0, 0, 0), (mac(1), 4095, 0, 0),
            (mac(2), 4096, 0, 0), (mac(3), 65535, 0, 0), (mac(4), 10, 0, 0), (mac(5), 0, 1, 0),
            (mac(6), 0, 0, 0), (mac(6), 0, 0, 5)])))
        self.assertEqual(set(self.learned()), {text(mac(6))})

    def test_rubbish(self):
        """Good files bent at random; under sanitizers."""
        rng = random.Random(11)
        used = refused = 0
        for i in range(40):
            data = bytearray(content(["a", "b", "x"], [(mac(n), rng.choice((0, 0, 10)), n % 3, n)
                                                       for n in range(rng.randrange(1, 400))]))
            for j in range(rng.randrange(1, 8)):
                at = rng.randrange(rng.choice((len(data), 72, 170)) if len(data) > 170 else len(data))
                kind = rng.randrange(5)
                if kind < 3:
                    data[at] = rng.randrange(256)
                elif kind == 3 and i % 2:
                    del data[at:at + rng.randrange(40)]
                elif i % 4 == 1:
                    data[at:at] = bytes(rng.randrange(256) for k in range(rng.randrange(40)))
                data = data or bytearray(b"x")
            warnings = self.bad(bytes(data))
            self.assertLessEqual(warnings, 1)
            refused += warnings
            used += bool(self.learned())
        self.assertGreater(refused, 5)
        self.assertGreater(used, 2)


class Large(dt.DaemonCase):
    """As many addresses as there can be: the daemon answers all the while."""
    program = dt.VSWITCHD
    config = dt.TWO_PORTS + "switch = { fdb_capacity = 1048576; };"
    COUNT = 1 << 20

    def test_large(self):
        path, spans = self.d.path("fdb"), []

        def ask():
            begin = time.monotonic()
            rpc.call("port.show", name="a")
            spans.append(time.monotonic() - begin)
        self.d.kill()
        head = HEAD.pack(b"elisafdb", 1, 2, self.COUNT, boot_time(), boot_id())
        data = head + b"a".ljust(NAME_LEN, b"\0") + b"b".ljust(NAME_LEN, b"\0") + b"".join(
            ENTRY.pack(b"\x02\x10" + i.to_bytes(4, "big"), 0, i % 2, 0) for i in range(self.COUNT))
        with open(path, "wb") as f:
            f.write(data)
        written = os.stat(path).st_mtime_ns
        begin = time.monotonic()
        self.d.start()
        with self.d.rpc() as rpc:
            started = time.monotonic() - begin
            while rpc.call("status")["fdb"]["used"] < self.COUNT * 0.99:
                for i in range(20):
                    ask()
                self.assertLess(time.monotonic() - begin, 60)
            restored = time.monotonic() - begin
            worst = max(spans)
            spans.clear()
            while os.stat(path).st_mtime_ns == written:
                ask()
                time.sleep(0.001)
                self.assertLess(time.monotonic() - begin, 60)
        print("start %.2f s, all restored after %.2f s; longest answer meanwhile %.1f ms, while it is written "
              "%.1f ms" % (started, restored, worst * 1e3, max(spans) * 1e3))
        self.assertGreater(os.stat(path).st_size, len(data) * 0.99)
        self.assertLessEqual(os.stat(path).st_size, len(data) + 1024 * NAME_LEN)
        # Far from what all of it at once takes, and far from any figure of a busy machine.
        self.assertLess(max(worst, max(spans)), 0.5)


dt.main()
