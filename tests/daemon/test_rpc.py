# SPDX-License-Identifier: BSD-3-Clause
"""The control socket against clients that are wrong, slow, many or gone."""
import json
import os
import random
import signal
import socket
import time
import unittest

import daemontest as dt


class Rpc(dt.DaemonCase):
    def code(self, line):
        with self.d.rpc() as rpc:
            rpc.send(line + b"\n")
            return rpc.line()["error"]["code"]

    def test_wrong_requests(self):
        for line, code in [
                (b"garbage", -32700), (b"{", -32700), (b'{"a":1,"a":2}', -32700),
                (b"\xff\xfe\x00", -32700), (b'"text"', -32700), (b"[" * 5000, -32700), (b"[]", -32600),
                (b'[{"jsonrpc":"2.0","id":1,"method":"status"}]', -32600), (b"{}", -32600),
                (b'{"jsonrpc":"1.0","id":1,"method":"status"}', -32600),
                (b'{"jsonrpc":"2.0","id":{},"method":"status"}', -32600),
                (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
                (b'{"jsonrpc":"2.0","id":1,"method":"nix"}', -32601),
                (b'{"jsonrpc":"2.0","id":1,"method":"status","params":[1]}', -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"status","params":{"x":1}}', -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"port.show"}', -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"port.show","params":{"name":7}}', -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"port.add","params":{"name":"a b"}}', -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"port.add","params":{"name":"q","mtu":1}}', -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"port.add","params":{"name":"q","groups":[99]}}',
                 -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"attach","params":{"pid":-1}}', -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"attach","params":{}}', -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"fdb.add","params":{"mac":"x","port":"a"}}', -32602),
                (b'{"jsonrpc":"2.0","id":1,"method":"port.show","params":{"name":"nix"}}', -32000),
        ]:
            with self.subTest(line=line[:70]):
                self.assertEqual(self.code(line), code)
        self.assertTrue(self.d.answers())

    def test_ids_and_notifications(self):
        with self.d.rpc() as rpc:
            rpc.send(b'{"jsonrpc":"2.0","method":"status"}\n'
                     b'{"jsonrpc":"2.0","id":"x","method":"port.list"}\n'
                     b'\n{"jsonrpc":"2.0","id":7.5,"method":"port.list"}\r\n')
            self.assertEqual([rpc.line()["id"] for i in range(2)], ["x", 7.5])

    def test_too_long(self):
        with self.d.rpc() as rpc:
            rpc.send(b"x" * 65536)
            self.assertIn("longer than 65536", rpc.line()["error"]["message"])
            self.assertIsNone(rpc.line())

    def test_partial(self):
        text = b'{"jsonrpc":"2.0","id":1,"method":"port.list"}\n'
        with self.d.rpc() as rpc:
            for i in range(len(text)):
                rpc.send(text[i:i + 1])
            self.assertIn("ports", rpc.line()["result"])
        for i in range(1, len(text)):
            with self.d.rpc() as rpc:
                rpc.send(text[:i])
        self.assertTrue(self.d.answers())

    def test_half_closed(self):
        with self.d.rpc() as rpc:
            rpc.send(b'{"jsonrpc":"2.0","id":1,"method":"port.list"}\n')
            rpc.sock.shutdown(socket.SHUT_WR)
            self.assertIn("ports", rpc.line()["result"])
            self.assertIsNone(rpc.line())

    def test_fuzz(self):
        rng = random.Random(1)
        base = b'{"jsonrpc":"2.0","id":1,"method":"port.add","params":{"name":"q","mtu":100}}\n'
        for i in range(300):
            data = bytearray(base * 3)
            for j in range(rng.randrange(1, 20)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            with self.d.rpc() as rpc:
                rpc.send(bytes(data))
        self.assertTrue(self.d.answers())

    def test_many_clients(self):
        clients = [self.d.rpc() for i in range(64)]
        for c in clients:
            self.assertIn("ports", c.call("port.list"))
        with self.d.rpc() as extra:
            self.assertIn("too many clients", extra.line()["error"]["message"])
        for c in clients:
            c.close()
        dt.wait_for(self.d.answers)

    def test_slow_reader(self):
        """One that asks and never reads blocks nobody, and costs bounded memory."""
        line = b'{"jsonrpc":"2.0","id":1,"method":"stats"}\n'
        slow = self.d.rpc()
        slow.sock.settimeout(0.5)
        try:
            for i in range(100000):
                slow.send(line)
        except socket.timeout:
            pass
        else:
            self.fail("the daemon reads without bound")
        begin = time.monotonic()
        self.assertTrue(self.d.answers())
        self.assertLess(time.monotonic() - begin, 2)
        slow.sock.settimeout(20)
        for i in range(200):    # and what was asked is answered after all
            self.assertIn("ports", slow.line()["result"])
        slow.close()

    def test_many_lines(self):
        """All in one piece: each is served, and others have their turn between."""
        lines = b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"port.list"}\n' % i for i in range(1000))
        for close in (False, True):
            with self.d.rpc() as rpc:
                rpc.send(lines)
                if close:
                    rpc.sock.shutdown(socket.SHUT_WR)
                self.assertTrue(self.d.answers())
                for i in range(1000):
                    self.assertEqual(rpc.line()["id"], i)
                if close:
                    self.assertIsNone(rpc.line())
        # Notifications of one who has left are served, too.
        with self.d.rpc() as rpc:
            rpc.send(b"".join(b'{"jsonrpc":"2.0","method":"port.add","params":'
                              b'{"name":"n%d","transport":"local"}}\n' % i for i in range(60)))
        dt.wait_for(lambda: "n59" in self.d.call("port.list")["ports"])

    def test_descriptors_return(self):
        fds = "/proc/%d/fd" % self.d.process.pid
        before = len(os.listdir(fds))
        for i in range(200):
            self.d.call("port.list")
        dt.wait_for(lambda: len(os.listdir(fds)) <= before)

    def test_ports(self):
        d = self.d
        p = d.call("port.add", name="q", mac="02:00:00:00:00:aa", mtu=9000, queues=4, groups=[1, 2],
                   anti_spoof=False, up=False)
        self.assertEqual((p["mac"], p["mtu"], p["queues"], p["groups"], p["anti_spoof"], p["up"]),
                         ("02:00:00:00:00:aa", 9000, 4, [1, 2], False, False))
        for params in ({"name": "q"}, {"name": "r", "mac": "02:00:00:00:00:aa"}):
            with self.assertRaises(dt.Refused):
                d.call("port.add", **params)
        p = d.call("port.set", name="q", mtu=1400, up=True)
        self.assertEqual((p["mtu"], p["up"], p["groups"]), (1400, True, [1, 2]))
        with self.assertRaisesRegex(dt.Refused, "queues cannot change"):
            d.call("port.set", name="q", queues=2)
        self.assertEqual(d.call("port.show", name="q")["queues"], 4)
        d.call("fdb.add", mac="02:00:00:00:00:bb", port="q")
        self.assertEqual([(e["mac"], e["port"], e["static"]) for e in d.call("fdb.list")["entries"]],
                         [("02:00:00:00:00:bb", "q", True)])
        self.assertEqual(d.call("port.del", name="q")["state"], "deleted")
        self.assertEqual(d.call("fdb.list")["entries"], [])
        with self.assertRaisesRegex(dt.Refused, 'there is no port "q"'):
            d.call("port.show", name="q")

    def test_added_ports_outlive_the_daemon(self):
        self.d.call("port.add", name="q", mtu=4000, groups=[3], vm="local")
        before = self.d.call("port.show", name="q")
        del before["epoch"]     # its counters do not
        dt.wait_for(lambda: '"q"' in open(self.d.path("state.json")).read())
        self.d.kill()
        self.d.start()
        after = self.d.call("port.show", name="q")
        del after["epoch"]
        self.assertEqual(after, before)
        self.d.call("port.del", name="q")
        dt.wait_for(lambda: '"q"' not in open(self.d.path("state.json")).read())

    def test_broken_state(self):
        self.d.kill()
        for text in ("{", "[]", '{"revision": 99}', '{"revision": 1, "vms": [5, {}], "ports": "x"}',
                     '{"revision": 1, "vms": [{"name": "x", "pid": "y"}], "ports": [{"name": 3}]}'):
            with open(self.d.path("state.json"), "w") as f:
                f.write(text)
            self.d.start()
            self.assertEqual(set(self.d.call("port.list")["ports"]), {"a", "b", "web0"})
            self.d.kill()
        self.d.start()

    def test_second_daemon(self):
        second = dt.subprocess.run([dt.SAN, "--config", self.d.config, "--run-dir", self.d.dir],
                                   stderr=dt.subprocess.PIPE, text=True, timeout=20)
        self.assertEqual(second.returncode, 69)
        self.assertIn("another daemon listens there", second.stderr)
        self.assertTrue(self.d.answers())
        self.assertTrue(os.path.exists(self.d.path("control.sock")))

    def test_doctor(self):
        r = self.d.call("doctor")
        self.assertTrue({"kernel", "cpu", "kvm", "module", "memory", "ports", "vm"} <=
                        {f["check"] for f in r["findings"]})
        for f in r["findings"]:
            self.assertIn(f["level"], ("ok", "warn", "fail"))
            self.assertTrue(f["text"])
        self.assertEqual(r["fail"], sum(f["level"] == "fail" for f in r["findings"]))


class Elsewhere(unittest.TestCase):
    """control.socket is not the usual one: it is found at the usual place nevertheless."""

    def test_link(self):
        d = dt.Daemon(dt.SAN, dt.TWO_PORTS)
        self.addCleanup(d.stop)
        with open(d.config, "a") as f:
            f.write('control = { socket = "%s"; };\n' % d.path("other.sock"))
        d.start()
        usual = d.path("control.sock")
        self.assertEqual(os.readlink(usual), d.path("other.sock"))
        self.assertEqual(d.ctl("reload").returncode, 0)
        d.kill()
        d.start()       # over what the former one left
        self.assertEqual(d.ctl("reload").returncode, 0)
        d.process.terminate()
        self.assertEqual(d.process.wait(10), 0)
        self.assertFalse(os.path.lexists(usual))


class Notify(unittest.TestCase):
    def test_systemd(self):
        """READY, STATUS, the watchdog and STOPPING, as systemd gets them; priorities in the log."""
        d = dt.Daemon()
        self.addCleanup(d.stop)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(d.path("notify"))
        sock.settimeout(10)
        d.env.update(NOTIFY_SOCKET=d.path("notify"), WATCHDOG_USEC="1000000")
        d.start()
        seen = []
        while not {"READY=1", "WATCHDOG=1"} <= set(seen) or not any("STATUS=" in s for s in seen):
            seen.append(sock.recv(1000).decode())
        self.assertIn("local clients (no isolation)", [s for s in seen if "STATUS=" in s][0])
        d.process.send_signal(signal.SIGHUP)
        while not sock.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC="):
            pass
        while sock.recv(1000) != b"READY=1":
            pass
        dt.wait_for(lambda: "was read again: 0 changes" in d.log())
        d.process.terminate()
        while sock.recv(1000) != b"STOPPING=1":
            pass
        self.assertEqual(d.process.wait(10), 0)
        self.assertFalse(os.path.exists(d.path("control.sock")))

    def test_journal(self):
        d = dt.Daemon()
        self.addCleanup(d.stop)
        with open(d.path("log"), "w") as f:
            st = os.fstat(f.fileno())
        d.env["JOURNAL_STREAM"] = "%d:%d" % (st.st_dev, st.st_ino)
        d.start()
        for line in d.log().splitlines():
            self.assertRegex(line, r"^<[3-7]>[a-zA-Z/]")


dt.main()
