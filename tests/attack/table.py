#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""table.py TABLE OUT: checks the attack table and writes it as attack-run reads it: a line a row,
fields by tabs: id, group, by, must (commas), defence (commas), ci, seconds, line to run."""

import re
import sys
import tomllib

GROUPS = "vmfunc gate mode cr3 control tables step events rings memory vmm exhaust".split()
BY = ["guest", "user", "host", "tinyvm", "vmm"]
OUTCOME = re.compile(r"refused(:E[A-Z]+)?|ud|killed:[a-z]+(:[a-z0-9-]+)?|no-effect|fault|unarmed")
KEYS = {"id", "group", "tries", "must", "by", "run", "defence", "why", "ci", "seconds", "test"}


def problems(row: dict, ids: set) -> list:
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
    if row["by"] in ("tinyvm", "vmm") and "test" not in row:
        found.append("no test named that runs it")
    if row["by"] == "host" and "run" not in row:
        found.append("no command to run")
    return found


def main(table: str, out: str) -> int:
    with open(table, "rb") as f:
        rows = tomllib.load(f)["row"]
    ids: set = set()
    lines, bad = [], 0
    for row in rows:
        for p in problems(row, ids):
            print(f"{table}: {row.get('id', '?')}: {p}", file=sys.stderr)
            bad += 1
        if bad:
            continue
        ids.add(row["id"])
        line = row["test"] if row["by"] in ("tinyvm", "vmm") else row.get("run", row["id"])
        lines.append("\t".join([row["id"], row["group"], row["by"], ",".join(row["must"]),
                                ",".join(row.get("defence", [])), str(int(row["ci"])),
                                str(row.get("seconds", 20)), line]))
    if not bad:
        with open(out, "w", encoding="ascii") as f:
            f.write("\n".join(lines) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
