# SPDX-License-Identifier: BSD-3-Clause
"""Runs scenarios: boots a host, takes the steps in order, judges, keeps the record."""

import json
import re
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from . import console, scenario
from .expr import ExprError, evaluate
from .hosts import SLOWER, HostDied, native_obstacle, quote
from .outside import obstacle
from .paths import LabError
from .scenario import ScenarioError, as_list, number, substitute

SKIP = 77
STEP_TIMEOUT = 120
BOOT_TIMEOUT = 240

# What must never appear in the host's kernel log.
BAD_LOG = re.compile(
    r"WARNING: |BUG: |kernel BUG at|Oops|Call Trace|general protection|[Kk]ernel panic|"
    r"possible (recursive|circular) locking|suspicious RCU|rcu:.*(stall|starved)|soft lockup|"
    r"hung task|blocked for more than|refcount_t|use-after-free|[Uu]nable to handle")

_print_lock = threading.Lock()
_running = []  # hosts of the scenarios that run now


@dataclass
class StepResult:
    number: int
    name: str
    on: str
    ok: bool = False
    status: int = None
    seconds: float = 0.0
    why: str = ""
    output: str = ""
    values: dict = field(default_factory=dict)


class Run:
    """One scenario on one host."""

    def __init__(self, scen, host, run_dir: Path, verbose: bool, prefix: str = ""):
        self.scen = scen
        self.host = host
        self.run_dir = run_dir
        self.verbose = verbose
        self.prefix = prefix
        self.values = {k: v for k, v in scen.vars.items()}
        self.results = []
        self.background = {}
        self.tables = []
        self.began = time.monotonic()
        self.slower = SLOWER[getattr(host, "kernel", "stock")]
        (run_dir / "steps").mkdir(exist_ok=True)

    # -- what the user sees --

    def line(self, text: str) -> None:
        seconds = int(time.monotonic() - self.began)
        with _print_lock:
            print(f"{self.prefix}[{seconds // 60:2}:{seconds % 60:02}] {text}", flush=True)

    def show_output(self, text: str, limit: int) -> None:
        lines = text.rstrip().splitlines()
        if len(lines) > limit:
            lines = lines[:limit // 2] + [f"... {len(lines) - limit} lines ..."] + lines[-(limit // 2):]
        with _print_lock:
            for line in lines:
                print(f"{self.prefix}          | {line[:160]}", flush=True)

    # -- commands --

    def start(self, on: str, text: str):
        if on == "outside":
            return self.host.start_outside(text)
        return self.host.start(text if on == "host" else f"guest exec {on} {quote(text)}")

    def execute(self, text: str, timeout: float, on: str = "host") -> console.Result:
        left = self.scen.timeout * self.slower - (time.monotonic() - self.began)
        if left <= 0:
            raise HostDied(f"the scenario took longer than its timeout of {self.scen.timeout:.0f} s")
        job = self.start(on, text)
        return console.finish(self.host, job, min(timeout * self.slower, left))

    def write_guest_settings(self) -> None:
        parts = [f"mkdir -p {self.host.run_dir_inside}"]
        for g in self.scen.guests:
            text = ""
            for key, value in g.items():
                if key != "name":
                    value = ("on" if value else "off") if isinstance(value, bool) else value
                    text += f"{key}='{value}'\n"
            parts.append(f"printf %s {quote(text)} >{self.host.run_dir_inside}/{g['name']}.conf")
        result = self.execute(" && ".join(parts), 60)
        if result.status:
            raise LabError(f"cannot write the guests' settings: {result.output}")

    # -- steps --

    def step(self, n: int, raw: dict) -> StepResult:
        name = raw.get("name") or next(f"{a} {raw[a]}" for a in scenario.ACTIONS if a in raw)
        r = StepResult(n, str(name), raw.get("on", "host"))
        began = time.monotonic()
        try:
            step = substitute({k: v for k, v in raw.items() if k != "capture"}, self.values)
            if "capture" in raw:
                step["capture"] = substitute(raw["capture"], self.values)
            r.name, r.on = str(step.get("name", name)), step.get("on", "host")
            if "when" in step and not evaluate(step["when"], self.values):
                r.ok, r.why = True, "skipped: " + step["when"]
                return r
            self.attempt(step, r)
        except (ExprError, ScenarioError) as e:
            r.ok, r.why = False, str(e)
        finally:
            r.seconds = round(time.monotonic() - began, 2)
            self.keep(r)
        return r

    def attempt(self, step: dict, r: StepResult) -> None:
        """Takes a step, again while it has retries and fails."""
        for tries_left in range(step.get("retries", 0), -1, -1):
            r.why = self.act(step, r)
            r.ok = not r.why
            if r.ok or not tries_left:
                break
            time.sleep(step.get("delay", 1))
        if not r.ok and r.on not in ("host", "outside"):
            self.explain_guest(r)

    def act(self, step: dict, r: StepResult) -> str:
        """Takes a step once. Returns why it failed, or an empty string."""
        timeout = step.get("timeout", STEP_TIMEOUT)
        if "run" in step and step.get("background"):
            job = self.start(r.on, step["run"])
            self.background[step["as"]] = (job, step)
            return ""
        if "run" in step:
            result = self.execute(step["run"], timeout, r.on)
        elif "wait" in step:
            if step["wait"] not in self.background:
                return f"no background step '{step['wait']}' runs"
            job, begun = self.background.pop(step["wait"])
            result = console.finish(self.host, job, timeout * self.slower)
            step = {**begun, **step}
        elif "sleep" in step:
            result = self.execute(f"sleep {float(step['sleep'])}", timeout + float(step["sleep"]))
        elif "check" in step:
            return self.checks(step)
        else:
            return self.guest_action(step, r)
        r.status, r.output = result.status, result.output
        if result.timed_out:
            return f"did not end within {timeout} s"
        return self.judge(step, result, r)

    def judge(self, step: dict, result: console.Result, r: StepResult) -> str:
        expected = step.get("expect_exit", 0)
        expected = 255 if expected == "gone" else expected
        if expected != "any" and result.status not in as_list(expected):
            return f"exit status {result.status}, expected {expected}"
        for pattern in as_list(step.get("expect", [])):
            if not re.search(pattern, result.output, re.M):
                return f"output has no match of /{pattern}/"
        for pattern in as_list(step.get("reject", [])):
            if found := re.search(pattern, result.output, re.M):
                return f"output has '{found.group()}', a match of /{pattern}/"
        return self.capture(step, result.output, r) or self.checks(step)

    def capture(self, step: dict, output: str, r: StepResult) -> str:
        parsed = None
        if step.get("parse") == "json":
            try:
                parsed = json.loads(output)
            except json.JSONDecodeError as e:
                return f"output is not JSON: {e}"
        for name, what in step.get("capture", {}).items():
            if parsed is not None:
                try:
                    value = scenario.select(parsed, what)
                except KeyError as e:
                    return f"capture {name}: {e.args[0]}"
            else:
                found = re.search(what, output, re.M)
                if not found:
                    return f"capture {name}: output has no match of /{what}/"
                value = number(found.group(1))
            self.values[name] = r.values[name] = value
        return ""

    def checks(self, step: dict) -> str:
        for text in as_list(step.get("check", [])):
            if not evaluate(text, self.values):
                names = {k: v for k, v in self.values.items() if re.search(rf"\b{re.escape(k)}\b", text)}
                known = ", ".join(f"{k} = {str(v)[:60]}" for k, v in sorted(names.items()))
                return f"check failed: {text}   ({known})"
        return ""

    def guest_action(self, step: dict, r: StepResult) -> str:
        action = next(a for a in scenario.ACTIONS if a in step)
        names = as_list(step[action])
        verb = action.split("_")[0]
        timeout = step.get("timeout", BOOT_TIMEOUT)
        commands = [f"guest {verb} {n}" for n in names]
        if verb == "start":
            commands += [f"timeout {timeout * self.slower} guest wait {n}" for n in names]
        for text in commands:
            result = self.execute(text, timeout)
            r.status, r.output = result.status, r.output + result.output
            if result.status:
                r.on = names[0] if len(names) == 1 else next(n for n in names if text.endswith(n))
                return f"'{text}': " + (result.output.strip() or f"no answer in {timeout} s")
        return ""

    def explain_guest(self, r: StepResult) -> None:
        """A failed step on a guest: say so if the guest itself is gone."""
        status = self.execute(f"guest status {r.on}; cd {self.host.run_dir_inside}/{r.on} "
                              "&& tail -n 5 qemu.log console", 60)
        state, _, tail = status.output.partition("\n")
        if state == "running" and r.why.startswith("'timeout"):
            r.why += f"; the end of its console:\n{tail}"
        elif state != "running":
            r.why += f"; guest {r.on} has ended ({state}); its last words:\n{tail}"

    def keep(self, r: StepResult) -> None:
        self.results.append(r)
        slug = re.sub(r"[^A-Za-z0-9]+", "-", r.name).strip("-")[:40]
        path = self.run_dir / "steps" / f"{r.number:02}-{slug}.txt"
        path.write_text(f"# {r.on}: {r.name}\n# status {r.status}, {r.seconds} s, "
                        f"{'ok' if r.ok else 'FAILED: ' + r.why}\n{r.output}")

    # -- the whole --

    def run(self) -> bool:
        """Boots, takes all steps, collects. Returns whether all checks held."""
        self.line(f"scenario {self.scen.name}: {self.scen.description}")
        failed = False
        try:
            self.host.boot()
            self.line(f"host    up ({self.host.name})")
            if self.scen.guests:
                self.write_guest_settings()
            for n, raw in enumerate(self.scen.steps, 1):
                if failed and not raw.get("always") and not self.scen.keep_going:
                    continue
                failed |= not self.report_step(self.step(n, raw), raw)
            failed |= not self.check_log()
        except HostDied as e:
            failed = True
            self.line(f"host    FAILED: {e}")
            self.results.append(StepResult(len(self.results) + 1, "host", "host", why=str(e)))
        if not self.host.why_dead:
            self.collect(failed)
        self.make_tables()
        return not failed

    def report_step(self, r: StepResult, raw: dict) -> bool:
        shown = ", ".join(f"{k} = {v}" for k, v in r.values.items() if isinstance(v, (int, float, str)))
        state = "ok" if r.ok else "FAIL"
        if r.ok and r.why:
            state = "skip"
        self.line(f"{r.on:7} {state:4} {r.name}" + (f"  ({shown[:100]})" if shown else ""))
        if not r.ok:
            self.line(f"{r.on:7}      {r.why}")
            self.show_output(r.output, 24)
        elif self.verbose or raw.get("show"):
            self.show_output(r.output, 1000 if self.verbose else 60)
        return r.ok

    def check_log(self) -> bool:
        """The host's kernel log must be clean, whatever the scenario did."""
        allowed = [re.compile(p) for p in self.scen.host.get("allow_log", [])]
        if self.host.name == "native":
            result = self.execute("journalctl -k -b -o cat --since "
                                  f"-{int(time.monotonic() - self.began) + 1}s", 60)
        else:
            result = self.execute("dmesg | grep -iE 'warn|bug|oops|trace|protection|locking|rcu|lockup|"
                                  "blocked|panic|refcount|free|unable' | head -c 8000; true", 60)
        text = result.output
        log = self.run_dir / "console.log"
        if log.exists():
            text += log.read_text(errors="replace")
        bad = [line for line in text.splitlines()
               if BAD_LOG.search(line) and not any(a.search(line) for a in allowed)]
        bad = [line for line in bad if "Firmware Bug" not in line]
        r = StepResult(len(self.results) + 1, "the host's kernel log is clean", "host", ok=not bad,
                       output="\n".join(bad), why=bad[0].strip() if bad else "")
        self.keep(r)
        return self.report_step(r, {})

    def collect(self, failed: bool) -> None:
        """Ends background jobs; after a failure brings logs out of the host."""
        for job, _ in self.background.values():
            job.signal(15)
        if not failed:
            return
        inside = self.host.run_dir_inside
        try:
            result = self.execute("dmesg | tail -n 150", 60)
            (self.run_dir / "host-dmesg.txt").write_text(result.output)
            for g in self.scen.guests:
                result = self.execute(f"cd {inside}/{g['name']} 2>/dev/null && tail -c 6000 console; "
                                      f"tail -c 2000 qemu.log; cat status 2>/dev/null", 60)
                (self.run_dir / f"guest-{g['name']}.txt").write_text(result.output)
        except HostDied as e:
            self.line(f"host         logs could not be collected: {e}")

    def cell(self, text) -> object:
        if not isinstance(text, str):
            return text
        try:
            if text.startswith("="):
                value = evaluate(text[1:], self.values)
                return round(value, 3) if isinstance(value, float) else value
            return substitute(text, self.values)
        except (ExprError, ScenarioError):
            return "-"

    def make_tables(self) -> None:
        for table in self.scen.report:
            rows = [[self.cell(c) for c in row] for row in table.get("rows", [])]
            self.tables.append({"title": table.get("title", ""), "columns": table["columns"],
                                "rows": rows, "note": table.get("note", "")})

    def result(self, ok: bool) -> dict:
        return {
            "scenario": self.scen.name, "description": self.scen.description, "ok": ok,
            "host": self.host.name, "seconds": round(time.monotonic() - self.began, 1),
            "steps": [vars(r) | {"output": r.output[-4000:]} for r in self.results],
            "values": {k: v for k, v in self.values.items() if k not in self.scen.vars},
            "report": self.tables,
        }


def format_table(table: dict) -> str:
    rows = [[str(c) for c in row] for row in [table["columns"], *table["rows"]]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table["columns"]))]
    numeric = [all(not isinstance(r[i], str) or r[i] == "-" for r in table["rows"]) for i in range(len(widths))]
    lines = [table["title"]] if table["title"] else []
    for n, row in enumerate(rows):
        cells = [c.rjust(w) if num else c.ljust(w) for c, w, num in zip(row, widths, numeric)]
        lines.append("  " + "  ".join(cells).rstrip())
        if n == 0:
            lines.append("  " + "  ".join("-" * w for w in widths))
    if table.get("note"):
        lines.append(f"  {table['note']}")
    return "\n".join(lines)


def missing_need(need: str, args, files) -> str:
    """Why a need of a scenario is not met, or an empty string."""
    kind, _, what = need.partition(":")
    if kind in ("lab", "native"):
        return "" if (kind == "native") == args.native else f"runs only in {kind} mode"
    if kind == "outside":
        return obstacle()
    if kind == "file":
        return "" if files and list(files.glob(what)) else f"the project has no {what}"
    if kind == "tool":
        return "" if shutil.which(what) else f"no program {what} on this machine"
    raise ScenarioError(f"unknown need '{need}' (known: lab, native, outside, file:PATTERN, tool:NAME)")


def run_one(scen, args, files, prefix: str) -> int:
    """Runs one scenario. Returns 0, 1 or SKIP."""
    from .cli import make_host, new_run_dir
    if time.monotonic() > args.begin_by:
        print(f"{prefix}SKIP {scen.name}: not begun within {args.begin_within:.0f} minutes", flush=True)
        return SKIP
    for need in [*scen.needs, *(["lab", "outside"] if scen.host.get("nic") else []),
                 *(["lab"] if scen.host.get("init") == "systemd" else [])]:
        if why := missing_need(need, args, files):
            print(f"{prefix}SKIP {scen.name}: {why}", flush=True)
            return SKIP
    run_dir = new_run_dir(scen.name)
    settings = {"memory": scen.host.get("memory", args.memory), "cpus": scen.host.get("cpus", args.cpus)}
    settings |= {"kernel": args.kernel}
    settings |= {key: scen.host[key] for key in ("model", "nic", "capture", "clock", "init") if key in scen.host}
    host = make_host(args, run_dir, files, **settings)
    run = Run(scen, host, run_dir, args.verbose, prefix)
    ok = False
    _running.append(host)
    try:
        ok = run.run()
        if args.shell and not host.why_dead:
            run.line("shell in the host; 'guest exec -t NAME sh' for one in a guest; exit to end")
            console.interactive(host, "exec bash -i")
    finally:
        _running.remove(host)
        host.shutdown()
        result = run.result(ok)
        (run_dir / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    finished(run, ok, args)
    return 0 if ok else 1


def finished(run, ok: bool, args) -> None:
    with _print_lock:
        for table in run.tables:
            print("\n" + format_table(table))
        if run.tables:
            print()
    if ok and not args.keep:
        for name in ["bochs.log", "bochsrc", "bochs.rc", "lab", "outside"]:
            path = run.run_dir / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    passed = sum(r.ok for r in run.results)
    run.line(f"{'PASS' if ok else 'FAIL'} {run.scen.name}: {passed} of {len(run.results)} steps ok; "
             f"record in {run.run_dir}")


def run_all(chosen: list, args, files) -> list:
    """Runs all scenarios, args.jobs at a time. Returns the state of each."""
    if len(chosen) == 1 or args.jobs == 1:
        return [run_one(s, args, files, "") for s in chosen]
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = [pool.submit(run_one, s, args, files, f"{s.name}: ") for s in chosen]
        try:
            return [f.result() for f in futures]
        except BaseException:
            # Interrupted: the workers end when their hosts do.
            for f in futures:
                f.cancel()
            for host in list(_running):
                host.why_dead = "interrupted"
                host.kill()
            raise


def choose(args, parser) -> list:
    names = list(args.scenario)
    if args.group:
        names += [n for n in scenario.all_names() if args.group in scenario.load(scenario.find(n)).groups]
    if not names:
        parser.error("name a scenario (--list shows them), or --exec a command")
    overrides = {}
    for item in args.set or []:
        key, eq, value = item.partition("=")
        if not eq:
            parser.error(f"--set {item}: must be NAME=VALUE")
        overrides[key] = number(value)
    return [scenario.load(scenario.find(n), overrides) for n in names]


def main(args, parser) -> int:
    """lab/run with scenarios. Returns the exit status."""
    from . import project
    from .cli import setup
    if args.list:
        for name in scenario.all_names():
            s = scenario.load(scenario.find(name))
            print(f"{name:20} [{', '.join(s.groups)}] {s.description}")
        return 0
    args.begin_by = time.monotonic() + 60 * args.begin_within
    chosen = choose(args, parser)
    if args.native and (why := native_obstacle()):
        print(f"lab: {why}", file=sys.stderr)
        return 1
    setup()
    files = args.files or project.stage(args.kernel)
    states = run_all(chosen, args, files)
    if len(states) > 1:
        for s, state in zip(chosen, states):
            print(f"  {({0: 'PASS', 1: 'FAIL', SKIP: 'SKIP'})[state]} {s.name}")
    if 1 in states:
        return 1
    return SKIP if all(s == SKIP for s in states) else 0
