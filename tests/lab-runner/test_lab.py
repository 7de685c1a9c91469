#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Unit tests of the lab's own logic: no emulator needed, except that the agent is compiled and run."""

import contextlib
import fcntl
import io
import json
import os
import pty
import queue
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import tty
import types
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lab"))
sys.dont_write_bytecode = True

from elisalab import console, hosts, images, link, outside, runner, scenario  # noqa: E402
from elisalab.expr import ExprError, evaluate  # noqa: E402
from elisalab.paths import LabError  # noqa: E402
from elisalab.scenario import ScenarioError  # noqa: E402


class Expressions(unittest.TestCase):
    def test_values(self):
        values = {"a": 3, "s": "x", "d": {"p": [{"rx": 7}]}}
        for text, want in [("a == 3", True), ("a * 2 + 1", 7), ("1 < a <= 3", True), ("a in [1, 3]", True),
                           ("'y' not in [s]", True), ("not a == 3", False), ("min(a, 2)", 2),
                           ("len(s) == 1 and max(1, 2) == 2", True), ("d['p'][0]['rx'] == 7", True),
                           ("a > 5 or a < 4", True), ("-a", -3), ("1 if a > 2 else 0", 1)]:
            self.assertEqual(evaluate(text, values), want, text)

    def test_short_circuit(self):
        self.assertFalse(evaluate("a > 0 and b > 0", {"a": 0}))

    def test_refused(self):
        for text in ["__import__('os')", "a.b", "(lambda: 1)()", "open('x')", "[x for x in [1]]", "a :=",
                     "a ** 9", "nobody", "1 / 0", "f'{a}'", "len(a=1)"]:
            with self.assertRaises(ExprError, msg=text):
                evaluate(text, {"a": 3})

    def test_unknown_name_lists_known_ones(self):
        with self.assertRaisesRegex(ExprError, "nothing captured 'los'.*loss"):
            evaluate("los == 0", {"loss": 1})


class Framing(unittest.TestCase):
    def test_round_trip_of_every_byte(self):
        payload = bytes(range(256)) * 3
        wire = link.encode("O", 9, 0xC0DB, payload)
        self.assertEqual(link.Decoder().feed(wire), [("O", 9, 0xC0DB, payload)])

    def test_any_split(self):
        wire = link.encode("O", 1, 2, b"\xc0\xdb\xdc\xdd") + link.encode("X", 0, 2, b"e\x00")
        for cut in range(len(wire)):
            d = link.Decoder()
            self.assertEqual(len(d.feed(wire[:cut]) + d.feed(wire[cut:])), 2, cut)

    def test_lost_byte_drops_one_frame_only(self):
        one, two = link.encode("O", 0, 1, b"hello"), link.encode("O", 0, 1, b"world")
        d = link.Decoder()
        self.assertEqual(d.feed(one[:5] + one[6:] + two), [("O", 0, 1, b"world")])
        self.assertEqual(d.dropped, 1)

    def test_too_long(self):
        with self.assertRaises(ValueError):
            link.encode("R", 0, 0, b"x" * (link.LINK_MAX + 1))

    def test_known_checksum(self):
        self.assertEqual(link.crc16(b"123456789"), 0x29B1)  # CRC-16/CCITT-FALSE check value


class FlakyAgent(threading.Thread):
    """The far side of an AgentLink that ignores the first `deaf` commands."""

    def __init__(self, sock, deaf):
        super().__init__(daemon=True)
        self.sock, self.deaf, self.seen = sock, deaf, []

    def run(self):
        decoder = link.Decoder()
        while len(self.seen) <= self.deaf:
            for frame in decoder.feed(self.sock.recv(4096)):
                self.seen.append(frame)
                if len(self.seen) > self.deaf:
                    self.sock.sendall(link.encode("A", frame[1], frame[2]))


class Acknowledgements(unittest.TestCase):
    def setUp(self):
        ours, theirs = socket.socketpair()
        self.ours, self.theirs = ours, theirs
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)

    def test_repeats_until_acknowledged(self):
        agent = FlakyAgent(self.theirs, 2)
        agent.start()
        with mock.patch.object(link.AgentLink, "ACK_TIMEOUT", 0.05):
            link.AgentLink(self.ours).command("K", 1, b"\x0f")
        self.assertEqual(len(agent.seen), 3)
        self.assertEqual(len({f[1] for f in agent.seen}), 1, "a repeat keeps its sequence number")

    def test_gives_up(self):
        with mock.patch.multiple(link.AgentLink, ACK_TIMEOUT=0.01, TRIES=2):
            with self.assertRaisesRegex(link.LinkDown, "does not answer"):
                link.AgentLink(self.ours).command("K", 1)

    def test_far_end_closed(self):
        agent_link = link.AgentLink(self.ours)
        self.theirs.close()
        with self.assertRaises(link.LinkDown):
            agent_link.command("K", 1)


class Agent(unittest.TestCase):
    """The real agent, on a pseudo terminal instead of an emulated serial line."""

    @classmethod
    def setUpClass(cls):
        cls.tmp = tempfile.TemporaryDirectory()
        cls.agent = Path(cls.tmp.name) / "lab-agent"
        sources = sorted(str(p) for p in (ROOT / "lab/agent").glob("*.c"))
        subprocess.run(["gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror",
                        "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined",
                        "-o", cls.agent, *sources], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.tmp.cleanup()

    def setUp(self):
        master, slave = pty.openpty()
        # The link code wants a socket: splice the terminal to one.
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen([self.agent, "guest", os.ttyname(slave)], stderr=subprocess.PIPE)
        self.copiers = [threading.Thread(target=self.copy, args=pair, daemon=True) for pair in [
            (lambda: os.read(master, 4096), theirs.sendall),
            (lambda: theirs.recv(4096), lambda d: os.write(master, d))]]
        for thread in self.copiers:
            thread.start()
        self.master, self.slave = master, slave
        self.socks = [ours, theirs]
        self.link = link.AgentLink(ours)
        self.assertTrue(self.link.hello.wait(20))

    @staticmethod
    def copy(read, write):
        try:
            while data := read():
                write(data)
        except OSError:
            pass

    def tearDown(self):
        self.process.kill()
        self.process.communicate()
        os.close(self.slave)
        for s in self.socks:
            s.shutdown(socket.SHUT_RDWR)
        for thread in self.copiers:
            thread.join(10)  # before its descriptors' numbers mean something else
        for s in self.socks:
            s.close()
        os.close(self.master)

    def finish(self, job, limit=20):
        out = b""
        while True:
            kind, value = job.events.get(timeout=limit)
            if kind != "out":
                return value, out
            out += value

    def test_status_and_output(self):
        self.assertEqual(self.finish(self.link.run("echo out; echo err >&2; exit 7")), (7, b"out\nerr\n"))

    def test_signal_status(self):
        self.assertEqual(self.finish(self.link.run("kill -9 $$"))[0], 137)

    def test_all_bytes(self):
        status, out = self.finish(self.link.run(
            "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done"))
        self.assertEqual((status, out), (0, bytes(range(256))))

    def test_stdin(self):
        job = self.link.run("cat; echo end", link.RUN_STDIN)
        job.stdin(b"abc\xc0\n")
        job.stdin(b"")
        self.assertEqual(self.finish(job), (0, b"abc\xc0\nend\n"))

    def test_concurrent_jobs(self):
        jobs = [self.link.run(f"sleep 0.{9 - n}; echo {n}; exit {n}") for n in range(5)]
        for n, job in enumerate(jobs):
            self.assertEqual(self.finish(job), (n, b"%d\n" % n))

    def test_a_daemon_left_behind_does_not_delay_the_status(self):
        began = time.monotonic()
        self.assertEqual(self.finish(self.link.run("sleep 30 & echo on")), (0, b"on\n"))
        self.assertLess(time.monotonic() - began, 10)

    def test_kill(self):
        job = self.link.run("sleep 60")
        time.sleep(0.2)
        job.signal(signal.SIGTERM)
        self.assertEqual(self.finish(job)[0], 143)

    def test_terminal(self):
        status, out = self.finish(self.link.run("tty; stty size", link.RUN_PTY, (33, 99)))
        self.assertEqual(status, 0)
        self.assertRegex(out, rb"/dev/pts/\d+\r\n33 99\r\n")

    def test_output_is_bounded(self):
        status, out = self.finish(self.link.run("head -c 3000000 /dev/zero"), 60)
        self.assertEqual(status, 0)
        self.assertLess(len(out), 1100000)
        self.assertIn(b"further output dropped", out)

    def test_more_jobs_than_slots(self):
        jobs = [self.link.run("sleep 60") for _ in range(64)]
        self.assertEqual(self.finish(self.link.run("true"))[0], 126)
        jobs[5].signal(signal.SIGKILL)
        self.assertEqual(self.finish(jobs[5])[0], 137)
        self.assertEqual(self.finish(self.link.run("exit 3"))[0], 3)

    def test_guestd_tells_how_its_machine_ended(self):
        """A program that ends at once stands for QEMU: the inherited link cannot be opened by name."""
        run = Path(self.tmp.name) / "g"
        run.mkdir(exist_ok=True)
        keeper = subprocess.Popen([self.agent, "guestd", run, self.agent, "guest", "/proc/self/fd/{fd}"],
                                  stderr=subprocess.DEVNULL)
        keeper.wait(20)
        self.assertEqual((run / "status").read_text(), "exit 1\n")
        p = subprocess.run([self.agent, "exec", run / "sock", "true"], capture_output=True, text=True,
                           check=False)
        self.assertEqual(p.returncode, 255)
        self.assertIn("no running guest", p.stderr)

    def test_guestd_follows_a_guest_that_others_start(self):
        """An agent at the other end of the socket stands for libvirt's QEMU: it comes late, ends, comes back."""
        run = Path(self.tmp.name) / "adopted"
        run.mkdir()
        keeper = subprocess.Popen([self.agent, "guestd", run, "--socket", run / "qemu"])
        self.addCleanup(lambda: (keeper.kill(), keeper.wait()))

        def client(command):
            while not (run / "sock").exists():
                time.sleep(0.02)
            return subprocess.Popen(["timeout", "30", self.agent, "exec", run / "sock", command],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

        for life in [b"first\n", b"second\n"]:
            early = client(f"echo {life.decode()}")
            time.sleep(0.4)
            (run / "qemu").unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(run / "qemu"))
                listener.listen()
                listener.settimeout(20)
                sock, _ = listener.accept()
            guest = subprocess.Popen([self.agent, "guest", "/dev/stdin"], stdin=self.bridge(sock))
            self.assertEqual((early.communicate()[0], early.returncode), (life, 0))
            late = client("sleep 60")
            time.sleep(0.4)
            sock.shutdown(socket.SHUT_RDWR)
            self.addCleanup(sock.close)
            self.assertEqual((late.communicate()[0], late.returncode), (b"", 255))
            guest.kill()
            guest.wait()

    def bridge(self, sock):
        """A terminal that is the other end of a socket (an agent opens its device by name)."""
        master, slave = pty.openpty()
        tty.setraw(slave)

        def relay(read, write):
            try:
                while data := read(65536):
                    write(data)
            except OSError:
                pass

        for ends in [(sock.recv, lambda d: os.write(master, d)), (lambda n: os.read(master, n), sock.sendall)]:
            threading.Thread(target=relay, args=ends, daemon=True).start()
        self.addCleanup(os.close, slave)
        return slave

class Scenarios(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.dir = Path(tmp.name)

    def load(self, text, name="s.toml", **overrides):
        (self.dir / name).write_text(textwrap.dedent(text))
        return scenario.load(self.dir / name, overrides)

    def refused(self, text, message):
        with self.assertRaisesRegex(ScenarioError, message):
            self.load(text)

    def test_shipped_scenarios_load(self):
        self.assertIn("selftest", scenario.all_names())
        for name in scenario.all_names():
            self.assertTrue(scenario.load(scenario.find(name)).description, name)

    def test_for_unrolls(self):
        s = self.load("""
            [[step]]
            for = { n = [1, 2], m = ["x", "y"] }
            name = "{{n}}{{m}}"
            run = "echo {{n}} {{later}}"
            capture = { "v_{{n}}" = '(\\d)' }
        """)
        self.assertEqual([t["name"] for t in s.steps], ["1x", "2y"])
        self.assertEqual(s.steps[1]["run"], "echo 2 {{later}}")
        self.assertIn("v_2", s.steps[1]["capture"])

    def test_include_and_variables(self):
        (self.dir / "base.toml").write_text('[vars]\nip = "1"\nmtu = 9\n[[guest]]\nname = "a"\n'
                                            '[[step]]\nrun = "first"\n')
        (self.dir / "part.toml").write_text('[[step]]\nrun = "ping {{to}}"\n')
        s = self.load("""
            include = "base.toml"
            [vars]
            ip = "2"
            [[step]]
            include = "part.toml"
            with = { to = "b" }
        """, mtu=5)
        self.assertEqual([t["run"] for t in s.steps], ["first", "ping b"])
        self.assertEqual(s.vars, {"ip": "2", "mtu": 5})
        self.assertEqual(s.guests, [{"name": "a"}])

    def test_include_cycle(self):
        (self.dir / "x.toml").write_text('include = "x.toml"\n')
        with self.assertRaisesRegex(ScenarioError, "includes itself"):
            scenario.load(self.dir / "x.toml")

    def test_mistakes_are_named(self):
        self.refused("[[step]]\nrunn = 'x'\n", "unknown key 'runn'")
        self.refused("[[step]]\nname = 'x'\n", "exactly one of")
        self.refused("[[step]]\nrun = 'x'\nsleep = 1\n", "exactly one of")
        self.refused("[[step]]\nrun = 'x'\non = 'z'\n", "neither 'host' nor a guest")
        self.refused("[[step]]\nstart_guest = 'z'\n", "no guest 'z'")
        self.refused("[[step]]\nrun = 'x'\nexpect = '('\n", "expect")
        self.refused("[[step]]\nrun = 'x'\ncapture = { a = 'x' }\n", "no group")
        self.refused("[[step]]\nrun = 'x'\nbackground = true\n", "needs as")
        self.refused("[[guest]]\nname = 'A b'\n", "needs a name")
        self.refused("[[guest]]\nname = 'a'\nmemory = 'x'\n", "must be of type int")
        self.refused("[[guest]]\nname = 'a'\n[[guest]]\nname = 'a'\n", "same name")
        self.refused("[host]\nmemory = 9000\n", "256 to 2048")
        self.refused("[host]\nnic = 3\n", "0 to 2 cards")
        self.refused("[host]\ncapture = 96\n", "needs nic")
        self.refused("[host]\nclock = 'fast'\n", "none or slowdown")
        self.refused("[host]\ninit = 'runit'\n", "agent or systemd")
        self.refused("[[step]]\nrun = 'x'\non = 'outside'\n", r"'outside' needs \[host\] nic")
        self.refused("[[guest]]\nname = 'outside'\n", "needs a name")
        self.refused("a = \n", "s.toml")
        self.refused("[[report]]\ncolumns = ['a']\nrows = [['1', '2']]\n", "does not fit")

    def test_select(self):
        data = {"ports": [{"rx": 4}]}
        self.assertEqual(scenario.select(data, "ports.0.rx"), 4)
        self.assertEqual(scenario.select(data, "."), data)
        with self.assertRaisesRegex(KeyError, "no 'tx'"):
            scenario.select(data, "ports.0.tx")

    def test_number(self):
        self.assertEqual([scenario.number(t) for t in ["5", "0.5", "02:00:aa"]], [5, 0.5, "02:00:aa"])


class ShellHost(hosts.NativeHost):
    """Runs scenario steps on this machine, without guests, images or root."""

    def __init__(self, run_dir):
        super().__init__(run_dir, None)
        self.run_dir_inside = str(run_dir)
        self.env = dict(os.environ)

    def boot(self, timeout=0):
        pass

    def shutdown(self):
        pass


class Running(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.dir = Path(tmp.name)

    def run_steps(self, text, log=""):
        path = self.dir / "s.toml"
        path.write_text(textwrap.dedent(text))
        self.run_ = runner.Run(scenario.load(path), ShellHost(self.dir), self.dir, False)
        self.run_.line = self.run_.show_output = lambda *a: None
        (self.dir / "console.log").write_text(log)
        real = self.run_.execute

        def execute(command, timeout, on="host"):
            return console.Result(0) if command.startswith("journalctl") else real(command, timeout, on)
        self.run_.execute = execute
        return self.run_.run()

    def why(self):
        return " ".join(r.why for r in self.run_.results if not r.ok)

    def test_success(self):
        self.assertTrue(self.run_steps("""
            [vars]
            word = "tree"
            [[step]]
            run = "echo {{word}} n=5"
            expect = ["^tree", "n="]
            reject = "bush"
            capture = { n = 'n=(\\d+)' }
            check = ["n == 5", "n in [4, 5]"]
            [[step]]
            run = "exit {{n}}"
            expect_exit = 5
            [[report]]
            title = "T"
            columns = ["what", "n", "none"]
            rows = [["{{word}}", "=n * 2", "=missing"]]
        """), self.why_or_none())
        self.assertEqual(self.run_.tables[0]["rows"], [["tree", 10, "-"]])
        result = json.loads(json.dumps(self.run_.result(True)))
        self.assertEqual(result["values"], {"n": 5})

    def why_or_none(self):
        return self.why() if hasattr(self, "run_") else ""

    def fails(self, text, message, log=""):
        self.assertFalse(self.run_steps(text, log), "a failing step must fail the run")
        self.assertRegex(self.why(), message)

    def test_every_kind_of_failure_fails(self):
        self.fails("[[step]]\nrun = 'exit 3'\n", "exit status 3, expected 0")
        self.fails("[[step]]\nrun = 'true'\nexpect_exit = 3\n", "exit status 0, expected 3")
        self.fails("[[step]]\nrun = 'echo a'\nexpect = 'b'\n", "no match of /b/")
        self.fails("[[step]]\nrun = 'echo a'\nreject = 'a'\n", "has 'a'")
        self.fails("[[step]]\nrun = 'echo a'\ncapture = { x = '(\\d)' }\n", "capture x")
        self.fails("[[step]]\nrun = 'echo 1'\ncapture = { x = '(\\d)' }\ncheck = 'x > 1'\n",
                   r"check failed: x > 1 +\(x = 1\)")
        self.fails("[[step]]\ncheck = 'y > 1'\n", "nothing captured 'y'")
        self.fails("[[step]]\nrun = 'echo {{y}}'\n", "has no value")
        self.fails("[[step]]\nrun = 'echo {'\nparse = 'json'\n", "not JSON")
        self.fails("[[step]]\nrun = 'sleep 60'\ntimeout = 0.3\n", "did not end within")
        self.fails("[[step]]\nwait = 'nobody'\n", "no background step")

    def test_json(self):
        self.assertTrue(self.run_steps("""
            [[step]]
            run = "echo '{\\"a\\": [{\\"b\\": 3}]}'"
            parse = "json"
            capture = { b = "a.0.b", all = "." }
            check = ["b == 3", "len(all['a']) == 1"]
        """), self.why_or_none())

    def test_stops_after_a_failure_but_for_always(self):
        self.fails("""
            [[step]]
            run = "false"
            [[step]]
            run = "touch %s/no"
            [[step]]
            run = "touch %s/yes"
            always = true
        """ % (self.dir, self.dir), "exit status 1")
        self.assertTrue((self.dir / "yes").exists())
        self.assertFalse((self.dir / "no").exists())

    def test_background_is_judged_when_waited_for(self):
        text = """
            [[step]]
            run = "sleep 0.2; echo late; exit {status}"
            background = true
            as = "bg"
            expect = "late"
            capture = { when = "(l..e)" }
            check = "when == 'late'"
            [[step]]
            wait = "bg"
        """
        self.assertTrue(self.run_steps(text.replace("{status}", "0")), self.why_or_none())
        self.fails(text.replace("{status}", "4"), "exit status 4")

    def test_retries(self):
        self.assertTrue(self.run_steps("""
            [[step]]
            run = "echo x >>%s/tries; test $(wc -l <%s/tries) = 3"
            retries = 5
            delay = 0
        """ % (self.dir, self.dir)), self.why_or_none())
        self.assertEqual((self.dir / "tries").read_text(), "x\n" * 3)

    def test_when(self):
        self.assertTrue(self.run_steps("[vars]\nn = 1\n[[step]]\nrun = 'false'\nwhen = 'n > 1'\n"),
                        self.why_or_none())

    def test_kernel_warnings_fail_the_run(self):
        for line in ["[ 1.0] WARNING: CPU: 0 PID: 1 at x.c:1", "[ 1.0] BUG: scheduling while atomic",
                     "[ 1.0] Call Trace:", "[ 1.0] rcu: INFO: rcu_preempt self-detected stall on CPU"]:
            self.fails("[[step]]\nrun = 'true'\n", ".", line + "\n")
        self.assertTrue(self.run_steps('[host]\nallow_log = ["at x.c:1"]\n[[step]]\nrun = "true"\n',
                                       "WARNING: CPU: 0 PID: 1 at x.c:1\n"), self.why_or_none())
        self.assertTrue(self.run_steps('[[step]]\nrun = "true"\n', "[Firmware Bug]: TSC\nreport a bug\n"))

    def test_host_death_fails_the_run(self):
        with mock.patch.object(ShellHost, "start", side_effect=hosts.HostDied("Bochs ended")):
            self.fails("[[step]]\nrun = 'true'\n", "Bochs ended")

    def test_needs(self):
        args = types.SimpleNamespace(native=False)
        (self.dir / "bin").mkdir()
        (self.dir / "bin/x").touch()
        self.assertEqual(runner.missing_need("file:bin/x", args, self.dir), "")
        self.assertIn("no bin/y", runner.missing_need("file:bin/y", args, self.dir))
        self.assertEqual(runner.missing_need("lab", args, None), "")
        self.assertIn("native", runner.missing_need("native", args, None))
        self.assertIn("no program", runner.missing_need("tool:no-such-thing", args, None))
        with self.assertRaises(ScenarioError):
            runner.missing_need("moon", args, None)

    def test_begun_too_late(self):
        args = types.SimpleNamespace(begin_by=time.monotonic() - 1, begin_within=40.4, native=False)
        scen = types.SimpleNamespace(name="x", needs=["file:bin/y"], host={})
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.assertEqual(runner.run_one(scen, args, self.dir, "x: "), runner.SKIP)
            args.begin_by = float("inf")
            self.assertEqual(runner.run_one(scen, args, self.dir, "x: "), runner.SKIP)
        # lab/test counts these lines.
        self.assertEqual(said.getvalue(), "x: SKIP x: not begun within 40 minutes\nx: SKIP x: the project has no bin/y\n")

    def test_table(self):
        text = runner.format_table({"title": "T", "columns": ["who", "n"], "rows": [["a", 5], ["bb", 10]]})
        self.assertEqual(text.splitlines(), ["T", "  who   n", "  ---  --", "  a     5", "  bb   10"])


class Captures(unittest.TestCase):
    """pcap-check, with good frames and broken ones."""

    # ARP request; ICMP echo; TCP SYN; UDP of odd length; UDP over IPv6. Made by a kernel.
    GOOD = [bytes.fromhex(text) for text in [
        "ffffffffffff02000000000108060001080006040001020000000001c0000201000000000000c0000203",
        "0200000000020200000000010800450000259ec940004001180bc0000201c00002020800b5592e9500010001020304050607"
        "08",
        "02000000000202000000000108004500003c8f8c40004006272cc0000201c00002029ca60063d713297800000000a002faf0"
        "64390000020405b40402080aa0f92640000000000103030a",
        "02000000000202000000000108004500001f011440004011b5b6c0000201c0000202976b0009000b10fb6f6464",
        "02000000000202000000000186dd60093243000d114020010db800000000000000000000000120010db80000000000000000"
        "00000002d62b0009000d8a5868656c6c6f"]]

    def check(self, frames, kept=None):
        with tempfile.NamedTemporaryFile(suffix=".pcap") as f:
            f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
            for frame in frames:
                data = frame[:kept]
                f.write(struct.pack("<IIII", 0, 0, len(data), len(frame)) + data)
            f.flush()
            done = subprocess.run([ROOT / "lab/outside/pcap-check", f.name], capture_output=True, text=True,
                                  check=False)
        return done.returncode, json.loads(done.stdout)

    def test_good(self):
        status, said = self.check(self.GOOD)
        self.assertEqual((status, said["frames"], said["bad"], said["why"]), (0, 5, 0, []))
        for what, n in {"arp": 1, "ipv4": 3, "ipv6": 1, "icmp": 1, "tcp": 1, "udp": 2, "other": 0}.items():
            self.assertEqual(said[what], n, what)
        self.assertEqual(sum(said["pairs"].values()), 5)

    def test_every_changed_byte_is_seen(self):
        broken = []
        for frame in self.GOOD[1:]:
            # of IPv6's header only lengths and addresses are in a checksum
            places = [18, 19, *range(22, len(frame))] if frame[12] == 0x86 else range(14, len(frame))
            broken += [frame[:at] + bytes([frame[at] ^ 0x10]) + frame[at + 1:] for at in places]
        status, said = self.check(broken)
        self.assertEqual((status, said["bad"]), (1, len(broken)), said)

    def test_padding_is_no_part_and_cut_frames_are_not_judged(self):
        self.assertEqual(self.check([self.GOOD[2] + bytes(6)])[0], 0)
        self.assertEqual(self.check([self.GOOD[2][:-1]])[0], 1)
        status, said = self.check([self.GOOD[2]], kept=40)
        self.assertEqual((status, said["cut"], said["tcp"]), (0, 1, 0))


@unittest.skipIf(outside.obstacle(), outside.obstacle())
class TheOutside(unittest.TestCase):
    """The namespace at the other end of the emulated host's NICs; here a TAP of this process is one."""

    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.dir = Path(tmp.name)

    @staticmethod
    def open_tap(name):
        fd = os.open("/dev/net/tun", os.O_RDWR)
        flags = 0x1002  # IFF_TAP | IFF_NO_PI (linux/if_tun.h)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))  # TUNSETIFF
        return fd

    def job(self, out, command):
        job = hosts.NativeJob(out.argv("sh", "-c", command), dict(os.environ))
        return console.finish(mock.Mock(), job, 20)

    def test_frames_commands_and_capture(self):
        out = outside.Outside(self.dir / "outside", 1)
        try:
            tap = self.open_tap(out.taps[0])
            self.addCleanup(os.close, tap)
            out.adopt(lambda: None)
            out.capture(65535)
            self.assertIn("up0", self.job(out, "ip -br link").output)
            self.assertNotIn("up0", os.listdir("/sys/class/net"))
            # gratuitous ARP, which the other end of the TAP gets
            self.job(out, "ip addr add 192.0.2.1/24 dev up0; ping -c 1 -W 1 192.0.2.2")
            frame = os.read(tap, 2048)
            self.assertEqual((frame[:6], frame[6:12]), (b"\xff" * 6, bytes.fromhex("02000000ff00")))
            pcap = self.dir / "outside/up0.pcap"
            deadline = time.monotonic() + 10
            while frame not in pcap.read_bytes() and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertIn(frame, pcap.read_bytes())
            self.assertEqual(self.job(out, "exit 3").status, 3)
        finally:
            out.close()

    def test_nothing_stays(self):
        out = outside.Outside(self.dir / "outside", 1)
        os.close(self.open_tap(out.taps[0]))  # an emulator that ended at once
        self.job(out, "setsid sleep 1000 >/dev/null 2>&1 &")
        space = os.readlink(f"/proc/{out.pid}/ns/pid")
        self.assertGreaterEqual(self.processes(space), 3)
        out.close()
        deadline = time.monotonic() + 10
        while self.processes(space) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.processes(space), 0)

    @staticmethod
    def processes(space):
        found = 0
        for link in Path("/proc").glob("[0-9]*/ns/pid"):
            try:
                found += os.readlink(link) == space
            except OSError:
                pass  # it ended
        return found

    def test_an_emulator_without_tap_is_told(self):
        out = outside.Outside(self.dir / "outside", 1)
        self.addCleanup(out.close)
        with self.assertRaisesRegex(LabError, "does not open its TAP"):
            out.adopt(lambda: None, timeout=0.2)

    def test_two_have_different_names(self):
        one, two = (outside.Outside(self.dir / name, 2) for name in "ab")
        self.addCleanup(one.close)
        self.addCleanup(two.close)
        self.assertEqual(len({*one.taps, *two.taps}), 4)
        self.assertLess(max(map(len, one.taps + two.taps)), 16)  # IFNAMSIZ


class Native(unittest.TestCase):
    def obstacle(self, cpuinfo, root=True):
        with mock.patch.object(Path, "read_text", return_value=cpuinfo), \
                mock.patch("os.geteuid", return_value=0 if root else 1000), \
                mock.patch("os.path.exists", return_value=True), \
                mock.patch("shutil.which", return_value="/usr/bin/qemu-system-x86_64"):
            return hosts.native_obstacle()

    def test_refusals(self):
        self.assertIn("without --native", self.obstacle("flags\t\t: fpu vme\n"))
        self.assertIn("without --native", self.obstacle("flags\t\t: fpu vmx\nvmx flags\t: vnmi\n"))
        good = "flags\t\t: fpu vmx\nvmx flags\t: vnmi ept vpid\n"
        self.assertEqual(self.obstacle(good), "")
        self.assertIn("root", self.obstacle(good, root=False))


class Images(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.dir = Path(tmp.name)
        patcher = mock.patch.dict(os.environ, ELISA_LAB_DIR=str(self.dir / "lab"))
        patcher.start()
        self.addCleanup(patcher.stop)

    def test_recipe_hash(self):
        f = self.dir / "f"
        f.write_text("1")
        first = images.recipe_hash(["a", "bc"], f)
        self.assertEqual(first, images.recipe_hash(["a", "bc"], f))
        self.assertNotEqual(first, images.recipe_hash(["ab", "c"], f))
        f.write_text("2")
        self.assertNotEqual(first, images.recipe_hash(["a", "bc"], f))

    def test_an_image_is_built_once(self):
        def fake(directory, image, label, spare_mib=16):
            image.write_text(label)
        kernel = self.dir / "k"
        (kernel / "lib/modules/1").mkdir(parents=True)
        with mock.patch.multiple(images, bootstrap=mock.DEFAULT, unpack_kernel=mock.DEFAULT,
                                 make_ext4=mock.DEFAULT, say=mock.DEFAULT) as m:
            m["unpack_kernel"].return_value = kernel
            m["make_ext4"].side_effect = fake
            one = images.build_root("host", ["p"], [], False, "1")
            two = images.build_root("host", ["p"], [], False, "1")
            self.assertEqual((one, m["bootstrap"].call_count), (two, 1))
            three = images.build_root("host", ["p", "q"], [], False, "1")
            self.assertNotEqual(one, three)
            self.assertEqual(m["bootstrap"].call_count, 2)
            for n in range(4):
                path = images.build_root("host", [str(n)], [], False, "1")
                self.assertTrue(path.exists())
                os.utime(path, (n + 2000000000, n + 2000000000))
            self.assertFalse(one.exists(), "outdated images are removed")

    def test_signature_is_cut(self):
        module = self.dir / "m.ko"
        body = b"\x7fELFbody"
        module.write_bytes(body + b"S" * 20 + bytes(8) + (20).to_bytes(4, "big") + images.SIGNED)
        images.lighten(module)
        self.assertEqual(module.read_bytes(), body)
        images.lighten(module)
        self.assertEqual(module.read_bytes(), body)

    def test_plain_kernel_leaves_the_unknown_alone(self):
        self.assertEqual(images.plain_kernel(bytes(4096)), bytes(4096))

    def test_failed_tool_is_told(self):
        with self.assertRaisesRegex(LabError, "status 3"):
            images.run(["sh", "-c", "echo why; exit 3"])


class Death(unittest.TestCase):
    def test_panic_and_end_of_the_emulator(self):
        with tempfile.TemporaryDirectory() as tmp:
            host = hosts.LabHost(Path(tmp), None)
            host.process = subprocess.Popen(["sleep", "60"], start_new_session=True)
            host.check_alive()
            (Path(tmp) / "console.log").write_text("[1] Kernel panic - not syncing: sysrq\r\n")
            with self.assertRaisesRegex(hosts.HostDied, "not syncing: sysrq"):
                host.check_alive()
            self.assertIsNotNone(host.process.poll(), "the emulator was ended")
            with self.assertRaisesRegex(hosts.HostDied, "not syncing: sysrq"):
                host.check_alive()  # and it stays dead, for the same reason
            host.why_dead = None
            (Path(tmp) / "console.log").unlink()
            (Path(tmp) / "bochs.log").write_text("001p[CPU0] >>PANIC<< exception(): 3rd\n")
            with self.assertRaisesRegex(hosts.HostDied, "3rd"):
                host.check_alive()

    def test_a_job_that_nothing_ends(self):
        job = types.SimpleNamespace(events=queue.Queue(), signal=lambda n: None)
        host = mock.Mock()
        host.declare_dead.side_effect = hosts.HostDied("stuck")
        begun = time.monotonic()
        real = time.monotonic
        with mock.patch("time.monotonic", side_effect=lambda: begun + (real() - begun) * 20):
            with self.assertRaises(hosts.HostDied):
                console.finish(host, job, 0.1)


if __name__ == "__main__":
    unittest.main()
