# SPDX-License-Identifier: BSD-3-Clause
"""Events: to subscribers, to `elisactl events`, and to the journal with their fields."""
import json
import os
import socket
import subprocess
import time
import unittest

import daemontest as dt


class Events(dt.DaemonCase):
    def subscribe(self):
        rpc = self.d.rpc()
        self.addCleanup(rpc.close)
        self.assertEqual(rpc.call("events.subscribe"), {})
        return rpc

    def next(self, rpc, event, **fields):
        """The next one of that kind; others may come between."""
        while True:
            message = rpc.line()
            self.assertEqual((message["jsonrpc"], message["method"]), ("2.0", "event"))
            self.assertNotIn("id", message)
            got = message["params"]
            if got["event"] == event and all(got.get(k) == v for k, v in fields.items()):
                return got

    def test_subscribed(self):
        rpc, other = self.subscribe(), self.d.rpc()
        self.addCleanup(other.close)
        self.d.call("port.add", name="new", transport="local")
        got = self.next(rpc, "port-changed", port="new")
        self.assertEqual((got["reason"], got["priority"], got["text"]),
                         ("added", "info", "port new added"))
        self.d.call("port.set", name="new", up=False)
        self.next(rpc, "port-changed", port="new", reason="set")
        self.d.call("port.del", name="new")
        self.next(rpc, "port-changed", port="new", reason="deleted")
        # One who has not asked gets answers only.
        self.assertIn("ports", other.call("port.list"))
        # And one who has may go on asking.
        rpc.id += 1
        rpc.send(json.dumps({"jsonrpc": "2.0", "id": rpc.id, "method": "port.list"}).encode() + b"\n")
        message = rpc.line()
        while "id" not in message:
            message = rpc.line()
        self.assertIn("a", message["result"]["ports"])

    def test_client_and_link(self):
        rpc = self.subscribe()
        rx = self.spawn(dt.GEN, "-t", self.d.spec("b"), "--rx", "-n", "1", "-T", "20",
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.assertIn("(pid %d)" % rx.pid, self.next(rpc, "client", vm="b", reason="joined")["text"])
        self.assertEqual(self.next(rpc, "port-link", port="b")["text"], "port b: link up")
        rx.kill()
        self.next(rpc, "client", vm="b", reason="died")
        self.assertEqual(self.next(rpc, "port-link", port="b")["text"], "port b: link down")

    def test_refused_client(self):
        rpc = self.subscribe()
        subprocess.run([dt.INFO, "-t", self.d.spec("nix")], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=30)
        self.assertIn("there is no port", self.next(rpc, "client", vm="nix", reason="refused")["text"])

    def test_slow_reader(self):
        """It misses events, is told how many, and costs the daemon no more than its bound."""
        rpc = self.subscribe()
        with self.d.rpc() as other:
            for i in range(9000):
                other.call("port.set", name="a", mtu=1500 + i % 2)
        seen = lost = 0
        while seen + lost < 9000:
            got = self.next(rpc, "port-changed")
            seen += 1
            if "lost_before" in got:
                lost += got["lost_before"]
            if seen + lost < 9000 and seen % 4000 == 0:
                # What was lost is told with the next event that fits.
                self.d.call("port.set", name="a", mtu=1500)
                lost -= 1
        self.assertGreater(lost, 0)
        self.assertTrue(self.d.answers())

    def test_command(self):
        for args in ([], ["--json"]):
            child = self.spawn(dt.CTL, "--socket", self.d.path("control.sock"), "events", *args,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            dt.wait_for(lambda: self.d.call("port.set", name="a", mtu=1500) and
                        select_readable(child.stdout))
            line = child.stdout.readline()
            self.assertIn("port a: settings changed", line)
            if args:
                self.assertEqual(json.loads(line)["port"], "a")
            child.terminate()
            self.assertEqual(child.wait(10), -15)
        child = self.spawn(dt.CTL, "--socket", self.d.path("control.sock"), "events",
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        dt.wait_for(lambda: self.d.call("port.set", name="a", mtu=1500) and
                    select_readable(child.stdout))
        self.d.kill()
        out, err = child.communicate(timeout=10)
        self.assertEqual(child.returncode, 3)
        self.assertIn("the daemon has ended", err)


def select_readable(stream):
    import select
    return select.select([stream], [], [], 0.2)[0]


# A mount namespace with a journal's socket of our own; systemd's way to say where stderr goes.
JOURNAL = """mount -t tmpfs none /run && mkdir -p /run/systemd/journal &&
ln -s "$0" /run/systemd/journal/socket &&
JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr) exec "$@" """


def can_unshare():
    return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/run"],
                          stderr=subprocess.DEVNULL).returncode == 0


@unittest.skipUnless(can_unshare(), "no mount namespace: needs root")
class Journal(unittest.TestCase):
    def setUp(self):
        d = dt.Daemon()
        self.addCleanup(d.stop)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.sock.close)
        self.sock.bind(d.path("journal"))
        self.sock.settimeout(10)
        d.wrapper = ["unshare", "-m", "sh", "-c", JOURNAL, d.path("journal")]
        self.d = d.start()

    def entry(self, **fields):
        while True:
            data = self.sock.recv(65536).decode()
            got = dict(line.split("=", 1) for line in data.splitlines() if "=" in line)
            if all(got.get(k) == v for k, v in fields.items()):
                return got

    def test_fields(self):
        ready = self.entry(ELISA_EVENT="daemon", ELISA_REASON="ready")
        self.assertEqual(ready["PRIORITY"], "5")
        self.assertRegex(ready["MESSAGE_ID"], "^[0-9a-f]{32}$")
        self.assertIn("elisa-vswitchd", ready["SYSLOG_IDENTIFIER"])
        self.d.call("port.add", name="new", transport="local")
        got = self.entry(ELISA_PORT="new")
        self.assertEqual((got["MESSAGE"], got["ELISA_REASON"], got["PRIORITY"]),
                         ("port new added", "added", "6"))
        self.assertTrue(got["CODE_FILE"].endswith("methods.c"), got["CODE_FILE"])
        self.assertEqual(got["CODE_FUNC"], "do_port_add")
        self.assertGreater(int(got["CODE_LINE"]), 100)
        self.assertNotIn("ELISA_VM", got)
        self.assertNotEqual(got["MESSAGE_ID"], ready["MESSAGE_ID"])
        subprocess.run([dt.INFO, "-t", self.d.spec("nix")], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=30)
        self.assertEqual(self.entry(ELISA_REASON="refused")["ELISA_VM"], "nix")
        # What is no event has its priority and place, too; nothing is left for stderr.
        self.assertEqual(self.d.log(), "")

    def test_nic(self):
        """From its thread, or from before there was one."""
        self.d.kill()
        with open(self.d.config, "w") as f:
            f.write(dt.LOCAL + 'nics = ( { name = "up0"; vdev = "net_null0"; } );\n'
                    'dpdk = { library = "/nonexistent.so"; };\n')
        self.d.start()
        got = self.entry(ELISA_EVENT="nic", ELISA_PORT="up0", ELISA_REASON="failed")
        self.assertEqual(got["PRIORITY"], "3")
        self.assertIn("NIC up0: the library for NICs was not loaded: /nonexistent.so", got["MESSAGE"])

    def test_busy_journald(self):
        """One that takes nothing holds nobody up, and is told what it missed."""
        with open("/proc/sys/net/unix/max_dgram_qlen") as f:
            queued = int(f.read())
        for _ in range(queued // 2 + 50):
            self.d.call("port.add", name="new", transport="local")
            self.d.call("port.del", name="new")
        self.sock.settimeout(0.2)
        taken = 0
        with self.assertRaises(TimeoutError):
            while self.sock.recv(65536):
                taken += 1
        self.sock.settimeout(10)
        self.assertLess(taken, queued + 50)     # it was full
        self.d.call("port.add", name="last", transport="local")
        lost = self.entry(PRIORITY="4")["MESSAGE"]
        self.assertRegex(lost, r"^the journal was too busy for \d+ messages before this$")
        self.assertGreater(int(lost.split()[6]), 50)
        self.assertEqual(self.entry(ELISA_PORT="last")["MESSAGE"], "port last added")
        self.assertEqual(self.d.log(), "")

    def test_without_journald(self):
        """stderr is a stream of the journal as well: what cannot be sent is still there."""
        self.d.kill()
        os.unlink(self.d.path("journal"))
        self.d.start()
        self.d.call("port.add", name="new", transport="local")
        self.assertIn("<6>port new added\n", self.d.log())


if __name__ == "__main__":
    dt.main()
