#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every loop of the trusted path has a bound that no other VM has a say in: test_loops.py DIRECTORY
TABLE

Reads the switch's sources: all functions that vs_entry leads to, and their loops. The table says
for each such function what bounds its loops, in their order; so none comes in unseen. Calls that
come back to a function that is under way are in it as "CALLER>CALLED".
"""
import pathlib
import re
import sys

ROOT = "vs_entry"
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "do", "else"}


def functions_of(path):
    """name -> body; by the form that all sources have: both braces at the margin"""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r'"(\\.|[^"\\])*"', '""', text)
    for macro in re.findall(r"^#\s*define(?:.*\\\n)*.*$", text, flags=re.M):
        if re.search(r"\b(for|while)\s*\(", macro):
            sys.exit(f"FAIL: {path.name}: a loop in a macro, which this test does not follow: {macro}")
    text = re.sub(r"^#(?:.*\\\n)*.*$", "", text, flags=re.M)
    found = {}
    for match in re.finditer(r"^([A-Za-z_][^;{}]*\))\s*\n\{\n(.*?)^\}", text, flags=re.M | re.S):
        names = [n for n in re.findall(r"(\w+)\s*\(", match[1]) if not n.startswith("__")]
        found[names[0]] = match[2]
    return found


class Sources:
    def __init__(self, directory):
        self.files = {p.name: functions_of(p) for p in sorted(directory.glob("*.[ch]"))}

    def resolve(self, file, name):
        """The same file's, else anybody's: static functions may share a name."""
        for f in [file] + [g for g in self.files if g != file]:
            if name in self.files[f]:
                return f, name
        return None

    def calls(self, function):
        file, name = function
        called = set(re.findall(r"\b(\w+)\s*\(", self.files[file][name])) - KEYWORDS - {name}
        return sorted(c for c in (self.resolve(file, n) for n in called) if c)

    def itself(self, function):
        file, name = function
        return re.search(rf"\b{name}\s*\(", self.files[file][name]) is not None

    def loops(self, function):
        file, name = function
        body = self.files[file][name]
        if re.search(r"^(\w+):\n(?:.|\n)*goto \1;", body, flags=re.M):
            sys.exit(f"FAIL: {name}: a goto backwards")
        return len(re.findall(r"\b(?:for|while)\s*\(", body))


def reached(sources):
    seen, circles = [], set()

    def visit(function, above):
        if function in seen:
            return
        if sources.itself(function):
            circles.add(f"{function[1]}>{function[1]}")
        for called in sources.calls(function):
            if called in above + [function]:
                circles.add(f"{function[1]}>{called[1]}")
            else:
                visit(called, above + [function])
        seen.append(function)

    visit(sources.resolve("caller.c", ROOT), [])
    return seen, circles


def table_of(path):
    table = {}
    for row in path.read_text(encoding="utf-8").splitlines():
        if row.strip() and not row.startswith("#"):
            name, bounds = row.split(None, 1)
            table[name] = [b.strip() for b in bounds.split(";")]
    return table


def main():
    sources, table = Sources(pathlib.Path(sys.argv[1])), table_of(pathlib.Path(sys.argv[2]))
    functions, circles = reached(sources)
    loops = {f"{f[:-2]}:{n}" if f.endswith(".c") else n: sources.loops((f, n))
             for f, n in functions}
    loops = {name: count for name, count in loops.items() if count}
    loops.update((c, 1) for c in circles)
    failed = False
    for name in sorted(set(loops) | set(table)):
        bounds, count = table.get(name, []), loops.get(name, 0)
        if len(bounds) == count:
            continue
        failed = True
        print(f"FAIL: {name} has {count} loops, {len(bounds)} of them with a bound in the table: "
              "say there what bounds each, whatever other VMs do")
    print(f"{sum(loops.values()) - len(circles)} loops and {len(circles)} ways back into a "
          f"function, in {len(functions)} functions that {ROOT} leads to")
    sys.exit(failed or len(functions) < 100)


main()
