# SPDX-License-Identifier: BSD-3-Clause
"""One command on a host, and a terminal connected to one."""

import os
import queue
import select
import shutil
import signal
import sys
import termios
import time
import tty
from dataclasses import dataclass

from .hosts import HostDied

TIMED_OUT = 124


@dataclass
class Result:
    """What a command did. status is -1 while it runs, TIMED_OUT (timed_out set) when it was ended."""
    status: int = -1
    output: str = ""
    timed_out: bool = False
    seconds: float = 0.0


def finish(host, job, timeout: float, on_output=None) -> Result:
    """Waits for a job, at most timeout seconds; then ends it. Raises HostDied."""
    result = Result()
    parts = []
    begun = time.monotonic()
    deadline = begun + timeout
    killed = 0
    while True:
        try:
            kind, value = job.events.get(timeout=0.5)
        except queue.Empty:
            host.check_alive()
            if time.monotonic() < deadline:
                continue
            if killed == 2:
                host.declare_dead(f"a command did not end, not even by SIGKILL, in {timeout:.0f} s")
            result.timed_out = True
            job.signal(signal.SIGKILL if killed else signal.SIGTERM)
            killed += 1
            deadline = time.monotonic() + 6
            continue
        if kind == "out":
            parts.append(value)
            if on_output:
                on_output(value)
        elif kind == "exit":
            result.status = TIMED_OUT if result.timed_out else value
            break
        else:
            time.sleep(0.5)
            host.check_alive()
            raise HostDied("the link to the host broke")
    result.output = b"".join(parts).decode(errors="replace")
    result.seconds = time.monotonic() - begun
    return result


def interactive(host, command: str) -> int:
    """Connects this terminal to a command on the host until it ends."""
    if not sys.stdin.isatty():
        job = host.start(command, with_stdin=True)
        return _pump(host, job)
    size = shutil.get_terminal_size()
    job = host.start(command, pty_size=(size.lines, size.columns))
    saved = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        return _pump(host, job)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)


def _pump(host, job) -> int:
    watch_input = True
    while True:
        if watch_input and select.select([0], [], [], 0)[0]:
            data = os.read(0, 512)
            job.stdin(data)
            watch_input = bool(data)
        try:
            kind, value = job.events.get(timeout=0.05)
        except queue.Empty:
            host.check_alive()
            continue
        if kind == "out":
            os.write(1, value)
        elif kind == "exit":
            return value
        else:
            host.check_alive()
            raise HostDied("the link to the host broke")
