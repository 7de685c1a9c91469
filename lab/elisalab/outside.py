# SPDX-License-Identifier: BSD-3-Clause
"""The outside: a network namespace of this machine, the other end of the emulated host's NICs.

Each e1000 card of the emulator writes to a TAP, which the emulator makes and which is then moved into
the namespace as up0, up1. Namespaces (network, processes, mounts) and TAPs have no names that could
be left behind: they end with the process that holds them, and all that was started there with them.
"""

import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

from .paths import LabError

NICS_MAX = 2
_serial = itertools.count()


def obstacle() -> str:
    """Why this machine cannot have an outside, or an empty string."""
    for tool, package in [("ip", "iproute2"), ("tcpdump", "tcpdump"), ("nsenter", "util-linux")]:
        if not shutil.which(tool):
            return f"no program {tool}: install {package} (lab/setup.sh does)"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as e:
        return f"/dev/net/tun: {e.strerror}: emulated NICs need TAP interfaces"
    made = subprocess.run(["unshare", "-n", "-p", "-m", "--fork", "--mount-proc", "true"], check=False,
                          capture_output=True, text=True)
    return "" if not made.returncode else \
        f"no network namespace allowed here, emulated NICs need one: {made.stderr.strip()}"


class Outside:
    """The namespace and the TAPs of `nics` cards."""

    def __init__(self, directory: Path, nics: int):
        if why := obstacle():
            raise LabError(f"[host] nic: {why}")
        self.directory = directory
        self.directory.mkdir(exist_ok=True)
        base = f"el{os.getpid()}-{next(_serial)}"
        self.taps = [f"{base}-{n}" for n in range(nics)]
        self.captures = []
        # setpriv: it ends with this program, however that ends
        self.holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "-n", "-p", "-m", "--fork", "--kill-child=KILL",
             "--mount-proc", "sh", "-c", "ip link set lo up; echo ready; sleep infinity; true"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True)
        said = self.holder.stdout.readline()
        if said != b"ready\n":
            self.close()
            raise LabError(f"the outside's namespace: {said.decode(errors='replace').strip()}")
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text("ascii")
        self.pid = int(children.split()[0])

    def argv(self, *command: str) -> list:
        """The command line that runs a command there."""
        return ["nsenter", "-t", str(self.pid), "-n", "-p", "-m", f"--wd={self.directory}", *command]

    def run(self, *command: str) -> None:
        done = subprocess.run(self.argv(*command), check=False, capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"outside: {' '.join(command)}: {done.stderr.strip()}")

    def adopt(self, alive, timeout: float = 20) -> None:
        """Takes the TAPs from the emulator, which has opened them. alive(): raises when it ended."""
        deadline = time.monotonic() + timeout
        for n, tap in enumerate(self.taps):
            while not Path(f"/sys/class/net/{tap}").exists():
                alive()
                if time.monotonic() > deadline:
                    raise LabError(f"Bochs does not open its TAP {tap}; see bochs.log")
                time.sleep(0.05)
            moved = subprocess.run(["ip", "link", "set", tap, "netns", str(self.pid), "name", f"up{n}",
                                    "address", f"02:00:00:00:ff:{n:02x}"], check=False,
                                   capture_output=True, text=True)
            if moved.returncode:
                raise LabError(f"cannot move {tap} into a network namespace: {moved.stderr.strip()}")
            # nothing but what a scenario sends
            self.run("sysctl", "-q", f"net.ipv6.conf.up{n}.disable_ipv6=1")
            self.run("ip", "link", "set", f"up{n}", "up")

    def capture(self, snap: int) -> None:
        """From now on all frames go to up0.pcap, up1.pcap, each written at once."""
        for n in range(len(self.taps)):
            log = open(self.directory / f"tcpdump{n}.log", "wb")
            self.captures.append(subprocess.Popen(
                self.argv("tcpdump", "-i", f"up{n}", "-U", "--immediate-mode", "-Z", "root", "-B", "16384",
                          "-s", str(snap), "-w", f"up{n}.pcap"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))
            log.close()
            self.wait_for(self.directory / f"tcpdump{n}.log", b"listening on")

    @staticmethod
    def wait_for(path: Path, text: bytes, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while text not in path.read_bytes():
            if time.monotonic() > deadline:
                raise LabError(f"tcpdump does not start: {path.read_text(errors='replace').strip()}")
            time.sleep(0.05)

    def close(self) -> None:
        """Ends all that runs there, and it."""
        if self.holder.poll() is None:
            self.holder.kill()
            self.holder.wait()
        for process in self.captures:
            process.wait()
        self.holder.stdout.close()
