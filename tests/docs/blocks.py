# SPDX-License-Identifier: BSD-3-Clause
"""The commands that the docs tell: fenced blocks of README.md, docs/*.md, and of the man pages' EXAMPLES.

In Markdown the mark stands behind the fence, in a man page in a comment above it ("; test"):

    sh test             run on the installed packages, beside a daemon with local clients
    sh install          run before that: it is what installs them
    sh test=libvirt     run by tests/libvirt, with a libvirtd of its own, and as lab=system
    sh lab=SCENARIO     needs VMs: the lab's scenario runs these commands (their first two words are compared)
    sh skip="REASON"    not run, and said so; in a man page: skip REASON
    conf                a configuration: elisa-vswitchd --check takes it
    text, xml, ...      no commands
"""
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Block:
    file: str
    line: int
    mark: str
    text: str

    def __str__(self):
        return f"{self.file}:{self.line}"


class Unmarked(Exception):
    """Commands that nobody said what to do with."""


def markdown(path: Path, name: str) -> list[Block]:
    blocks, begin, fence = [], 0, None
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if fence is None and line.lstrip().startswith("```"):
            fence, begin = line.strip()[3:].strip(), number
            if not fence or fence == "sh":
                raise Unmarked(f"{name}:{number}: a block without a mark: see tests/docs/blocks.py")
        elif fence is not None and line.strip() == "```":
            blocks.append(Block(name, begin, fence, "\n".join(lines[begin:number - 1]) + "\n"))
            fence = None
        elif fence is None and line.startswith("    ") and not lines[number - 2].strip():
            raise Unmarked(f"{name}:{number}: an indented block: use a fence with a mark")
    return blocks


def man_page(path: Path, name: str) -> list[Block]:
    blocks, begin, mark, inside, section = [], 0, None, False, ""
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if not inside and line.startswith("# "):
            section = line[2:]
        if line == "```" and not inside:
            inside, begin = True, number
            above = lines[number - 2]
            if not above.startswith("; ") and section == "EXAMPLES":
                raise Unmarked(f"{name}:{number}: an example without a mark above: see tests/docs/blocks.py")
            mark = above[2:] if above.startswith("; ") else "text"
        elif line == "```":
            inside = False
            text = "\n".join(lines[begin:number - 1]).replace("\\\\", "\\") + "\n"
            mark = mark if mark.split()[0] in ("conf", "text") else "sh " + mark
            blocks.append(Block(name, begin, re.sub(r"^sh skip (.*)", r'sh skip="\1"', mark), text))
    return blocks


def all_blocks(root: Path) -> list[Block]:
    blocks = []
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        blocks += markdown(path, str(path.relative_to(root)))
    for path in sorted((root / "docs/man").glob("*.scd")):
        blocks += man_page(path, str(path.relative_to(root)))
    return blocks
