# SPDX-License-Identifier: BSD-3-Clause
"""test_table.py ROOT: the attack table is sound, and table.py finds what is not."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import unittest

import table

ROOT = os.path.abspath(sys.argv.pop(1))
FILES = ["elisa-host/kmod/defence.h", "elisa-host/kmod/defence.c", "elisa-host/weak.c", "vswitch/defence.h",
         "tests/attack/red", "tests/attack/table.toml", "tests/vswitch/red"]
GOOD = '''
[[row]]
id = "good"
group = "gate"
tries = "nothing"
must = ["ud"]
by = "guest"
defence = ["smep"]
ci = true
'''


class Table(unittest.TestCase):
    def setUp(self) -> None:
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.root = tmp.name
        for name in FILES:
            os.makedirs(os.path.dirname(f"{self.root}/{name}"), exist_ok=True)
            shutil.copy(f"{ROOT}/{name}", f"{self.root}/{name}")

    def change(self, name: str, old: str, new: str) -> None:
        text = table.read(self.root, name)
        self.assertIn(old, text)
        with open(f"{self.root}/{name}", "w", encoding="utf-8") as f:
            f.write(text.replace(old, new, 1))

    def findings(self) -> str:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = table.main(f"{self.root}/tests/attack/table.toml", self.root)
        self.assertEqual(bool(status), bool(said.getvalue()))
        return said.getvalue()

    def test_as_it_is(self) -> None:
        self.assertEqual(self.findings(), "")

    def test_row(self) -> None:
        for old, new, what in (("smep", "no-such", "good: no defence no-such"),
                               ('["smep"]', "[]", "good: no defence, and no why"),
                               ("ud", "dead", "good: no outcome dead"),
                               ("gate", "door", "good: no group door"),
                               ("guest", "magic", "good: no way magic")):
            with open(f"{self.root}/tests/attack/table.toml", "w", encoding="utf-8") as f:
                f.write(GOOD.replace(old, new))
            self.assertIn(what, self.findings())

    def test_programs(self) -> None:
        row = GOOD.replace('"guest"', '"tinyvm"\ntest = "vmx-gate"')
        for text, what in ((row, "good: no program that shows it red"),
                           (row + 'red = "vmx-gate; reboot"\n', "good: it cannot be shown red so"),
                           (row.replace("defence =", "red = \"vmx-gate\"\nwhy = \"so\" #"),
                            "good: it cannot be shown red so"),
                           (GOOD + 'red = "vmx-gate"\n', "good: it cannot be shown red so")):
            with open(f"{self.root}/tests/attack/table.toml", "w", encoding="utf-8") as f:
                f.write(text)
            self.assertIn(what, self.findings())

    def test_rows_to_see_red(self) -> None:
        out = f"{self.root}/rows"
        self.assertFalse(table.main(f"{self.root}/tests/attack/table.toml", self.root, "", out))
        with open(out, encoding="ascii") as f:
            lines = f.read().splitlines()
        self.assertIn("control-nxe nxe vmx-state --only control-nxe", lines)
        last = [bool(table.LAST & set(line.split()[1].split(","))) for line in lines]
        self.assertEqual(last, sorted(last))
        self.assertTrue(any(last))
        # The one defence that only such a row shows.
        self.change("tests/attack/table.toml", '["ram_guard"]\nred = "weak_lost"', '[]\nwhy = "we are lazy"')
        self.assertIn("tests/attack/red: no row shows ram_guard red", self.findings())

    def test_new_defences(self) -> None:
        self.change("elisa-host/kmod/defence.h", "X(smep)", "X(smep) X(brand_new)")
        self.change("vswitch/defence.h", "X(range)", "X(range) X(newer)")
        self.change("elisa-host/weak.c", '"stub_wipe"', '"stub_swipe"')
        said = self.findings()
        self.assertIn("tests/attack/red: no row shows brand_new red", said)
        self.assertIn("tests/vswitch/red: no row shows newer red", said)
        self.assertIn("tests/attack/red: no row shows stub_swipe red", said)
        self.assertIn("tests/attack/red: stub_wipe is no defence", said)

    def test_which_defence(self) -> None:
        with open(f"{self.root}/tests/attack/table.toml", "w", encoding="utf-8") as f:
            f.write(GOOD.replace("smep", "owner"))
        self.assertIn("good: which defence owner: module:owner, switch:owner?", self.findings())

    def test_red(self) -> None:
        self.change("tests/attack/red", "\nsmap\t", "\n# smap\t")
        self.change("tests/vswitch/red", "\nsegs\t", "\n# segs\t")
        self.change("tests/attack/red", "\nlma\t\t-", "\nlma\t\tlna")
        said = self.findings()
        self.assertIn("tests/attack/red: no row shows smap red", said)
        self.assertIn("tests/vswitch/red: no row shows segs red", said)
        self.assertIn("tests/attack/red: lna is no defence", said)

    def test_second_lines(self) -> None:
        self.change("tests/attack/red", "\nvmcs\t", "\nsmep\twe do not like to, nor can we\nvmcs so\n#\t")
        said = self.findings()
        self.assertIn("tests/attack/red: smep is shown red, and no second line", said)
        self.assertIn("tests/attack/red: second line vmcs: no reason", said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
