#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""table.py TABLE ROOT [OUT [RED]]: checks the attack table and writes it as attack-run reads it: a line a
row, fields by tabs: id, group, by, must (commas), defence (KIND:NAME, spaces), ci, seconds, line to see it
red, line to run. RED gets the rows that test programs show red, as tests/attack/red and tests/vswitch/red
read them: id, defences (commas), program and arguments.

ROOT, the project's folder, has the defences: each that a row names must exist, and each that exists is
seen red by a row of tests/attack/red or tests/vswitch/red, or alone by a row of the table that has `red`,
or is one of the former's second lines, which says why no attack shows it alone."""

import re
import sys
import tomllib

GROUPS = "vmfunc gate mode cr3 control tables step events rings memory vmm exhaust".split()
BY = ["guest", "user", "host", "tinyvm", "vmm"]
OUTCOME = re.compile(r"refused(:E[A-Z]+)?|ud|killed:[a-z]+(:[a-z0-9-]+)?|no-effect|fault|unarmed")
LIMITS = {"storm", "mac_limit"}    # of a port's configuration
KEYS = {"id", "group", "tries", "must", "by", "run", "red", "defence", "why", "ci", "seconds", "test"}
PROGRAMS = ("tinyvm", "vmm")
RED = re.compile(r"(vmx-[a-z]+(-weak)?|weak_[a-z]+)( [\w.-]+)*")
# What these leave behind (KVM's idea of a vCPU, the code itself) is not for another test.
LAST = {"exit_eptp", "code_ro"}


def read(root: str, name: str) -> str:
    with open(f"{root}/{name}", encoding="utf-8") as f:
        return f.read()


def x_names(text: str) -> set:
    """NAME of each X(NAME) in a list of a header."""
    return set(re.findall(r"\bX\((\w+)\)", text))


def here_rows(text: str, function: str) -> list:
    """Rows of the here-document in that function of a shell script: fields by white space, the last
    one is the rest."""
    found = re.search(rf"^{function}\(\) {{.*?<<'ROWS'\n(.*?)^ROWS$", text, re.M | re.S)
    lines = found.group(1).splitlines() if found else []
    return [line.split(None, 2) for line in lines if not line.startswith("#")]


class Defences:
    """Of the module, gate and stubs; and of the switch, with names of its own."""

    def __init__(self, root: str) -> None:
        kmod = "elisa-host/kmod/"
        self.module = x_names(read(root, kmod + "defence.h"))
        self.module |= set(re.findall(r'{ "(\w+)", ELISA_REFUSE_\w+ }', read(root, kmod + "defence.c")))
        self.pages = set(re.findall(r'{"(\w+)", no_\w+}', read(root, "elisa-host/weak.c")))
        self.host = self.module | self.pages
        self.switch = x_names(read(root, "vswitch/defence.h"))
        red = read(root, "tests/attack/red")
        self.host_red = here_rows(red, "rows")
        self.second = {row[0]: " ".join(row[1:]) for row in here_rows(red, "second_lines")}
        self.switch_red = here_rows(read(root, "tests/vswitch/red"), "rows")

    def kinds(self, name: str) -> list:
        """Each KIND:NAME that a row may mean by it, as tests/attack/weak-host takes them."""
        return [f"{kind}:{name}" for kind, names in
                (("module", self.module), ("pages", self.pages), ("switch", self.switch), ("conf", LIMITS))
                if name in names]

    def problems(self, rows_red: list) -> list:
        found = []
        alone = {row["defence"][0] for row in rows_red if len(row["defence"]) == 1}
        for which, names, rows, second in (
                ("tests/attack/red", self.host, self.host_red, self.second),
                ("tests/vswitch/red", self.switch, self.switch_red, {})):
            if len(names) < 30:
                found.append(f"{which}: only {len(names)} defences found in the sources")
            red = {row[0] for row in rows} | alone & names
            off = {n for row in rows for n in row[1].split(",") if n != "-"}
            found += [f"{which}: {n} is no defence" for n in sorted((red | off | set(second)) - names)]
            found += [f"{which}: no row shows {n} red" for n in sorted(names - red - set(second))]
            found += [f"{which}: {n} is shown red, and no second line" for n in sorted(red & set(second))]
            found += [f"{which}: second line {n}: no reason" for n, why in second.items() if len(why) < 20]
        return found


def problems(row: dict, ids: set, defences: Defences) -> list:
    found = [f"unknown key {k}" for k in row if k not in KEYS]
    found += [f"no {k}" for k in ("id", "group", "tries", "must", "by", "ci") if k not in row]
    if found:
        return found
    if row["id"] in ids or not re.fullmatch(r"[a-z0-9-]{1,31}", row["id"]):
        found.append("its id is there twice, or is none")
    if row["group"] not in GROUPS:
        found.append(f"no group {row['group']}")
    if row["by"] not in BY:
        found.append(f"no way {row['by']} to run it")
    found += [f"no outcome {m}" for m in row["must"] if not OUTCOME.fullmatch(m)]
    if not row["must"]:
        found.append("nothing that it must come to")
    if not row.get("defence") and not row.get("why"):
        found.append("no defence, and no why")
    for d in row.get("defence", []):
        kinds = defences.kinds(d)
        if not kinds:
            found.append(f"no defence {d}")
        elif len(kinds) > 1 and row["by"] in ("guest", "user", "host"):
            found.append(f"which defence {d}: {', '.join(kinds)}?")
    if row["by"] in PROGRAMS and "test" not in row:
        found.append("no test named that runs it")
    if row["by"] in PROGRAMS and row.get("defence") and "red" not in row:
        found.append("no program that shows it red")
    if "red" in row and (not row.get("defence") or bool(RED.fullmatch(row["red"])) != (row["by"] in PROGRAMS)):
        found.append("it cannot be shown red so")
    if row["by"] == "host" and "run" not in row:
        found.append("no command to run")
    return found


def red_lines(rows: list) -> list:
    rows = sorted(rows, key=lambda row: bool(LAST & set(row["defence"])))
    return [" ".join([row["id"], ",".join(row["defence"]), row["red"]]) for row in rows]


def main(table: str, root: str, out: str = "", out_red: str = "") -> int:
    with open(table, "rb") as f:
        rows = tomllib.load(f)["row"]
    defences = Defences(root)
    ids: set = set()
    lines, bad = [], 0
    rows_red = [row for row in rows if row["by"] in PROGRAMS and "red" in row and row.get("defence")]
    for p in defences.problems(rows_red):
        print(p, file=sys.stderr)
        bad += 1
    for row in rows:
        for p in problems(row, ids, defences):
            print(f"{table}: {row.get('id', '?')}: {p}", file=sys.stderr)
            bad += 1
        if bad:
            continue
        ids.add(row["id"])
        line = row["test"] if row["by"] in PROGRAMS else row.get("run", row["id"])
        lines.append("\t".join([row["id"], row["group"], row["by"], ",".join(row["must"]),
                                " ".join(defences.kinds(d)[0] for d in row.get("defence", [])),
                                str(int(row["ci"])), str(row.get("seconds", 20)),
                                "" if row["by"] in PROGRAMS else row.get("red", ""), line]))
    if out and not bad:
        with open(out, "w", encoding="ascii") as f:
            f.write("\n".join(lines) + "\n")
    if out_red and not bad:
        with open(out_red, "w", encoding="ascii") as f:
            f.write("\n".join(red_lines(rows_red)) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
