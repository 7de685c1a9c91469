# SPDX-License-Identifier: BSD-3-Clause
"""Disk images of the emulated host and its guests, made from Debian packages.

Each image is named after a hash of its recipe, so an image that exists is up to date:

    host-HASH.img   root of the emulated host      (packages, kernel)
    systemd-HASH.img  the same with systemd and libvirt
    guest-HASH.img  root of the guests, with their kernel and initramfs in /boot
    boot-HASH.iso   boot loader, kernel and initramfs of the emulated host
    files-*.img     the project disk of one run: the caller's directory and the lab's own scripts
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from .paths import LAB, LabError, work_dir

SUITE = "bookworm"
RELEASE = "4"  # part of every recipe: raise it when this file builds something different

COMMON_PACKAGES = ["busybox", "iproute2", "kmod", "mount", "procps", "util-linux"]
HOST_PACKAGES = COMMON_PACKAGES + [
    "libconfig9", "libjansson4", "libsystemd0", "qemu-system-x86", "socat", "strace"]
# A host with a service manager ([host] init = "systemd"), with libvirt, and what the project's packages need.
SYSTEMD_PACKAGES = ["dbus", "libvirt-clients", "libvirt-daemon-system", "systemd-sysv", "udev", "libexpat1",
                    "libpcap0.8"]
GUEST_PACKAGES = COMMON_PACKAGES + [
    "arping", "ethtool", "iperf3", "iputils-ping", "libjansson4", "socat", "tcpdump"]

# dpdk-testpmd's package depends on hundreds of MB of development files. So the program is taken out
# of it, and only what it links comes in its own packages.
TESTPMD = ("dpdk-dev", "usr/bin/dpdk-testpmd")
TESTPMD_PACKAGES = [f"librte-{name}23" for name in [
    "bitratestats", "bpf", "cmdline", "crypto-scheduler", "gro", "gso", "latencystats", "mempool-ring",
    "net-bnxt", "net-bond", "net-dpaa", "net-i40e", "net-ice", "net-ixgbe", "net-mlx5-", "pdump"]]
GUEST_FILES = [TESTPMD]
GUEST_PACKAGES += TESTPMD_PACKAGES

# NIC ports: drivers for the host. DPDK loads every driver in its folder, so others are not left there.
HOST_FILES = [TESTPMD]
HOST_DRIVERS = ["bus-pci", "bus-vdev", "mempool-ring", "mempool-stack", "net-af-packet", "net-bond",
                "net-e1000-", "net-null", "net-ring", "net-tap"]
HOST_PACKAGES += TESTPMD_PACKAGES + [f"librte-{name}23" for name in HOST_DRIVERS]
DRIVER_DIR = "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0"
# Gives DPDK a device without IOMMU (the emulator has none, and Debian's kernel no VFIO without one).
# Built here from the package's source, against the kernel's headers.
IGB_UIO_PACKAGE = "dpdk-kmods-dkms"

# bench/apps: a server and a load generator without what their packages start or depend on (perl), and
# netperf, which Debian has in its component non-free: optional, an image without it works otherwise.
GUEST_PACKAGES += ["libevent-2.1-7", "libmemcached11", "libmemcachedutil2", "libsasl2-2", "libssl3"]
GUEST_FILES += [("memcached", "usr/bin/memcached"), ("libmemcached-tools", "usr/bin/memcaslap")]
NON_FREE_FILES = [("netperf", "usr/bin/netperf"), ("netperf", "usr/bin/netserver")]

HOST_INITRAMFS_MODULES = ["ata_piix", "sd_mod", "overlay"]
GUEST_INITRAMFS_MODULES = ["virtio_mmio", "virtio_pci", "virtio_blk", "virtio_console", "overlay"]

ALWAYS_LOADED = HOST_INITRAMFS_MODULES + GUEST_INITRAMFS_MODULES + [
    "virtio", "virtio_ring", "libata", "scsi_mod", "scsi_common", "irqbypass", "kvm", "kvm_intel", "tun"]

# Left out of the images: nothing reads them there, and an emulated disk is slow.
EXCLUDE = [
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
    "/usr/share/lintian/*", "/usr/share/bug/*", "/usr/share/icons/*", "/usr/share/applications/*",
    "/usr/share/qemu/edk2-*", "/usr/share/qemu/keymaps/*", "/usr/share/qemu/*.dtb",
    "/usr/share/qemu/u-boot*", "/usr/share/qemu/skiboot*", "/usr/share/qemu/openbios*",
    "/usr/share/qemu/efi-*", "/usr/share/OVMF/*", "/usr/share/zoneinfo/*",
    "/usr/bin/qemu-system-i386", "/usr/lib/udev/hwdb.d/*", "/usr/share/seabios/vgabios*",
    "/lib/udev/hwdb.d/*",
]

BOOT_OPTIONS = ("console=ttyS0,115200 mitigations=off nokaslr tsc=reliable no_timer_check quiet "
                "loglevel=5 panic=-1 random.trust_cpu=on cryptomgr.notests=1 "
                "initcall_blacklist=load_system_certificate_list")
ISOLINUX_CFG = """serial 0 115200
default l
prompt 0
timeout 1
label l
 kernel /vmlinuz
 append initrd=/initrd {options} elisa.root=elisa-host elisa.init=host-init
"""


def say(text: str) -> None:
    print(f"lab: {text}", flush=True)


def run(argv: list, **kw) -> str:
    """Runs a program; its output, or LabError with the end of what it printed."""
    argv = [str(a) for a in argv]
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       errors="replace", check=False, stdin=subprocess.DEVNULL, **kw)
    if p.returncode:
        tail = "\n".join(p.stdout.splitlines()[-15:])
        raise LabError(f"'{' '.join(argv)[:200]}' failed (status {p.returncode}):\n{tail}")
    return p.stdout


def recipe_hash(*parts) -> str:
    """A short hash over strings, lists of strings and the contents of files."""
    h = hashlib.sha256(RELEASE.encode())
    for part in parts:
        for item in part if isinstance(part, (list, tuple)) else [part]:
            data = item.read_bytes() if isinstance(item, Path) else str(item).encode()
            h.update(len(data).to_bytes(8, "little") + data)
    return h.hexdigest()[:12]


@contextlib.contextmanager
def locked(name: str):
    """One builder at a time, among all runs that share the directory."""
    with open(work_dir() / f".{name}.lock", "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def kernel_version() -> str:
    """The cloud kernel whose headers are installed here: modules built against them must load."""
    for dep in run(["dpkg-query", "-W", "-f", "${Depends}", "linux-headers-cloud-amd64"]).split(","):
        name = dep.split()[0]
        if name.startswith("linux-headers-"):
            return name[len("linux-headers-"):]
    raise LabError("the package linux-headers-cloud-amd64 is not installed: run lab/setup.sh")


def debug_kernel() -> Path:
    """Where lab/debug-kernel left its kernel, after it has built it if it was not there."""
    say("the debug kernel: lab/debug-kernel")
    p = subprocess.run([LAB / "debug-kernel"], stdout=subprocess.PIPE, text=True, check=False,
                       env=dict(os.environ, ELISA_LAB_DIR=str(work_dir())))
    if p.returncode:
        raise LabError("there is no debug kernel: lab/debug-kernel failed")
    return Path(p.stdout.splitlines()[-1])


def headers(kernel: Path) -> Path:
    """The folder that modules for a debug kernel are built against."""
    return next(kernel.glob("linux-headers-*"))


def apt_sources(component: str = "main") -> list:
    """The Debian mirrors this machine uses, as one-line sources of one component."""
    out = run(["apt-get", "indextargets", "--format",
               "$(ORIGIN) $(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"])
    lines = []
    for line in out.splitlines():
        origin, uri, codename, known = line.split()[:4]
        if origin == "Debian" and codename.startswith(SUITE) and known == "main":
            lines.append(f"deb {uri} {codename} {component}")
    return sorted(set(lines)) or [f"deb http://deb.debian.org/debian {SUITE} {component}"]


def apt_proxy_options() -> list:
    dump = run(["apt-config", "dump"])
    return [f"--aptopt={line}" for line in dump.splitlines()
            if line.startswith("Acquire::http") and "Proxy" in line]


def unpack_kernel(version: str) -> Path:
    """Downloads and unpacks Debian's kernel package. Returns its directory."""
    target = work_dir() / "kernel" / f"{version}-{RELEASE}"
    if target.exists():
        return target
    say(f"fetching Debian's kernel {version}")
    with tempfile.TemporaryDirectory(dir=work_dir()) as tmp:
        os.chmod(tmp, 0o755)
        try:
            run(["apt-get", "download", "-q", f"linux-image-{version}"], cwd=tmp)
        except LabError as e:
            raise LabError(f"no kernel package for the installed headers {version}; upgrade them "
                           f"(apt-get install linux-headers-cloud-amd64)\n{e}") from e
        deb = next(Path(tmp).glob("*.deb"))
        run(["dpkg-deb", "-x", deb, f"{tmp}/x"])
        for module in Path(tmp).rglob("*.ko"):
            lighten(module)
        run(["depmod", "-b", f"{tmp}/x", version])
        target.parent.mkdir(exist_ok=True)
        os.rename(f"{tmp}/x", target)
    return target


def plain_kernel(bzimage: bytes) -> bytes:
    """The uncompressed kernel inside a bzImage: QEMU starts it by its PVH entry, seconds earlier.

    Header fields: Documentation/arch/x86/boot.rst. A payload other than LZ4: the bzImage as it is.
    """
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack("<II", bzimage[0x248:0x250])
    payload = bzimage[(setup_sectors + 1) * 512:][offset:offset + length]
    if payload[:4] != b"\x02\x21\x4c\x18" or not shutil.which("lz4"):
        return bzimage
    # the payload ends with the size of the plain kernel, which is not LZ4 data
    plain = subprocess.run(["lz4", "-d", "-c"], input=payload[:-4], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, check=False).stdout
    return plain if len(plain) == int.from_bytes(payload[-4:], "little") else bzimage


def make_ext4(directory: Path, image: Path, label: str, spare_mib: int = 16) -> None:
    used = int(run(["du", "-sk", "--apparent-size", directory]).split()[0]) >> 10
    files = sum(len(f) + len(d) for _, d, f in os.walk(directory))
    size = used + used // 8 + files // 500 + spare_mib
    new = image.with_suffix(".new")
    new.unlink(missing_ok=True)
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum,^huge_file", "-m", "0",
         "-N", files + 1024, "-L", label, "-d", directory, new, f"{size}M"])
    os.rename(new, image)


SIGNED = b"~Module signature appended~\n"


def lighten(module: Path) -> None:
    """Cuts off Debian's signature: checking one takes an emulated processor about a second.

    For the modules that every boot loads, also their type information (BTF), which takes as long.
    """
    data = module.read_bytes()
    if data.endswith(SIGNED):
        # struct module_signature (linux/module_signature.h) ends with the big-endian length
        trailer = data[-len(SIGNED) - 12:-len(SIGNED)]
        length = int.from_bytes(trailer[8:12], "big")
        module.write_bytes(data[:-len(SIGNED) - 12 - length])
    if module.stem.replace("-", "_") in ALWAYS_LOADED:
        run(["objcopy", "--remove-section=.BTF", "--strip-debug", module])


def make_initramfs(kernel: Path, version: str, modules: list, out: Path) -> None:
    with tempfile.TemporaryDirectory(dir=work_dir()) as tmp:
        top = Path(tmp)
        (top / "bin").mkdir()
        (top / "modules").mkdir()
        shutil.copy("/bin/busybox", top / "bin/busybox")
        order = []
        for m in modules:
            shown = run(["modprobe", "-d", kernel, "-S", version, "--show-depends", m])
            for line in shown.splitlines():
                words = line.split()
                if words[0] == "insmod" and Path(words[1]).name not in order:
                    shutil.copy(words[1], top / "modules")
                    order.append(Path(words[1]).name)
        (top / "modules/order").write_text("".join(f"{m}\n" for m in order))
        shutil.copy(LAB / "rootfs/initramfs-init", top / "init")
        (top / "init").chmod(0o755)
        run(["sh", "-c", 'cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet >"$2"',
             "sh", top, out])


def bootstrap(packages: list, target: Path) -> None:
    args = ["mmdebstrap", "--variant=essential", "--mode=root", "--quiet",
            f"--include={','.join(packages)}", '--aptopt=Acquire::Languages "none"',
            '--aptopt=APT::Install-Recommends "false"', "--skip=cleanup/reproducible"]
    args += apt_proxy_options()
    args += [f"--dpkgopt=path-exclude={p}" for p in EXCLUDE]
    run(args + [SUITE, target] + apt_sources())
    for junk in ["var/cache/apt", "var/lib/apt/lists"]:
        shutil.rmtree(target / junk, ignore_errors=True)
    (target / "opt/elisa").mkdir(parents=True)
    (target / "lab/guest").mkdir(parents=True)
    (target / "etc/ld.so.conf.d/elisa.conf").write_text("/opt/elisa/lib\n")
    (target / "etc/resolv.conf").write_text("")
    (target / "etc/hostname").unlink(missing_ok=True)


def take_file(package: str, path: str, root: Path, apt_options: tuple = ()) -> None:
    """Puts one file of a package into a root, without the package's dependencies."""
    with tempfile.TemporaryDirectory(dir=work_dir()) as tmp:
        run(["apt-get", *apt_options, "download", "-q", package], cwd=tmp)
        run(["dpkg-deb", "-x", next(Path(tmp).glob("*.deb")), f"{tmp}/x"])
        shutil.copy(f"{tmp}/x/{path}", root / path)


def take_non_free(files: list, root: Path) -> None:
    """Files of packages in Debian's non-free, if it can be reached. This machine's own apt stays as it is."""
    with tempfile.TemporaryDirectory(dir=work_dir()) as tmp:
        os.chmod(tmp, 0o755)
        lines = [line.replace("deb ", "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ", 1)
                 for line in apt_sources("non-free")]
        (Path(tmp) / "sources.list").write_text("\n".join(lines) + "\n")
        for directory in ["lists/partial", "cache/archives/partial"]:
            (Path(tmp) / directory).mkdir(parents=True)
        options = ("-o", f"Dir::Etc::sourcelist={tmp}/sources.list", "-o", "Dir::Etc::sourceparts=/dev/null",
                   "-o", f"Dir::State::lists={tmp}/lists", "-o", f"Dir::Cache={tmp}/cache")
        try:
            run(["apt-get", *options, "update", "-q"])
            for package, path in files:
                take_file(package, path, root, options)
        except LabError as e:
            say(f"no {files[0][0]} in the image: Debian's non-free cannot be used here. What needs it is "
                f"skipped. To try again, remove {work_dir()}/guest-*.img\n{e}")


def keep_drivers(root: Path, names: list) -> None:
    """Leaves only these drivers in the folder that DPDK loads all of. Others stay as libraries."""
    kept = tuple(f"librte_{name.strip('-').replace('-', '_')}.so" for name in names)
    folder = root / DRIVER_DIR
    for path in folder.iterdir():
        if not path.name.startswith(kept):
            path.replace(folder.parent.parent / path.name)  # where a link to it was


def add_igb_uio(root: Path, version: str) -> None:
    """Builds the module igb_uio and puts it into a root that has its kernel's modules."""
    modules = root / "usr/lib/modules" / version
    with tempfile.TemporaryDirectory(dir=work_dir()) as tmp:
        run(["apt-get", "download", "-q", IGB_UIO_PACKAGE], cwd=tmp)
        run(["dpkg-deb", "-x", next(Path(tmp).glob("*.deb")), f"{tmp}/x"])
        source = next(Path(tmp).glob("x/usr/src/dpdk-kmods-*"))
        run(["make", "-C", f"/usr/src/linux-headers-{version}", f"M={source}", "modules"])
        (modules / "extra").mkdir()
        shutil.copy(source / "igb_uio.ko", modules / "extra")
    for name in ["extra/igb_uio.ko", "kernel/drivers/uio/uio.ko"]:
        run(["objcopy", "--remove-section=.BTF", "--strip-debug", modules / name])
    run(["depmod", "-b", root / "usr", version])


def finish_debug(root: Path, version: str) -> None:
    keep_drivers(root, HOST_DRIVERS)


def finish_host(root: Path, version: str) -> None:
    keep_drivers(root, HOST_DRIVERS)
    add_igb_uio(root, version)


def remove_old(kind: str, current: Path, keep: int = 2) -> None:
    """Removes images of outdated recipes but the last few: two versions of the project may share them."""
    others = [p for p in work_dir().glob(f"{kind}-*") if p != current]
    for old in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)[keep:]:
        old.unlink()


def build_root(kind: str, packages: list, modules: list, with_boot: bool, version: str,
               files: tuple = (), non_free: tuple = (), finish=None, kernel: Path = None) -> Path:
    """The root image of the host or the guests, built if its recipe changed.

    `files`, `non_free`: (package, path) of single files to be taken out of packages. `finish`: a function
    that does the rest. `kernel`: where the kernel is, if it is not Debian's.
    """
    digest = recipe_hash(kind, packages, modules, EXCLUDE, version, SUITE, [*files, *non_free],
                         LAB / "rootfs/initramfs-init" if with_boot else "",
                         *([finish.__name__, HOST_DRIVERS, IGB_UIO_PACKAGE] if finish else []),
                         *([kernel.name] if kernel else []))
    image = work_dir() / f"{kind}-{digest}.img"
    if image.exists():
        os.utime(image)
        return image
    say(f"building the {kind} image from Debian packages (takes about 30 s, done once)")
    kernel = kernel or unpack_kernel(version)
    with tempfile.TemporaryDirectory(dir=work_dir()) as tmp:
        root = Path(tmp) / "root"
        bootstrap(packages, root)
        for package, path in files:
            take_file(package, path, root)
        if non_free:
            take_non_free(non_free, root)
        target = root / "usr/lib/modules"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copytree(kernel / "lib/modules" / version, target / version, symlinks=True)
        if with_boot:
            (root / "boot").mkdir(exist_ok=True)
            bzimage = (kernel / f"boot/vmlinuz-{version}").read_bytes()
            (root / "boot/vmlinux").write_bytes(plain_kernel(bzimage))
            make_initramfs(kernel, version, modules, root / "boot/initrd")
        if finish:
            finish(root, version)
        make_ext4(root, image, "elisa-guest" if with_boot else "elisa-host")
    remove_old(kind, image)
    return image


def build_boot(version: str, kernel: Path = None) -> Path:
    """The boot CD of the emulated host, built if its recipe changed."""
    options = f"{BOOT_OPTIONS} {os.environ.get('ELISA_LAB_BOOT_OPTIONS', '')}"
    config = ISOLINUX_CFG.format(options=options.strip())
    digest = recipe_hash(config, version, HOST_INITRAMFS_MODULES, LAB / "rootfs/initramfs-init",
                         *([kernel.name] if kernel else []))
    image = work_dir() / f"boot-{digest}.iso"
    if image.exists():
        os.utime(image)
        return image
    say("building the boot image")
    kernel = kernel or unpack_kernel(version)
    with tempfile.TemporaryDirectory(dir=work_dir()) as tmp:
        iso = Path(tmp) / "iso"
        iso.mkdir()
        shutil.copy(kernel / f"boot/vmlinuz-{version}", iso / "vmlinuz")
        make_initramfs(kernel, version, HOST_INITRAMFS_MODULES, iso / "initrd")
        shutil.copy("/usr/lib/ISOLINUX/isolinux.bin", iso)
        shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", iso)
        (iso / "isolinux.cfg").write_text(config)
        new = image.with_suffix(".new")
        run(["xorriso", "-as", "mkisofs", "-quiet", "-o", new, "-b", "isolinux.bin", "-c", "boot.cat",
             "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", iso])
        os.rename(new, image)
    remove_old("boot", image)
    return image


def build_agent() -> Path:
    """The static program lab-agent, built if its sources changed."""
    sources = sorted((LAB / "agent").glob("*.[ch]"))
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static"]
    agent = work_dir() / f"agent-{recipe_hash(flags, sources)}"
    with locked("agent"):
        if not agent.exists():
            new = agent.with_suffix(".new")
            run(["gcc", *flags, "-o", new, *[s for s in sources if s.suffix == ".c"]])
            os.rename(new, agent)
            remove_old("agent", agent)
    return agent


def add_lab_files(target: Path) -> None:
    """The lab's own part of a project disk, in target/.lab."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copy(build_agent(), target / "lab-agent")
    for name in ["common-init", "host-init", "guest-init", "guest", "nic", "systemd-init"]:
        shutil.copy(LAB / "rootfs" / name, target / name)


def make_files_disk(files: Path, image: Path) -> None:
    """The project disk: the caller's directory and the lab's scripts."""
    with tempfile.TemporaryDirectory(dir=image.parent) as tmp:
        top = Path(tmp) / "top"
        if files:
            if not files.is_dir():
                raise LabError(f"{files} is not a directory")
            shutil.copytree(files, top, symlinks=True)
        add_lab_files(top / ".lab")
        make_ext4(top, image, "elisa-files", spare_mib=2)


def build_host(init: str, version: str, kernel: Path = None) -> Path:
    kind, packages = "host", HOST_PACKAGES
    if init == "systemd":
        kind, packages = "systemd", HOST_PACKAGES + SYSTEMD_PACKAGES
    if kernel:  # no igb_uio for that one
        return build_root(f"debug-{kind}", packages, [], False, version, HOST_FILES, (), finish_debug, kernel)
    return build_root(kind, packages, [], False, version, HOST_FILES, (), finish_host)


def base_images(init: str = "agent", kernel: str = "stock") -> dict:
    """Paths of the images that do not depend on the project: host, guest, boot. Guests' kernel is Debian's."""
    version = kernel_version()
    debug = debug_kernel() if kernel == "debug" else None
    host_version = headers(debug).name.removeprefix("linux-headers-") if debug else version
    with locked("images"):
        known = set(work_dir().iterdir())
        images = {
            "host": build_host(init, host_version, debug),
            "guest": build_root("guest", GUEST_PACKAGES, GUEST_INITRAMFS_MODULES, True, version,
                                GUEST_FILES, NON_FREE_FILES),
            "boot": build_boot(host_version, debug),
        }
    if all(path in known for path in images.values()):
        say("images are up to date")
    return images
