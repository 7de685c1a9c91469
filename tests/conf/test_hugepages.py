#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""conf/elisa-hugepages on a folder that stands for /sys."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "conf/elisa-hugepages"
ALL, NODES = "kernel/mm/hugepages", "devices/system/node/node%d/hugepages"


class Hugepages(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.sys = Path(tmp.name)
        for folder in (ALL, NODES % 0, NODES % 1):
            self.put(folder, 2048, 10)
            self.put(folder, 1048576, 0)

    def file(self, folder, size):
        return self.sys / folder / f"hugepages-{size}kB/nr_hugepages"

    def put(self, folder, size, n):
        self.file(folder, size).parent.mkdir(parents=True, exist_ok=True)
        self.file(folder, size).write_text(f"{n}\n")

    def get(self, folder, size=2048):
        return int(self.file(folder, size).read_text())

    def run_with(self, status=0, **env):
        p = subprocess.run([SCRIPT, self.sys], env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True,
                           check=False)
        self.assertEqual(p.returncode, status, p.stdout + p.stderr)
        self.assertEqual(bool(p.stderr), status != 0)
        return p.stdout + p.stderr

    def state(self):
        return [self.get(f, s) for f in (ALL, NODES % 0, NODES % 1) for s in (2048, 1048576)]

    def test_nothing_asked_for(self):
        before = self.state()
        self.assertEqual(self.run_with(), "")
        self.assertEqual(self.run_with(HUGEPAGES_2M="", HUGEPAGES_1G=" "), "")
        self.assertEqual(self.state(), before)

    def test_all_nodes(self):
        self.assertEqual(self.run_with(HUGEPAGES_2M="64", HUGEPAGES_1G="4"),
                         "HUGEPAGES_1G: 4 hugepages on all nodes\nHUGEPAGES_2M: 64 hugepages on all nodes\n")
        self.assertEqual(self.state(), [64, 4, 10, 0, 10, 0])

    def test_by_node(self):
        self.run_with(HUGEPAGES_2M="0:32 1:64", HUGEPAGES_1G="1:2")
        self.assertEqual(self.state(), [10, 0, 32, 0, 64, 2])

    def test_never_fewer(self):
        self.assertEqual(self.run_with(HUGEPAGES_2M="9 0:10 1:0"), "")
        self.assertEqual(self.state(), [10, 0, 10, 0, 10, 0])

    def test_wrong(self):
        before = self.state()
        for value in ("many", "-1", "1:", ":1", "1:2:3", "0x10", "1e3", "*", "99999999", "0=4"):
            with self.subTest(value):
                self.assertIn(f'"{value}" is neither COUNT nor NODE:COUNT', self.run_with(2, HUGEPAGES_2M=value))
                self.assertEqual(self.state(), before)
        # What is right beside it is done.
        self.run_with(2, HUGEPAGES_2M="x 1:20")
        self.assertEqual(self.get(NODES % 1), 20)

    def test_no_such_node(self):
        self.assertIn("no such hugepages on node 7", self.run_with(1, HUGEPAGES_2M="7:1 0:20"))
        self.assertEqual(self.get(NODES % 0), 20)

    def test_not_to_be_had(self):
        """A file that keeps its number, as the kernel's does when memory is in pieces."""
        self.file(ALL, 1048576).unlink()
        self.file(ALL, 1048576).symlink_to("/sys/devices/system/cpu/kernel_max")
        n = self.get(ALL, 1048576)
        out = self.run_with(1, HUGEPAGES_1G=str(n + 1))
        self.assertIn(f"HUGEPAGES_1G: {n} instead of {n + 1} hugepages on all nodes", out)
        self.assertIn(f"hugepagesz=1G hugepages={n + 1} on the kernel's command line", out)


unittest.main()
