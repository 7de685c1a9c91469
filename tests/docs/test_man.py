# SPDX-License-Identifier: BSD-3-Clause
"""man pages: they render without a warning, and say neither more nor less than there is."""
import os
import re
import subprocess
import unittest
from pathlib import Path

from blocks import all_blocks

PAGES = Path(os.environ["MAN_DIR"])
ROOT = Path(os.environ["SOURCE_ROOT"])
PROGRAMS = {
    "elisactl.8": os.environ["ELISACTL"], "elisa-vswitchd.8": os.environ["VSWITCHD"],
    "elisa-gen.1": os.environ["ELISA_GEN"], "elisa-info.1": os.environ["ELISA_INFO"],
    "elisa-tap.8": os.environ["ELISA_TAP"], "elisa-libvirt-hook.8": os.environ["ELISA_HOOK"],
}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def source(page):
    return (ROOT / "docs/man" / (page + ".scd")).read_text()


def run(*args):
    r = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True)
    return r.stdout


def defined(text):
    """What stands before an indented text: lines that start with an asterisk."""
    return [line for line in text.splitlines() if line.startswith("*")]


def section(text, title):
    """One section by its heading, its subsections included."""
    level = title.index(" ")
    found = re.search(rf"(?ms)^{re.escape(title)}$(.*?)(?=^#{{1,{level}}} |\Z)", text)
    return found.group(1) if found else ""


def names(prefix, text):
    return set(re.findall(rf"\b{prefix}[A-Z0-9_]+\b", text))


class Man(unittest.TestCase):
    def test_rendering(self):
        pages = sorted(p.stem for p in (ROOT / "docs/man").glob("*.scd"))
        self.assertGreaterEqual(len(pages), 12)
        for page in pages:
            r = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", PAGES / page], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "MANWIDTH": "80"})
            self.assertEqual((r.returncode, r.stderr), (0, b""), page)
            self.assertGreater(len(r.stdout), 1000, page)

    def test_marks(self):
        """Each command of the docs says how it is run, or why not."""
        self.assertGreater(len(all_blocks(ROOT)), 30)

    def test_options(self):
        for page, program in PROGRAMS.items():
            listed = set()
            for line in run(program, "--help").splitlines():
                if re.match(r" +-", line):
                    listed |= set(OPTION.findall(re.split(r" {2,}", line.strip())[0]))
            told = {o for line in defined(source(page)) if line.startswith("*-") for o in OPTION.findall(line)}
            self.assertEqual(told, listed, page)

    def test_commands(self):
        listed = {" ".join(w for w in line.split() if w.islower() and w[0] != "-")
                  for line in run(PROGRAMS["elisactl.8"], "--complete").splitlines()}
        told = set()
        for line in defined(section(source("elisactl.8"), "# COMMANDS")):
            for command in re.findall(r"\*([a-z][a-z -]*)\*(?: \[\*([a-z]+)\*)?", line):
                if not command[0].startswith("-"):
                    told.add(" ".join(w for w in command if w))
        self.assertEqual(told, listed)

    def test_keys(self):
        text = section(source("vswitchd.conf.5"), "# GROUPS AND KEYS")
        told = set()
        for part in re.split(r"(?m)^## ", text)[1:]:
            group = part.split("\n")[0].strip()
            prefix = "" if group == "top level" else group + "."
            told |= {prefix + key for line in defined(part) for key in re.findall(r"\*([a-z_.]+)\*", line)}
        self.assertEqual(told, set(run(PROGRAMS["elisa-vswitchd.8"], "--keys").split()))

    def test_interface(self):
        abi = (ROOT / "include/elisa/abi.h").read_text()
        told = source("elisa-abi.7")
        for name in re.findall(r"(?m)^\t(ELISA_E[A-Z]+|ELISA_OP_(?:HELLO|NOP)) = ", abi):
            self.assertIn(f"*{name}*\n", told)
        net = (ROOT / "include/elisa/net.h").read_text()
        operations = set(re.findall(r"(?m)^\t(ELISA_NET_[A-Z_]+)(?: = ELISA_OP_SERVICE)?,$", net))
        self.assertGreaterEqual(len(operations), 10)
        told = source("elisa-net.7")
        self.assertEqual({n for line in defined(section(told, "# OPERATIONS")) for n in names("ELISA_NET_", line)},
                         operations)
        reasons = set(re.findall(r'X\(\w+, "([a-z-]+)"\)', net))
        self.assertEqual(set(re.findall(r"(?m)^\*([a-z-]+)\*$", section(told, "# DROP REASONS"))), reasons)


if __name__ == "__main__":
    unittest.main(verbosity=2)
