# SPDX-License-Identifier: BSD-3-Clause
"""What the benchmarks share: building, packages, tables, plots, and what a figure says."""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/meson"


def say(text: str) -> None:
    print(f"{Path(sys.argv[0]).name}: {text}", file=sys.stderr, flush=True)


def install() -> list[str]:
    """Installs what the benchmarks need; returns the packages that are missing all the same."""
    run = subprocess.run(["sh", ROOT / "lab/setup.sh", "--bench"], stdout=sys.stderr)
    if not run.returncode:
        return []
    run = subprocess.run(["sh", ROOT / "lab/setup.sh", "--bench", "--missing"], text=True,
                         stdout=subprocess.PIPE)
    return run.stdout.split()


def build() -> None:
    if not (BUILD / "build.ninja").exists():
        subprocess.run(["meson", "setup", BUILD, ROOT, "--prefix=/opt/elisa", "--libdir=lib",
                        "--buildtype=release"], cwd=ROOT, check=True, stdout=sys.stderr)
    subprocess.run(["meson", "compile", "-C", BUILD], check=True, stdout=sys.stderr)


@contextlib.contextmanager
def hugepages(count: int):
    """At least that many pages of 2 MiB are free meanwhile; yields whether that is so."""
    node = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
    free, total = (int((node / f"{name}_hugepages").read_text()) for name in ("free", "nr"))
    if free >= count or not os.access(node / "nr_hugepages", os.W_OK):
        yield free >= count
        return
    (node / "nr_hugepages").write_text(str(total + count - free))
    try:
        yield int((node / "free_hugepages").read_text()) >= count
    finally:
        (node / "nr_hugepages").write_text(str(total))


def machine() -> dict:
    """What a time is worth nothing without."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((l.split(":", 1)[1].strip() for l in info if l.startswith("model name")), "?")
    virtual = any(l.startswith("flags") and " hypervisor" in l for l in info)
    return {"cpu": model, "cores": os.cpu_count(), "virtual": virtual, "kernel": platform.release(),
            "load": round(os.getloadavg()[0], 2)}


def summary(values: list[float]) -> dict:
    """A figure: its median over the runs, and the least and greatest of them."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values),
            "runs": len(values)}


def with_spread(s: dict, digits: int = 1) -> str:
    return f"{s['median']:.{digits}f} ({s['min']:.{digits}f} to {s['max']:.{digits}f})"


def markdown(table: dict) -> str:
    rows = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    note = f"\n{table['note']}\n" if table.get("note") else ""
    return f"## {table['title']}\n\n" + "\n".join(lines) + "\n" + note


def plot(path: Path, script: str, data: str) -> bool:
    """An SVG by gnuplot; `script` uses the block $data."""
    if not shutil.which("gnuplot"):
        say("gnuplot is missing (Debian: gnuplot-nox): no plot")
        return False
    head = f'set terminal svg size 640,400\nset output "{path}"\nset grid\nset yrange [0:*]\n'
    subprocess.run(["gnuplot"], input=f"{head}$data << END\n{data}\nEND\n{script}\n", text=True,
                   check=True)
    return True


# ---- benchmarks that are a scenario of the emulated host ----

FIGURES = ROOT / "docs/figures.md"
HEAD = """# Figures

Written by `bench/gate`, `bench/vm2vm` and `bench/nic`, from the emulated host of `lab/`: counts of
instructions and exits, exact and repeatable, not times.
"""


def write_part(name: str, text: str) -> None:
    """Replaces one benchmark's part of docs/figures.md, which lies between two marks."""
    begin, end = f"<!-- bench/{name} -->\n", f"<!-- end of bench/{name} -->\n"
    old = FIGURES.read_text(encoding="utf-8") if FIGURES.exists() else HEAD
    if begin not in old:
        old += f"\n{begin}{end}"
    before, rest = old.split(begin)
    FIGURES.write_text(before + begin + text + end + rest.split(end)[1], encoding="utf-8")


def newest_tables(name: str, scenario: str) -> list[dict]:
    results = sorted((ROOT / "build/lab/runs").glob(f"{scenario}-2*/result.json"))
    if not results:
        sys.exit(f"bench/{name}: no result of scenario '{scenario}' in build/lab/runs: run without --no-run")
    result = json.loads(results[-1].read_text(encoding="utf-8"))
    if not result["ok"]:
        sys.exit(f"bench/{name}: {results[-1]} is of a run that failed: its figures say nothing")
    return result["report"]


def lab_command(doc: str, name: str, scenarios: list[str], draw) -> None:
    """Command line of such a benchmark; draw(tables) makes the plot and returns the link to it."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-run", action="store_true", help="take the newest results there are")
    if not parser.parse_args().no_run:
        subprocess.run([ROOT / "lab/run", "--keep", *scenarios], check=True, stdout=sys.stderr)
    tables = [t for scenario in scenarios for t in newest_tables(name, scenario)]
    write_part(name, "\n".join([*map(markdown, tables), draw(tables)]))
    print(json.dumps(tables, indent=1))
