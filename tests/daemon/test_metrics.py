# SPDX-License-Identifier: BSD-3-Clause
"""Metrics: both text formats against others' parsers, values against `stats`, HTTP against all."""
import datetime
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest

import daemontest as dt

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(address, request, timeout=20):
    """All that comes back; an empty answer when it was cut off."""
    with socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX) as s:
        s.settimeout(timeout)
        s.connect(address)
        answer = b""
        try:
            s.sendall(request)
            while True:
                part = s.recv(65536)
                if not part:
                    return answer
                answer += part
        except (ConnectionResetError, BrokenPipeError):
            return answer


def get(address, path="/metrics", accept=None, method="GET"):
    """(status, headers, body)"""
    text = "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (
        method, path, "Accept: %s\r\n" % accept if accept else "")
    head, _, body = ask(address, text.encode()).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert method == "HEAD" or int(headers["Content-Length"]) == len(body), headers
    return int(lines[0].split()[1]), headers, body.decode()


def parse(text):
    """{(name, frozenset of labels): value}; each is there once."""
    samples = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(r'([a-z_]+)(?:\{(.*)\})? (-?\d+(?:\.\d+)?)', line).groups()
        key = (name, frozenset(re.findall(r'([a-z_]+)="([^"]*)"', labels or "")))
        assert key not in samples, line
        samples[key] = float(value) if "." in value else int(value)
    return samples


class Metrics(dt.DaemonCase):
    def setUp(self):
        self.tcp = ("127.0.0.1", free_port())
        self.config = dt.TWO_PORTS + "metrics = { port = %d; };\n" % self.tcp[1]
        super().setUp()
        self.unix = self.d.path("metrics.sock")

    def traffic(self):
        rx = self.spawn(dt.GEN, "-t", self.d.spec("b"), "--rx", "-n", "500", "-T", "20",
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        dt.wait_for(lambda: self.d.call("port.show", name="b")["link"])
        for args in (["--dst", self.d.call("port.show", name="b")["mac"], "-n", "500"],
                     ["--src", "02:00:00:00:99:99", "-n", "64"]):
            subprocess.run([dt.GEN, "-t", self.d.spec("a"), "--tx"] + args,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        rx.wait(60)
        time.sleep(0.2)     # a text lives for 100 ms

    @unittest.skipUnless(shutil.which("promtool"), "no promtool: see lab/setup.sh")
    def test_promtool(self):
        self.traffic()
        text = get(self.unix)[2]
        r = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        self.assertEqual((r.returncode, r.stdout), (0, ""))
        # It does find fault with what is wrong.
        r = subprocess.run(["promtool", "check", "metrics"], input=text.replace("_total", ""),
                           text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        self.assertNotEqual(r.returncode, 0)

    def test_openmetrics(self):
        self.traffic()
        status, headers, text = get(self.unix, accept=OPENMETRICS + ";q=0.8,text/plain;q=0.5")
        self.assertEqual((status, headers["Content-Type"]), (200, OPENMETRICS))
        script = ("import sys\n"
                  "try: from prometheus_client.openmetrics.parser import text_string_to_metric_families as f\n"
                  "except ImportError: sys.exit(77)\n"
                  "print(sum(len(m.samples) for m in f(sys.stdin.read())))\n")
        r = subprocess.run(["/usr/bin/python3", "-c", script], input=text, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        if r.returncode == 77:
            self.skipTest("no python3-prometheus-client: see lab/setup.sh")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(int(r.stdout), len(parse(text)))
        # The same samples but for the clock and the counters' beginnings, whatever the format.
        plain, samples = parse(get(self.unix)[2]), parse(text)
        clock = ("elisa_uptime_seconds", frozenset())
        created = {k: samples.pop(k) for k in list(samples) if k[0].endswith("_created")}
        self.assertEqual({**samples, clock: 0}, {**plain, clock: 0})
        # Each counter of the switch, its ports and queues has one; those of VMs count from attach on.
        def counters(suffix, keys):
            return {(k[0][:-len(suffix)], k[1]) for k in keys if k[0].endswith(suffix)}
        self.assertEqual(counters("_created", created),
                         {k for k in counters("_total", samples) if not k[0].startswith("elisa_vm_")})
        starts = {dict(k[1])["port"]: v for k, v in samples.items() if k[0] == "elisa_port_start_time_seconds"}
        for key, value in created.items():
            port = dict(key[1]).get("port")
            self.assertEqual(value, starts[port] if port else samples["elisa_start_time_seconds", frozenset()])

    def test_values(self):
        """Every number is that of `stats`, and every number of its ports is there."""
        self.traffic()
        got = parse(get(self.unix)[2])
        stats = json.loads(self.d.ctl("stats", "--json").stdout)

        def value(name, **labels):
            return got.pop((name, frozenset(labels.items())))
        self.assertGreater(stats["ports"]["b"]["rx_frames"], 0)
        self.assertEqual(stats["ports"]["a"]["drops"]["tx-spoofed-source"], 64)
        names = {"tx_frames": "tx_frames", "tx_bytes": "tx_bytes", "rx_frames": "rx_frames",
                 "rx_bytes": "rx_bytes", "tx_unicast": "tx_unicast_frames",
                 "tx_multicast": "tx_multicast_frames", "tx_broadcast": "tx_broadcast_frames",
                 "tx_flooded": "tx_flooded_frames", "tx_calls": "tx_calls",
                 "tx_csum": "tx_checksums", "tx_segmented": "tx_segmented_frames",
                 "tx_segments": "tx_segments", "tx_bells": "tx_bells"}
        for name, port in stats["ports"].items():
            numbers = {k for k, v in port.items() if type(v) is int}
            self.assertEqual(numbers - set(names), set())
            self.assertEqual(value("elisa_port_start_time_seconds", port=name),
                             port["epoch"]["since_us"] / 1e6)
            for key, metric in names.items():
                self.assertEqual(value("elisa_port_%s_total" % metric, port=name), port[key], key)
            self.assertEqual(value("elisa_port_up", port=name), port["link"])
            self.assertEqual(value("elisa_port_info", port=name, transport=port["transport"],
                                   bound_to=port["bound_to"]), 1)
            reasons = [dict(k[1])["reason"] for k in got
                       if k[0] == "elisa_port_drops_total" and ("port", name) in k[1]]
            self.assertGreaterEqual(len(reasons), 18)
            self.assertLessEqual(set(port["drops"]), set(reasons))
            for reason in reasons:
                self.assertEqual(value("elisa_port_drops_total", port=name, reason=reason),
                                 port["drops"].get(reason, 0), reason)
            for q in port["queues"]:
                labels = {"port": name, "queue": str(q["queue"])}
                for key in ("tx_frames", "tx_bytes", "rx_frames", "rx_bytes"):
                    self.assertEqual(value("elisa_queue_%s_total" % key, **labels), q[key])
                self.assertEqual(value("elisa_queue_up", **labels), q["set_up"])
                for reason, n in q["drops"].items():
                    self.assertEqual(value("elisa_queue_drops_total", reason=reason, **labels), n)
        fdb = stats["fdb"]
        for key, name in (("capacity", "capacity"), ("used", "entries"), ("static", "static_entries"),
                          ("learned", "learned_total"), ("moved", "moved_total"),
                          ("aged", "aged_total"), ("full", "full_total")):
            self.assertEqual(value("elisa_fdb_" + name), fdb[key])
        self.assertEqual(value("elisa_kills_total"), 0)
        self.assertEqual(value("elisa_context_ready"), 0)
        self.assertAlmostEqual(value("elisa_uptime_seconds"), stats["uptime_s"], delta=3)
        self.assertEqual(value("elisa_start_time_seconds"), stats["epoch"]["since_us"] / 1e6)
        [[_, version]] = [list(k[1])[0] for k in got if k[0] == "elisa_build_info"]
        self.assertIn(version, subprocess.run([dt.CTL, "--version"], stdout=subprocess.PIPE,
                                              text=True).stdout)
        self.assertEqual([k for k in got if k[0] != "elisa_build_info"], [])

    def test_epochs(self):
        """Each time that counters are 0 again there is another one, and only then."""
        def epoch(name=None):
            stats = self.d.call("stats")
            return (stats["ports"][name] if name else stats)["epoch"]

        def same(e):
            return {k: v for k, v in e.items() if k != "age_s"}
        begin = time.time()
        self.d.call("port.add", name="x", transport="local")
        x, switch = epoch("x"), epoch()
        self.assertAlmostEqual(x["since_us"] / 1e6, begin, delta=5)
        stamp = datetime.datetime.strptime(x["since"], "%Y-%m-%dT%H:%M:%S.%fZ")
        self.assertEqual(stamp.replace(tzinfo=datetime.timezone.utc),
                         datetime.datetime.fromtimestamp(0, datetime.timezone.utc) +
                         datetime.timedelta(microseconds=x["since_us"]))
        self.assertEqual(switch["generation"], self.d.call("status")["generation"])
        self.assertLess(switch["since_us"], x["since_us"])
        self.assertGreaterEqual(switch["age_s"], x["age_s"])
        time.sleep(1.1)
        self.assertIn(epoch("x")["age_s"] - x["age_s"], range(1, 10))
        self.d.call("port.set", name="x", mtu=1400)
        self.d.call("reload")
        self.assertEqual((same(epoch("x")), same(epoch())), (same(x), same(switch)))
        self.assertEqual(same(self.d.call("port.show", name="x")["epoch"]), same(x))
        self.assertIn("generation %08x" % x["generation"], self.d.ctl("port", "show", "x").stdout)
        self.assertIn("generation %08x" % x["generation"], self.d.ctl("stats", "x").stdout)
        self.assertIn("generation %08x" % switch["generation"], self.d.ctl("stats").stdout)
        # A port of the same name is not the same.
        self.d.call("port.del", name="x")
        dt.wait_for(lambda: "x" not in self.d.call("port.list")["ports"])
        self.d.call("port.add", name="x", transport="local")
        again = epoch("x")
        self.assertNotEqual(again["generation"], x["generation"])
        self.assertGreater(again["since_us"], x["since_us"])
        self.d.kill()
        self.d.start()
        for before, after in ((again, epoch("x")), (switch, epoch())):
            self.assertNotEqual(after["generation"], before["generation"])
            self.assertGreater(after["since_us"], before["since_us"])

    def test_client_of_a_port(self):
        self.spawn(dt.GEN, "-t", self.d.spec("b"), "--rx", "-n", "1", "-T", "60",
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        dt.wait_for(lambda: self.d.call("port.show", name="b")["link"])
        time.sleep(0.2)
        got = parse(get(self.unix)[2])
        self.assertEqual(got["elisa_port_up", frozenset({("port", "b")})], 1)
        self.assertEqual(got["elisa_vm_attached",
                             frozenset({("vm", "b"), ("transport", "local (no isolation)")})], 1)

    def test_where(self):
        unix, tcp, ctl = get(self.unix), get(self.tcp), self.d.ctl("metrics")
        self.assertEqual((unix[0], unix[1]["Content-Type"]), (200, PROMETHEUS))
        self.assertEqual(set(parse(unix[2])), set(parse(tcp[2])))
        self.assertEqual(set(parse(unix[2])), set(parse(ctl.stdout)))
        self.assertEqual(os.stat(self.unix).st_mode & 0o777, 0o600)
        with socket.socket() as s, self.assertRaises(ConnectionRefusedError):
            s.connect(("127.0.0.2", self.tcp[1]))

    def test_http(self):
        self.assertEqual(get(self.unix, "/")[0], 404)
        self.assertEqual(get(self.unix, "/metrics?x=1")[0], 200)
        status, headers, body = get(self.unix, method="HEAD")
        self.assertEqual((status, body), (200, ""))
        self.assertGreater(int(headers["Content-Length"]), 1000)
        status, headers, body = get(self.unix, method="POST")
        self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"))
        self.assertTrue(ask(self.unix, b"GET /metrics HTTP/1.0\n\n").startswith(b"HTTP/1.1 200"))
        for request in (b"\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics\r\n\r\n", b"\0\r\n\r\n",
                        b"GET /metrics HTTP/2.0\r\n\r\n", b"GET /metrics FTP/1.1\r\n\r\n"):
            self.assertTrue(ask(self.unix, request).startswith(b"HTTP/1.1 400"), request)
        for request in (b"x" * 8192, b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 20000):
            self.assertTrue(ask(self.unix, request).startswith(b"HTTP/1.1 431"), request[:20])

    def test_byte_by_byte(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.unix)
            for byte in b"GET /metrics HTTP/1.1\r\nAccept: " + OPENMETRICS.encode() + b"\r\n\r\n":
                s.send(bytes([byte]))
            s.settimeout(10)
            self.assertTrue(s.recv(15).startswith(b"HTTP/1.1 200 OK"))

    def test_slow_and_many(self):
        """They hold nobody up: the daemon answers others, and gets rid of them."""
        before = len(os.listdir("/proc/%d/fd" % self.d.process.pid))
        slow = []
        for i in range(100):
            s = socket.socket(socket.AF_UNIX)
            s.connect(self.unix)
            s.send(b"GET /metrics HTTP/1.1\r\n" if i % 2 else b"")
            slow.append(s)
            if i % 10 == 0:
                self.assertEqual(get(self.unix)[0], 200)
                self.assertEqual(get(self.tcp)[0], 200)
                self.assertTrue(self.d.answers())
        self.assertLessEqual(len(os.listdir("/proc/%d/fd" % self.d.process.pid)), before + 17)
        dt.wait_for(lambda: len(os.listdir("/proc/%d/fd" % self.d.process.pid)) <= before, 8)
        for s in slow:
            s.close()

    def test_does_not_read(self):
        """Asks for much, reads nothing, is cut off."""
        for i in range(80):
            self.d.call("port.add", name="p%d" % i, queues=16)
        stuck = []
        for i in range(20):
            s = socket.socket(socket.AF_UNIX)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(self.unix)
            s.send(b"GET /metrics HTTP/1.1\r\n\r\n")
            stuck.append(s)
        self.assertEqual(get(self.unix)[0], 200)
        self.assertTrue(self.d.answers())
        for s in stuck:
            s.close()

    def test_rubbish(self):
        """Requests bent at random: an answer of HTTP or a closed connection, never the daemon's end."""
        rng = random.Random(5)
        good = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: " + OPENMETRICS.encode() + b"\r\n\r\n"
        statuses = set()
        for i in range(1500):
            data = bytearray(good)
            for j in range(rng.randrange(1, 6)):
                at = rng.randrange(len(data))
                kind = rng.randrange(4)
                if kind == 0:
                    data[at] = rng.randrange(256)
                elif kind == 1:
                    del data[at:at + rng.randrange(20)]
                elif kind == 2:
                    data[at:at] = bytes(rng.randrange(256) for k in range(rng.randrange(30)))
                else:
                    data[at:at] = data[at:at + 30] * rng.randrange(1, 40)
                data = data or bytearray(b"x")
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(self.unix)
                s.settimeout(10)
                try:
                    s.sendall(data)
                    if rng.randrange(4):
                        s.shutdown(socket.SHUT_WR)
                        answer = s.recv(12)
                        if answer:
                            self.assertTrue(answer.startswith(b"HTTP/1.1 "), answer)
                            statuses.add(int(answer[9:12]))
                except (ConnectionResetError, BrokenPipeError):
                    pass
        self.assertLessEqual({200, 400, 404, 405}, statuses)
        self.assertEqual(get(self.unix)[0], 200)


class Wrong(unittest.TestCase):
    def refused(self, config, text, code):
        d = dt.Daemon(config=config)
        self.addCleanup(shutil.rmtree, d.dir)
        r = subprocess.run([dt.SAN, "--config", d.config, "--run-dir", d.dir], timeout=30,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertIn(text, r.stdout)
        self.assertEqual(r.returncode, code, r.stdout)

    def test_configuration(self):
        for value, text in (("port = 0", "0"), ("port = 65536", "65536"), ("enable = 1", "enable"),
                            ('socket = "x"', "socket"), ('group = "no-such"', "no-such"),
                            ("sockets = 1", "sockets")):
            self.refused("metrics = { %s; };" % value, text, 78)

    def test_port_taken(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            d = dt.Daemon(config="metrics = { port = %d; };" % s.getsockname()[1])
            self.addCleanup(shutil.rmtree, d.dir)
            r = subprocess.run([dt.SAN, "--config", d.config, "--run-dir", d.dir], timeout=30,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            self.assertIn("Address already in use: set metrics.port to a free one", r.stdout)
            self.assertNotEqual(r.returncode, 0)

    def test_off(self):
        d = dt.Daemon(config=dt.TWO_PORTS + "metrics = { enable = false; };").start()
        self.addCleanup(d.stop)
        self.assertFalse(os.path.exists(d.path("metrics.sock")))
        self.assertIn("elisa_build_info", d.ctl("metrics").stdout)


if __name__ == "__main__":
    dt.main()
