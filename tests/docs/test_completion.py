# SPDX-License-Identifier: BSD-3-Clause
"""Completion for bash: sourced, and asked what may come next."""
import os
import subprocess
import tempfile
import unittest

import daemontest as dt

ASK = """
elisactl() { %s -s %s "$@"; }
. "$COMPLETION"
COMP_WORDS=(elisactl "$@")
COMP_CWORD=$(($# > 0 ? $# : 1))
_elisactl
printf '%%s\\n' "${COMPREPLY[@]}"
"""


class Completion(dt.DaemonCase):
    def ask(self, *words):
        script = ASK % (dt.CTL, self.d.path("control.sock"))
        r = subprocess.run(["bash", "-c", script, "bash", *words], stdout=subprocess.PIPE, text=True,
                           stderr=subprocess.PIPE)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return r.stdout.split()

    def test_commands(self):
        commands = {line.split()[0] for line in
                    subprocess.run([dt.CTL, "--complete"], stdout=subprocess.PIPE, text=True).stdout.splitlines()}
        self.assertGreater(len(commands), 8)
        self.assertEqual(set(self.ask("")), commands)
        self.assertEqual(self.ask("sta"), ["stats", "status"])
        self.assertEqual(self.ask("-j", "sta"), ["stats", "status"])
        self.assertEqual(self.ask("port", ""), ["add", "del", "list", "set", "show"])
        self.assertEqual(self.ask("-s", "/nowhere", "port", "d"), ["del"])
        self.assertEqual(self.ask("nonsense", ""), [])

    def test_names(self):
        ports = set(self.ask("port", "show", ""))
        self.assertIn("web0", ports)
        self.assertEqual(set(self.ask("stats", "")), ports)
        self.assertEqual(self.ask("port", "set", "--mtu", "1500", "web"), ["web0"])
        self.assertEqual(self.ask("fdb", "add", "02:00:00:00:00:01", "web"), ["web0"])
        self.assertEqual(self.ask("attach", "--port", "web"), ["web0"])

    def test_options(self):
        self.assertEqual(self.ask("port", "set", "web0", "--mt"), ["--mtu"])
        self.assertIn("--pvid", self.ask("port", "set", "web0", "--"))
        self.assertIn("--wait", self.ask("detach", "--"))
        self.assertNotIn("--mtu", self.ask("detach", "--"))
        self.assertEqual(self.ask("port", "add", "x", "--anti-spoof", ""), ["on", "off"])


dt.main()
