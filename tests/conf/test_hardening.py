#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The unit's exposure, as systemd-analyze sees it, is at most 4.0 and all of it explained in docs/hardening.md."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "elisa-vswitchd.service"
LIMIT = 4.0


def table_rows(header: str) -> list:
    """Rows of the table of docs/hardening.md whose header starts so; code marks and escapes are taken off."""
    text = (ROOT / "docs/hardening.md").read_text(encoding="utf-8")
    block = re.search(rf"^\| {re.escape(header)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)
    rows = block[1].replace("\\|", "\0").replace("`", "").splitlines()
    return [[cell.strip().replace("\0", "|") for cell in row.strip("|").split("|")] for row in rows]


class Hardening(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.root = Path(tmp.name)
        units = self.root / "usr/lib/systemd/system"
        self.dropins = units / f"{NAME}.d"
        self.dropins.mkdir(parents=True)
        shutil.copy(os.environ["UNIT"], units / NAME)

    def analyze(self, *options, name=NAME) -> str:
        p = subprocess.run([os.environ["SYSTEMD_ANALYZE"], "security", "--no-pager", "--offline=yes",
                            f"--root={self.root}", *options, name], capture_output=True, text=True, check=False)
        self.assertEqual(p.returncode, 0, p.stdout + p.stderr)
        self.assertNotRegex(p.stderr, "(?i)unknown|ignoring|failed to parse")
        return p.stdout

    def exposure(self, dropins=()) -> tuple:
        """Level and findings of the unit with these drop-ins."""
        shutil.rmtree(self.dropins)
        self.dropins.mkdir()
        for name in dropins:
            shutil.copy(ROOT / "conf" / name, self.dropins)
        level = float(re.search(rf"exposure level for {NAME}: ([0-9.]+)", self.analyze())[1])
        found = json.loads(self.analyze("--json=short"))
        self.assertGreater(len(found), 60)
        return level, {f["name"] for f in found if not f["set"] and f["exposure"]}

    def test_the_unit_itself(self):
        level, found = self.exposure()
        self.assertLessEqual(level, LIMIT)
        self.assertEqual(found, {row[0] for row in table_rows("finding of systemd-analyze")})
        said = re.search(r"systemd-analyze security[^.]*says ([0-9.]+) ",
                         (ROOT / "docs/hardening.md").read_text(encoding="utf-8"))
        self.assertEqual(float(said[1]), level)

    def test_hugepages(self):
        """The other unit of the host."""
        name = "elisa-hugepages.service"
        shutil.copy(Path(os.environ["UNIT"]).parent / name, self.dropins.parent)
        level = float(re.search(rf"exposure level for {name}: ([0-9.]+)", self.analyze(name=name))[1])
        said = re.search(rf"{name}[^.]*: ([0-9.]+)[.,]", (ROOT / "docs/hardening.md").read_text(encoding="utf-8"))
        self.assertEqual(float(said[1]), level)
        self.assertLessEqual(level, LIMIT)

    def test_each_drop_in(self):
        _, base = self.exposure()
        levels = {row[0]: float(row[2]) for row in table_rows("drop-in")}
        all_three = levels.pop("all three")
        self.assertEqual(len(levels), 3)
        why = table_rows("finding")
        for name, level in levels.items():
            with self.subTest(name):
                got, found = self.exposure([name])
                self.assertEqual(got, level)
                self.assertLessEqual(got, LIMIT)
                self.assertEqual(found - base, {row[0] for row in why if name in row[1].split(", ")})
        self.assertEqual(self.exposure(levels)[0], all_three)
        self.assertLessEqual(all_three, LIMIT)

    def test_a_unit_without_it_would_be_noticed(self):
        path = self.dropins.parent / NAME
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(line for line in lines if not line.startswith("PrivateNetwork")), encoding="utf-8")
        _, found = self.exposure()
        self.assertEqual(found - {row[0] for row in table_rows("finding of systemd-analyze")}, {"PrivateNetwork="})


unittest.main()
