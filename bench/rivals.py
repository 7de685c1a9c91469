# SPDX-License-Identifier: BSD-3-Clause
"""dpdk-testpmd over net_elisa, and over what it is to be compared with.

Two layouts, on two cores:
    one way  sender (txonly) on core 0, receiver (rxonly) on core 1, two processes
    loop     one process on core 0 owns both ends (io; 512 frames travel around in each direction);
             a switch that needs a core of its own has core 1
Three processes that poll on two cores would starve each other; that compares nothing.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from benchlib import BUILD

EAL = "--no-pci --no-telemetry --in-memory --single-file-segments -m 192".split()
APP = "--total-num-mbufs=16384 --rxd=1024 --txd=1024 --no-mlockall".split()
MACS = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]
OVS = Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk")


class Failed(Exception):
    pass


def wait_for(what, why, timeout=20):
    end = time.monotonic() + timeout
    while not (result := what()):
        if time.monotonic() > end:
            raise Failed(why() if callable(why) else why)
        time.sleep(0.02)
    return result


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads: fields 14 and 15 of proc(5)'s stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Testpmd:
    """One interactive dpdk-testpmd with one forwarding core; the other lcore is for commands."""

    def __init__(self, directory: Path, name: str, core: int, mode: str, vdevs, extra=()):
        # Into a file it would print only now and then.
        args = ["stdbuf", "-oL", "dpdk-testpmd", "--lcores", f"0@{1 - core},1@{core}", *EAL,
                "--file-prefix", name]
        if vdevs[0].startswith("net_elisa"):
            args += ["-d", directory / "librte_net_elisa.so", "--iova-mode=va"]
        args += [a for vdev in vdevs for a in ("--vdev", vdev)]
        args += ["--", "-i", "--nb-cores=1", f"--forward-mode={mode}", *APP, *extra]
        self.path = directory / f"{name}.log"
        with open(self.path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=log, stderr=log,
                                            text=True, env={**os.environ,
                                                            "LD_LIBRARY_PATH": str(directory)})
        self.ask("", "testpmd> ")

    def log(self) -> str:
        return self.path.read_text(errors="replace")

    def ask(self, command: str, answer: str) -> str:
        """Gives a command, unless it is empty, and returns what was printed up to `answer`."""
        seen = len(self.log()) if command else 0
        if command:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()

        def answered():
            if self.process.poll() is not None:
                raise Failed(f"dpdk-testpmd ended:\n{self.log()[-2000:]}")
            found = re.search(answer, self.log()[seen:])
            return found and self.log()[seen:seen + found.end()]
        return wait_for(answered, lambda: f"no answer to '{command}':\n{self.log()[-2000:]}")

    def links_up(self, ports: int) -> None:
        def up():
            text = self.ask("show port summary all", r"(?m)^%d .*\n" % (ports - 1))
            return len(re.findall(r"(?m)^\d .* up", text)) == ports
        wait_for(up, lambda: "no link:\n" + self.log()[-1500:])

    def received(self, ports: int) -> int:
        text = self.ask("show port stats all", r"(?s)(#####.*?TX-packets.*?#####.*?){%d}" % ports)
        return sum(int(n) for n in re.findall(r"RX-packets: (\d+)", text))

    def end(self) -> None:
        try:
            self.process.stdin.write("quit\n")
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


class Ovs:
    """Open vSwitch with DPDK, in a directory of its own: NORMAL, one PMD thread on core 1."""

    def __init__(self, directory: Path):
        self.dir, self.processes = directory, []
        self.env = {**os.environ, "OVS_RUNDIR": str(directory), "OVS_DBDIR": str(directory),
                    "OVS_SYSCONFDIR": str(directory), "OVS_LOGDIR": str(directory)}
        self.db = f"unix:{directory}/db.sock"
        self.tool("ovsdb-tool", "create", directory / "conf.db",
                  "/usr/share/openvswitch/vswitch.ovsschema")
        self.spawn("ovsdb-server", directory / "conf.db", f"--remote=p{self.db}",
                   f"--unixctl={directory}/ovsdb.ctl")
        wait_for((directory / "db.sock").exists, "ovsdb-server does not start")
        self.vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".",
                   "other_config:dpdk-init=true", "other_config:pmd-cpu-mask=0x2",
                   "other_config:dpdk-lcore-mask=0x1",
                   'other_config:dpdk-extra="--no-pci --no-telemetry --in-memory '
                   '--single-file-segments -m 512"')
        self.spawn(OVS, self.db, f"--unixctl={directory}/ovs.ctl")
        wait_for((directory / "ovs.ctl").exists, self.log)
        self.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
        for i in (0, 1):
            self.vsctl("add-port", "br0", f"v{i}", "--", "set", "Interface", f"v{i}",
                       "type=dpdkvhostuser")
            wait_for((directory / f"v{i}").exists, self.log)
        flows = self.tool("ovs-ofctl", "dump-flows", f"unix:{directory}/br0.mgmt")
        if "actions=NORMAL" not in flows:
            raise Failed("Open vSwitch does not forward with NORMAL:\n" + flows)

    def log(self) -> str:
        return "\n".join(p.read_text(errors="replace")[-1500:] for p in self.dir.glob("ovs*.log"))

    def spawn(self, program, *args) -> None:
        log = open(self.dir / f"{Path(program).name}.log", "w", encoding="utf-8")
        self.processes.append(subprocess.Popen([program, *args], env=self.env, stdout=log,
                                               stderr=log, stdin=subprocess.DEVNULL))
        log.close()

    def tool(self, *args) -> str:
        run = subprocess.run(args, env=self.env, text=True, timeout=30, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
        if run.returncode:
            raise Failed(f"{' '.join(map(str, args))}: {run.stdout}\n{self.log()}")
        return run.stdout

    def vsctl(self, *args) -> None:
        self.tool("ovs-vsctl", f"--db={self.db}", *args)

    def end(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def vhost(path: Path, i: int = 0) -> str:
    return f"net_vhost{i},iface={path},queues=1"


def virtio(path: Path, i: int = 0) -> str:
    return f"net_virtio_user{i},path={path},queues=1,queue_size=1024,mac={MACS[i]}"


def elisa(switch, i: int, port: str, gate: int, name: str) -> str:
    return (f"net_elisa{i},port={port},transport=local,socket={switch.socket},name={name}" +
            (f",gate={gate}" if gate else ""))


def peers(*macs: str) -> list[str]:
    return [f"--eth-peer={i},{mac}" for i, mac in enumerate(macs)]


# ---- one measurement each: returns the processes that take part, endpoints first ----

def memif(d: Path, switch):
    args = f"id=0,socket={d}/memif,socket-abstract=no"
    rx = Testpmd(d, "rx", 1, "rxonly", [f"net_memif0,role=server,{args}"])
    return [rx, Testpmd(d, "tx", 0, "txonly", [f"net_memif0,role=client,{args}"])]


def vhost_direct(d: Path, switch):
    rx = Testpmd(d, "rx", 1, "rxonly", [vhost(d / "vhost")])
    return [rx, Testpmd(d, "tx", 0, "txonly", [virtio(d / "vhost")])]


def elisa_one_way(gate: int):
    def start(d: Path, switch):
        rx = Testpmd(d, "rx", 1, "rxonly", [elisa(switch, 0, "0", gate, "y")])
        return [rx, Testpmd(d, "tx", 0, "txonly", [elisa(switch, 0, "0", gate, "x")],
                            peers(switch.macs["y"]))]
    return start


def elisa_loop(gate: int):
    def start(d: Path, switch):
        vdevs = [elisa(switch, i, str(i), gate, "pair") for i in (0, 1)]
        return [Testpmd(d, "ends", 0, "io", vdevs,
                        peers(switch.macs["pair1"], switch.macs["pair0"]))]
    return start


def patch_panel(d: Path, switch):
    panel = Testpmd(d, "panel", 1, "io", [vhost(d / f"vhost{i}", i) for i in (0, 1)])
    panel.ask("start", "testpmd> ")
    ends = Testpmd(d, "ends", 0, "io", [virtio(d / f"vhost{i}", i) for i in (0, 1)],
                   peers(MACS[1], MACS[0]))
    return [ends, panel]


def ovs_normal(d: Path, switch):
    ovs = Ovs(d)
    try:
        ends = Testpmd(d, "ends", 0, "io", [virtio(d / f"v{i}", i) for i in (0, 1)],
                       peers(MACS[1], MACS[0]))
    except Failed:
        ovs.end()
        raise
    return [ends, ovs]


RIVALS = {
    # name: title, layout, start, Debian package
    "elisa-0": ("net_elisa, gate 0", "one way", elisa_one_way(0), "dpdk"),
    "elisa-196": ("net_elisa, gate 196 ns", "one way", elisa_one_way(196), "dpdk"),
    "memif": ("memif, no zero copy", "one way", memif, "dpdk"),
    "vhost-direct": ("vhost-user, no switch", "one way", vhost_direct, "dpdk"),
    "elisa-loop-196": ("net_elisa, gate 196 ns", "loop", elisa_loop(196), "dpdk"),
    "vhost-testpmd": ("vhost-user, testpmd between", "loop", patch_panel, "dpdk"),
    "ovs": ("OVS-DPDK, NORMAL", "loop", ovs_normal, "openvswitch-switch-dpdk"),
}


def pids_of(parties) -> list[int]:
    return [p.pid for party in parties
            for p in (party.processes if isinstance(party, Ovs) else [party.process])]


def measure(name: str, directory: Path, switch, seconds: float) -> dict:
    """One run: frames a second received, and what all processes together spent on one."""
    _, layout, start, _ = RIVALS[name]
    directory.mkdir()
    shutil.copy(BUILD / "pmd/librte_net_elisa.so", directory)
    shutil.copy(BUILD / "elisa-guest/libelisa-guest.so.0", directory)
    parties = start(directory, switch)
    try:
        return sample(parties, 2 if layout == "loop" else 1, switch, seconds)
    finally:
        for party in reversed(parties):
            party.end()


def teach(ends: Testpmd) -> None:
    """A switch may lose its first frames while it learns: a burst each way, until one comes through."""
    def comes_through():
        ends.ask("start tx_first 1", "testpmd> ")
        time.sleep(0.2)
        ends.ask("stop", "Done")
        return ends.received(2)
    wait_for(comes_through, lambda: "nothing arrives:\n" + ends.log()[-1500:])


def sample(parties, ports: int, switch, seconds: float) -> dict:
    receiver = parties[0]
    for party in parties:
        if isinstance(party, Testpmd):
            party.links_up(ports)
    if ports == 1:
        receiver.ask("start", "testpmd> ")
        parties[1].ask("start", "testpmd> ")
    else:
        teach(receiver)
        receiver.ask("start tx_first 16", "testpmd> ")
    time.sleep(0.5)
    pids = pids_of(parties) + [switch.process.pid]
    frames, spent, begin = receiver.received(ports), sum(map(cpu_seconds, pids)), time.monotonic()
    time.sleep(seconds)
    frames = receiver.received(ports) - frames
    wall, spent = time.monotonic() - begin, sum(map(cpu_seconds, pids)) - spent
    if not frames:
        raise Failed("nothing arrives:\n" + receiver.log()[-1500:])
    return {"mpps": frames / wall * 1e-6, "cpu_ns": spent * 1e9 / frames}
