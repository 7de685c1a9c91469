# SPDX-License-Identifier: BSD-3-Clause
"""Command lines of lab/run and lab/shell."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import console, hosts, outside, project, runner, scenario
from .paths import LAB, LabError, work_dir


def new_run_dir(name: str) -> Path:
    """A fresh directory for one run; names never collide."""
    base = work_dir() / "runs"
    base.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for n in range(1000):
        path = base / (f"{name}-{stamp}" + (f"-{n}" if n else ""))
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
    raise LabError(f"cannot make a directory in {base}")


def make_host(args, run_dir: Path, files, **kw):
    return (hosts.NativeHost if args.native else hosts.LabHost)(run_dir, files, **kw)


def run_exec(args) -> int:
    """lab/run --exec: one command in a freshly booted host."""
    run_dir = new_run_dir("exec")
    host = make_host(args, run_dir, args.files, memory=args.memory, cpus=args.cpus, nic=args.nic,
                     capture=65535 if args.nic else 0,
                     init=args.init, kernel=args.kernel)
    status = 1
    try:
        began = time.monotonic()
        host.boot()
        if args.outside:
            done = console.finish(host, host.start_outside(args.outside), 60)
            if done.status:
                raise LabError(f"--outside: status {done.status}: {done.output}")
        print(f"lab: host up after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        job = host.start(args.exec)
        result = console.finish(host, job, args.timeout or 300, lambda data: os.write(1, data))
        status = result.status
        if result.timed_out:
            print(f"lab: the command was ended after {args.timeout or 300:.0f} s", file=sys.stderr)
        if args.dmesg or status:
            dmesg = console.finish(host, host.start("dmesg --level=emerg,alert,crit,err,warn | tail -60"), 60)
            print(f"lab: kernel log of the host, warnings and above:\n{dmesg.output}", file=sys.stderr)
    finally:
        host.shutdown()
    if not status and not args.keep:
        shutil.rmtree(run_dir)
    else:
        print(f"lab: logs in {run_dir}", file=sys.stderr)
    return status


def guarded(main) -> int:
    """Runs main with the exit statuses and messages that both commands share."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return main()
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


def setup() -> None:
    if subprocess.run([LAB / "setup.sh"], check=False).returncode:
        raise LabError("required packages are missing")


def common_options(parser) -> None:
    parser.add_argument("--native", action="store_true", help="this machine is the host (needs VT-x and root)")
    parser.add_argument("--files", type=Path, metavar="DIR",
                        help="what /opt/elisa holds; default: build and install the project")
    parser.add_argument("--keep", action="store_true", help="keep all files of the run")
    parser.add_argument("--memory", type=int, default=1536, metavar="MIB", help="of the emulated host")
    parser.add_argument("--cpus", type=int, default=1, help="of the emulated host")
    parser.add_argument("--kernel", default="stock", choices=hosts.SLOWER,
                        help="of the emulated host; debug: with KASAN and lockdep (lab/debug-kernel)")


def run_main() -> int:
    parser = argparse.ArgumentParser(
        prog="lab/run", description="Runs scenarios, or one command, in the emulated VT-x host.")
    common_options(parser)
    parser.add_argument("--exec", metavar="COMMAND", help="boot the host, run one command in it, end")
    parser.add_argument("--nic", type=int, default=0, choices=range(outside.NICS_MAX + 1),
                        help="with --exec: e1000 cards in the host; frames are captured in the run's directory (--keep)")
    parser.add_argument("--init", default="agent", choices=scenario.INITS,
                        help="with --exec: the host's first process")
    parser.add_argument("--outside", metavar="COMMAND", help="with --nic: run this at their other end first")
    parser.add_argument("--timeout", type=float, metavar="S", help="for --exec (default 300)")
    parser.add_argument("--dmesg", action="store_true", help="with --exec: print the host's kernel warnings")
    parser.add_argument("--verbose", action="store_true", help="print what each step prints")
    parser.add_argument("--shell", action="store_true", help="a shell in the host after the last step")
    parser.add_argument("--group", help="all scenarios of this group")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="set a scenario's variable")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="scenarios at a time (each burns a core)")
    parser.add_argument("--begin-within", type=float, default=float("inf"), metavar="MINUTES",
                        help="skip scenarios that others keep from beginning by then")
    parser.add_argument("--list", action="store_true", help="list scenarios")
    parser.add_argument("scenario", nargs="*", help="name in lab/scenarios, or path of a .toml file")
    args = parser.parse_args()
    if (args.nic and (args.native or args.exec is None)) or (args.outside and not args.nic):
        parser.error("--outside needs --nic, --nic needs --exec, and the emulated host")
    if args.exec is None:
        return runner.main(args, parser)
    setup()
    args.files = args.files or project.stage(args.kernel)
    return run_exec(args)


def shell_main() -> int:
    parser = argparse.ArgumentParser(
        prog="lab/shell", description="A shell in the emulated host or in one of its guests.")
    common_options(parser)
    parser.add_argument("where", help="host, or the name of a guest of the scenario")
    parser.add_argument("scenario", nargs="?", default="selftest", help="whose guests to boot")
    args = parser.parse_args()
    scen = scenario.load(scenario.find(args.scenario))
    names = [g["name"] for g in scen.guests]
    if args.where != "host" and args.where not in names:
        raise LabError(f"no guest '{args.where}' in {scen.name}: host, {', '.join(names)}")
    setup()
    run_dir = new_run_dir("shell")
    host = make_host(args, run_dir, args.files or project.stage(args.kernel),
                     memory=scen.host.get("memory", args.memory), cpus=scen.host.get("cpus", args.cpus),
                     nic=scen.host.get("nic", 0), init=scen.host.get("init", "agent"), kernel=args.kernel)
    run = runner.Run(scen, host, run_dir, False)
    try:
        host.boot()
        run.line("host up")
        run.write_guest_settings()
        if args.where != "host" and not run.report_step(run.step(1, {"start_guest": names}), {}):
            return 1
        command = "exec bash -i" if args.where == "host" else f"guest exec -t {args.where} 'exec bash -i'"
        return console.interactive(host, command)
    finally:
        host.shutdown()
        if not args.keep:
            shutil.rmtree(run_dir)
