# SPDX-License-Identifier: BSD-3-Clause
"""elisactl top and drops: their numbers are those of `stats`."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

import daemontest as dt


class Top(dt.DaemonCase):
    def flow(self):
        """b gets what a sends, until they are ended."""
        for name, args in (("b", ["--rx", "-n", "100000000", "-T", "60"]), ("a", ["--tx", "-n", "100000000"])):
            if name == "a":
                args += ["--dst", self.d.call("port.show", name="b")["mac"], "-s", "100"]
            self.spawn(dt.GEN, "-t", self.d.spec(name), *args, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
            dt.wait_for(lambda: self.d.call("port.show", name=name)["link"])

    def count(self, name, key):
        return self.d.call("stats", port=name)["ports"][name][key]

    def test_idle(self):
        r = self.d.ctl("top", "--once", "--interval", "0.1", "--json")
        self.assertEqual(r.returncode, 0, r.stderr)
        ports = json.loads(r.stdout)["ports"]
        self.assertEqual([p["name"] for p in ports], ["a", "b", "web0"])
        self.assertEqual({v for p in ports for k, v in p.items() if k.endswith("_per_s")}, {0})

    def test_rates(self):
        self.flow()
        before, begin = self.count("a", "tx_frames"), time.monotonic()
        r = self.d.ctl("top", "--once", "--interval", "1", "--json")
        rate = (self.count("a", "tx_frames") - before) / (time.monotonic() - begin)
        top = json.loads(r.stdout)
        self.assertGreaterEqual(top["seconds"], 1)
        by = {p["name"]: p for p in top["ports"]}
        self.assertEqual(top["ports"][-1]["name"], "web0")     # the one that does nothing
        self.assertAlmostEqual(by["a"]["tx_frames_per_s"] / rate, 1, delta=0.5)
        self.assertAlmostEqual(by["a"]["tx_bytes_per_s"] / by["a"]["tx_frames_per_s"], 100, delta=1)
        self.assertAlmostEqual(by["b"]["rx_frames_per_s"] + by["b"]["drops_per_s"],
                               by["a"]["tx_frames_per_s"] + by["a"]["drops_per_s"],
                               delta=by["a"]["tx_frames_per_s"] * 0.2)
        self.assertEqual((by["a"]["rx_frames_per_s"], by["a"]["link"]), (0, True))

    def test_table(self):
        self.flow()
        lines = self.d.ctl("top", "--once", "--interval", "0.2").stdout.splitlines()
        self.assertEqual(re.split("  +", lines[0])[:3], ["PORT", "USED BY", "LINK"])
        self.assertRegex(lines[1], r"^[ab] +[ab] +up +\S")
        self.assertRegex(lines[3], r"^web0 +- +down +0 +0 +0 +0 +0$")

    def test_terminal(self):
        """q ends it, so does ^C, and the terminal is as before."""
        for end in (lambda fd, child: os.write(fd, b"q"), lambda fd, child: os.write(fd, b"\x03"),
                    lambda fd, child: child.send_signal(signal.SIGTERM)):
            master, slave = pty.openpty()
            child = subprocess.Popen(
                [dt.CTL, "--socket", self.d.path("control.sock"), "top", "--interval", "0.1"],
                stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
            out = b""
            while out.count(b"\x1b[2J") < 3:
                self.assertTrue(select.select([master], [], [], 10)[0], out)
                out += os.read(master, 65536)
            self.assertIn(b"web0", out)
            end(master, child)
            self.assertEqual(child.wait(10), 0)
            self.assertTrue(termios.tcgetattr(master)[3] & termios.ICANON)
            self.assertEqual(termios.tcgetattr(master)[3] & termios.ECHO, termios.ECHO)
            os.close(master)
            os.close(slave)

    def test_wrong(self):
        for args in (["--interval", "0"], ["--interval", "x"], ["--explain"], ["web0"]):
            self.assertEqual(self.d.ctl("top", *args).returncode, 2, args)
        self.assertEqual(self.d.ctl("port", "list", "--once").returncode, 2)

    def test_drops(self):
        self.assertEqual(self.d.ctl("drops").stdout, "nothing was dropped\n")
        subprocess.run([dt.GEN, "-t", self.d.spec("a"), "--tx", "--src", "02:00:00:00:99:99", "-n", "64"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        lines = self.d.ctl("drops").stdout.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[1], "^a +tx-spoofed-source +64 +its source is not the port's address")
        self.assertIn("--anti-spoof off", lines[1])
        self.assertEqual(self.d.ctl("drops", "b").stdout, "nothing was dropped\n")
        self.assertEqual(json.loads(self.d.ctl("drops", "a", "--json").stdout),
                         {"a": {"tx-spoofed-source": 64}})
        self.assertEqual(self.d.ctl("drops", "nix").returncode, 1)

    def test_explain(self):
        """Each reason that metrics have, each with a meaning and an advice."""
        lines = [re.split("  +", line) for line in self.d.ctl("drops", "--explain").stdout.splitlines()]
        known = set(re.findall(r'elisa_port_drops_total\{port="a",reason="([^"]+)"',
                               self.d.ctl("metrics").stdout))
        self.assertEqual({line[0] for line in lines[1:]}, known)
        self.assertEqual([line for line in lines if len(line) != 3], [])


if __name__ == "__main__":
    dt.main()
