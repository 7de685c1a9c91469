# SPDX-License-Identifier: BSD-3-Clause
"""elisactl: what it prints, and its exit status."""
import json
import os
import subprocess
import unittest

import daemontest as dt


class Ctl(dt.DaemonCase):
    def ok(self, *args):
        r = self.d.ctl(*args)
        self.assertEqual((r.returncode, r.stderr), (0, ""), args)
        return r.stdout

    def test_tables(self):
        self.assertRegex(self.ok("status"), r"daemon +\S+, pid %d, " % self.d.process.pid)
        self.assertEqual(self.ok("port"), self.ok("port", "list"))
        self.assertRegex(self.ok("port", "list"), r"(?m)^web0 +\(web\) +down +yes +\S+ +1500 +1 +on +0 ")
        self.assertIn("0 of 65536 addresses", self.ok("fdb", "list"))
        self.assertRegex(self.ok("stats"), r"(?m)^web0 +vmfunc +0 +0 ")
        self.assertRegex(self.ok("stats", "a"), r"(?m)^a +local \(no isolation\) +0")
        self.assertRegex(self.ok("doctor"), r"(?m)^(ok|warn|fail) +kernel +Linux ")

    def test_json(self):
        for args in (["status"], ["port", "list"], ["port", "show", "a"], ["fdb", "list"],
                     ["fdb", "flush"], ["stats"], ["stats", "a"], ["doctor"],
                     ["port", "add", "q", "--mtu", "2000"], ["port", "set", "q", "--down"],
                     ["fdb", "add", "02:00:00:00:00:05", "q"], ["fdb", "del", "02:00:00:00:00:05"],
                     ["port", "del", "q"]):
            json.loads(self.ok("--json", *args))
        self.assertEqual(json.loads(self.ok("port", "show", "a", "--json"))["name"], "a")

    def test_port_options(self):
        out = self.ok("port", "add", "q", "--mac", "02:00:00:00:00:01", "--mtu", "9000", "--queues", "3",
                      "--groups", "0,5", "--anti-spoof", "off", "--down", "--local")
        for line in ("mac         02:00:00:00:00:01", "mtu         9000", "queues      3",
                     "groups      0,5", "anti-spoof  off", "up          no",
                     "transport   local (no isolation)", "origin      control"):
            self.assertIn(line + "\n", out)

    def test_refused(self):
        for args, message in [
                (["port", "show", "nix"], 'there is no port "nix"'),
                (["port", "add", "a"], 'there is a port "a" already'),
                (["port", "add", "q", "--mtu", "99999"], "mtu: 99999 is out of range: use 68 to 9216"),
                (["detach", "nix"], 'there is no VM "nix"'),
                (["attach", "nix"], 'no running QEMU is named "nix"'),
                (["fdb", "del", "02:00:00:00:00:05"], "that address is not in the table"),
                (["attach", "--pid", str(os.getpid())], "refused: "),
                (["attach", "--pid", str(os.getpid()), "--port", "a"], "is for local clients")]:
            with self.subTest(args=args):
                r = self.d.ctl(*args)
                self.assertEqual(r.returncode, 1, r.stderr)
                self.assertIn(message, r.stderr)
        r = self.d.ctl("port", "show", "nix", "--json")
        self.assertEqual((r.returncode, json.loads(r.stdout)["data"]["errno"]), (1, 19))

    @unittest.skipIf(os.path.exists("/dev/elisa"), "the module is loaded here")
    def test_no_module(self):
        r = self.d.ctl("attach", "--pid", str(os.getpid()))
        self.assertIn("refused: no-module: the kernel module is not loaded", r.stderr)
        self.assertIn("modprobe elisa", r.stderr)

    def test_usage(self):
        for args in ([], ["nix"], ["port", "nix"], ["port", "show"], ["fdb", "add", "x"],
                     ["attach"], ["detach"], ["status", "more"], ["status", "--pid", "5"],
                     ["port", "add", "q", "--mtu", "many"], ["port", "add", "q", "--groups", "1,,2"],
                     ["attach", "--pid", "5", "--mtu", "5"], ["port", "add", "q", "--anti-spoof", "x"]):
            with self.subTest(args=args):
                r = self.d.ctl(*args)
                self.assertEqual(r.returncode, 2, r.stderr)
                self.assertIn("elisactl", r.stderr)

    def test_help(self):
        r = self.d.ctl("--help")
        self.assertEqual(r.returncode, 0)
        for word in ("status", "attach", "detach", "port set", "fdb flush", "doctor", "Exit status"):
            self.assertIn(word, r.stdout)
        for program in (dt.CTL, dt.VSWITCHD):
            r = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True)
            self.assertRegex(r.stdout, r"^elisa\S+ \d+\.\d+\.\d+\n$")

    def test_not_running(self):
        self.d.kill()
        for socket in (self.d.path("control.sock"), self.d.path("nix")):
            r = subprocess.run([dt.CTL, "-s", socket, "status"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
            self.assertEqual(r.returncode, 3)
            self.assertIn(socket + ": the daemon does not run: start it", r.stderr)


dt.main()
