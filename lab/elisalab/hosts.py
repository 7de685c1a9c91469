# SPDX-License-Identifier: BSD-3-Clause
"""Where scenarios run: LabHost is a machine emulated by Bochs, NativeHost is this machine."""

import os
import pty
import queue
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
import tty
from pathlib import Path

from . import images
from .outside import Outside
from .link import RUN_PTY, RUN_STDIN, AgentLink, LinkDown
from .paths import LAB, LabError

BOCHS_SCREEN = re.compile(rb'connected to screen "(/dev/pts/\d+)"')
BOCHSRC = """display_library: term
config_interface: textconfig
plugin_ctrl: speaker=0, e1000={e1000}, usb_uhci=0, es1370=0, sb16=0, gameport=0, parallel=0
cpu: model={model}, count={cpus}, ips=100000000, reset_on_triple_fault=0
memory: guest={memory}, host={memory}
romimage: file=$BXSHARE/BIOS-bochs-latest
vgaromimage: file=$BXSHARE/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path="{host}", mode=volatile, journal="{run}/j0"
ata0-slave: type=disk, path="{guest}", mode=volatile, journal="{run}/j1"
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=cdrom, path="{boot}", status=inserted
ata1-slave: type=disk, path="{files}", mode=volatile, journal="{run}/j2"
boot: cdrom
floppy_bootsig_check: disabled=1
com1: enabled=1, mode=file, dev="{run}/console.log"
com2: enabled=1, mode=socket-client, dev="127.0.0.1:{port}"
log: "{run}/bochs.log"
clock: sync={clock}
pci: enabled=1, chipset=i440fx{slots}
{cards}panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""

CARD = ('e1000: card={n}, enabled=1, mac=52:54:00:e1:00:{n:02x}, ethmod=tuntap, '
        'ethdev=/dev/net/tun:{tap}, script=""\n')

KERNEL_FATAL = re.compile(rb"Kernel panic - not syncing[^\r\n]*|LAB-FATAL: [^\r\n]*")


# The host's kernels, and how many times as long as with the first one anything may take.
SLOWER = {"stock": 1, "debug": 8}


class HostDied(LabError):
    """The host ended or hangs."""


class LabHost:
    """The emulated machine. Boot it, run commands in it, end it."""

    name = "lab"
    run_dir_inside = "/run/lab"

    def __init__(self, run_dir: Path, files, memory: int = 1536, cpus: int = 1,
                 model: str = "broadwell_ult", nic: int = 0, capture: int = 0, clock: str = "none",
                 init: str = "agent", kernel: str = "stock"):
        self.run_dir = run_dir
        self.files = files
        self.memory = memory
        self.cpus = cpus
        self.model = model
        self.nics = int(nic)
        self.capture = capture
        self.clock = clock
        self.init = init
        self.kernel = kernel
        self.outside = None
        self.process = None
        self.link = None
        self.why_dead = None
        self.exit_expected = False

    def boot(self, timeout: float = 240) -> None:
        """Boots it and waits for its agent. Raises HostDied."""
        paths = images.base_images(self.init, self.kernel)
        timeout *= SLOWER[self.kernel]
        images.make_files_disk(self.files, self.run_dir / "files.img")
        listener = socket.create_server(("127.0.0.1", 0))
        if self.nics:
            self.outside = Outside(self.run_dir / "outside", self.nics)
        taps = self.outside.taps if self.outside else []
        config = BOCHSRC.format(run=self.run_dir, port=listener.getsockname()[1], memory=self.memory,
                                cpus=self.cpus, model=self.model, files=self.run_dir / "files.img",
                                clock=self.clock, e1000=int(bool(taps)),
                                slots="".join(f", slot{n + 1}=e1000" for n in range(len(taps))),
                                cards="".join(CARD.format(n=n, tap=tap) for n, tap in enumerate(taps)),
                                **paths)
        (self.run_dir / "bochsrc").write_text(config)
        (self.run_dir / "bochs.rc").write_text("c\n")
        self._spawn()
        deadline = time.monotonic() + timeout
        listener.settimeout(1)
        sock = None
        while not sock:
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                self.check_alive()
                if time.monotonic() > deadline:
                    self.declare_dead("Bochs does not connect to its command port")
        listener.close()
        if self.outside:
            self.outside.adopt(self.check_alive)
            if self.capture:
                self.outside.capture(self.capture)
        self.link = AgentLink(sock)
        while not self.link.hello.wait(0.2):
            self.check_alive()
            if time.monotonic() > deadline:
                self.declare_dead(f"the emulated host did not boot within {timeout:.0f} s")

    def _spawn(self) -> None:
        if not shutil.which("bochs"):
            raise LabError("bochs is not installed: run lab/setup.sh")
        master, slave = pty.openpty()
        env = dict(os.environ, TERM="xterm")
        env.pop("BXSHARE", None)
        # setpriv: should this program be killed, the emulator must not stay behind
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "bochs", "-q", "-f", str(self.run_dir / "bochsrc"), "-rc", str(self.run_dir / "bochs.rc")],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=self.run_dir, env=env)
        os.close(slave)
        threading.Thread(target=self._drain, args=(master,), daemon=True).start()

    @staticmethod
    def _drain(fd: int, said: bytes | None = b"") -> None:
        """
        Bochs paints an emulated screen; nobody looks at it. The build with the debugger paints on a
        terminal that it opens itself and names in its output, and stops for good after some minutes
        when that is full of what nobody has read: so that one (`said` None) is read as well.
        """
        try:
            while data := os.read(fd, 65536):
                if said is None:
                    continue
                said = (said + data)[-1000:]
                if found := BOCHS_SCREEN.search(said):
                    screen = os.open(found[1], os.O_RDONLY | os.O_NOCTTY)
                    tty.setraw(screen)
                    threading.Thread(target=LabHost._drain, args=(screen, None), daemon=True).start()
                    said = None
        except OSError:
            pass
        os.close(fd)

    def declare_dead(self, why: str) -> None:
        """Ends the emulator and raises HostDied."""
        self.why_dead = why
        self.kill()
        raise HostDied(f"{why}; see {self.run_dir}/console.log and bochs.log")

    def check_alive(self) -> None:
        """Raises HostDied when the emulator ended or the emulated kernel panicked."""
        if self.why_dead:
            raise HostDied(self.why_dead)
        console = self.run_dir / "console.log"
        if console.exists() and (found := KERNEL_FATAL.search(console.read_bytes())):
            self.declare_dead(f"the emulated host's kernel: {found.group().decode(errors='replace')}")
        if self.process.poll() is not None:
            log = self.run_dir / "bochs.log"
            panics = [line for line in log.read_text(errors="replace").splitlines()
                      if ">>PANIC<<" in line] if log.exists() else []
            self.declare_dead(f"Bochs ended (status {self.process.returncode}): "
                       f"{panics[-1] if panics else 'no reason in its log'}")

    def start(self, command: str, pty_size=None, with_stdin: bool = False):
        flags = (RUN_PTY if pty_size else 0) | (RUN_STDIN if with_stdin or pty_size else 0)
        try:
            return self.link.run(command, flags, pty_size or (24, 80))
        except LinkDown as e:
            self.check_alive()
            raise HostDied(str(e)) from e

    def start_outside(self, command: str):
        """A command in the namespace at the other end of the NICs."""
        env = dict(os.environ, PATH=f"{LAB / 'outside'}:{os.environ['PATH']}")
        return NativeJob(self.outside.argv("sh", "-c", command), env, cwd=self.outside.directory)

    def shutdown(self) -> None:
        """Ends the machine from inside, and by force when that takes too long."""
        if self.process and self.process.poll() is None and self.link and self.link.hello.is_set() \
                and not self.why_dead:
            try:
                self.link.quit()
                self.process.wait(8)
            except (LinkDown, subprocess.TimeoutExpired):
                pass
        self.kill()

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.link:
            self.link.sock.close()
        if self.outside:
            self.outside.close()
        for name in ["files.img", "j0", "j1", "j2"]:
            (self.run_dir / name).unlink(missing_ok=True)


class NativeJob:
    """A command on this machine; the same events as link.Job."""

    def __init__(self, argv: list, env: dict, cwd=None):
        self.events = queue.Queue()
        self.status = None
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, env=env, cwd=cwd,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        start_new_session=True)
        self.reader = threading.Thread(target=self._reader, daemon=True)
        self.reader.start()
        threading.Thread(target=self._waiter, daemon=True).start()

    def _reader(self) -> None:
        while data := os.read(self.process.stdout.fileno(), 65536):
            self.events.put(("out", data))
        self.process.stdout.close()

    def _waiter(self) -> None:
        status = self.process.wait()
        self.reader.join(0.2)  # what it printed last; a daemon left behind may hold the pipe
        self.stdin(b"")
        self.events.put(("exit", status if status >= 0 else 128 - status))

    def signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def stdin(self, data: bytes) -> None:
        try:
            if data:
                self.process.stdin.write(data)
                self.process.stdin.flush()
            else:
                self.process.stdin.close()
        except OSError:
            pass


def native_obstacle() -> str:
    """Why this machine cannot be the host, or an empty string."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    flags = set(re.findall(r"[\w.]+", " ".join(re.findall(r"^(?:vmx )?flags\s*:(.*)$", cpuinfo, re.M))))
    if not {"vmx", "ept"} <= flags:
        return "no VT-x with EPT here: run without --native to use the emulated machine"
    if os.geteuid() != 0:
        return "--native needs root: it loads a kernel module and starts guests"
    if not os.path.exists("/dev/kvm"):
        return "no /dev/kvm: load the module kvm-intel"
    if not shutil.which("qemu-system-x86_64"):
        return "no qemu-system-x86_64: install qemu-system-x86"
    return ""


class NativeHost:
    """This machine as host: the same commands and guests, without an emulator."""

    name = "native"

    def __init__(self, run_dir: Path, files, **_):
        self.run_dir = run_dir
        self.files = files
        self.why_dead = None
        self.run_dir_inside = str(run_dir / "guests")

    def boot(self, timeout: float = 0) -> None:
        if why := native_obstacle():
            raise LabError(why)
        paths = images.base_images()
        guest_dir = self.run_dir / "images"
        guest_dir.mkdir()
        Path(self.run_dir_inside).mkdir()
        (guest_dir / "root.img").symlink_to(paths["guest"])
        for name in ["vmlinux", "initrd"]:
            images.run(["debugfs", "-R", f"dump /boot/{name} {guest_dir / name}", paths["guest"]])
        images.make_files_disk(self.files, guest_dir / "files.img")
        top = self.run_dir / "lab"
        images.add_lab_files(top)
        self.link_project()
        self.env = dict(os.environ, LAB_RUN=self.run_dir_inside, LAB_GUEST_IMAGES=str(guest_dir),
                        LD_LIBRARY_PATH="/opt/elisa/lib",
                        PATH=f"/opt/elisa/bin:/opt/elisa/sbin:{top}:{os.environ['PATH']}")

    def link_project(self) -> None:
        """Scenarios know the project by /opt/elisa; that name must not belong to anybody else."""
        link = Path("/opt/elisa")
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            raise LabError("/opt/elisa exists: --native needs that name for the files under test")
        if self.files:
            link.symlink_to(self.files.resolve())

    def check_alive(self) -> None:
        pass

    def start(self, command: str, pty_size=None, with_stdin: bool = False):
        return NativeJob(["sh", "-c", command], self.env)

    def shutdown(self) -> None:
        for conf in Path(self.run_dir_inside).glob("*.conf"):
            subprocess.run(["guest", "kill", conf.stem], env=self.env, check=False)
        Path("/opt/elisa").unlink(missing_ok=True)
        shutil.rmtree(self.run_dir / "images", ignore_errors=True)

    kill = shutdown


def quote(text: str) -> str:
    return shlex.quote(text)
