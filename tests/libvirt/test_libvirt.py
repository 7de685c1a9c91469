# SPDX-License-Identifier: BSD-3-Clause
"""
A libvirtd of our own, with the hook, in a mount namespace: a domain without KVM starts, is stopped,
saved, restored and killed. The daemon is the one with the test double of libelisa-host, which takes
any process for a VM.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.environ["DAEMON_TESTS"])
import daemontest as dt

QEMU = "/usr/bin/qemu-system-x86_64"
NS = "https://elisa-vswitch.org/xmlns/libvirt/domain/1.0"
METADATA = """<elisa:vm xmlns:elisa="%s"%%s>
  <elisa:port name="web0" mac="02:00:00:00:00:01" queues="2"/>%%s
</elisa:vm>""" % NS
DOMAIN = """<domain type='qemu'>
  <name>web</name>
  <memory unit='MiB'>32</memory>
  <metadata>%s</metadata>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/><apic/><pmu state='off'/></features>
  <cpu mode='maximum' check='none'><feature policy='disable' name='pcid'/></cpu>
  <devices>
    <emulator>%s</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
# As root, without what needs systemd or the packages' users.
QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
memory_backing_dir = "/dev/shm"
"""


def namespace():
    """Runs this again with folders of its own under /etc, /run and /var."""
    if os.getuid():
        dt.skip("needs root, for a mount namespace")
    for program in "libvirtd", "virsh", QEMU, "unshare":
        if not shutil.which(program):
            dt.skip("%s is not installed" % program)
    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        dt.skip("no mount namespace is possible here")
    os.environ["LIBVIRT_NAMESPACE"] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable,
                          *sys.argv])


def run(*args):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60)


def mount(*args):
    r = run("mount", *args)
    if r.returncode:
        dt.skip("mount %s: %s" % (" ".join(args), r.stdout))


def prepare(folder):
    for name in "etc", "run", "var/lib", "var/cache", "var/log":
        path = "/%s/libvirt" % name
        os.makedirs(path, exist_ok=True)
        mount("-t", "tmpfs", "tmpfs", path)
    # The QEMU driver wants the user that Debian's other package makes.
    for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/:/bin/false\n"),
                       ("group", "libvirt-qemu:x:64055:\n")):
        copy = os.path.join(folder, name)
        with open("/etc/" + name) as f, open(copy, "w") as g:
            g.write("".join(l for l in f if not l.startswith("libvirt-qemu:")) + line)
        mount("--bind", copy, "/etc/" + name)
    os.makedirs("/etc/libvirt/hooks/qemu.d")
    for name, text in ("qemu.conf", QEMU_CONF), ("libvirtd.conf", 'auth_unix_rw = "none"\n'):
        with open("/etc/libvirt/" + name, "w") as f:
            f.write(text)


class Libvirt(dt.DaemonCase):
    program = dt.FAKE
    config = ""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="elisa-libvirt-", dir="/tmp")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        prepare(cls.folder)
        cls.libvirtd = None
        cls.addClassCleanup(cls.libvirtd_stop)

    @classmethod
    def libvirtd_stop(cls):
        if cls.libvirtd:
            cls.libvirtd.terminate()
            cls.libvirtd.wait()
        cls.libvirtd = None

    @classmethod
    def libvirtd_start(cls):
        with open(os.path.join(cls.folder, "libvirtd.log"), "ab") as log:
            cls.libvirtd = subprocess.Popen(["libvirtd"], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        dt.wait_for(lambda: not cls.virsh("version").returncode, 30, 0.2)

    @classmethod
    def virsh(cls, *args):
        return run("virsh", "-q", "-c", "qemu:///system", *args)

    def ok(self, *args):
        r = self.virsh(*args)
        self.assertEqual(r.returncode, 0, r.stdout)
        return r.stdout

    def setUp(self):
        self.env = {"FAKE_HOST_DIR": self.folder}
        super().setUp()
        hook = "/etc/libvirt/hooks/qemu.d/elisa"
        with open(hook + ".new", "w") as f:
            f.write('#!/bin/sh\nexec %s --run-dir %s "$@"\n' % (os.environ["LIBVIRT_HOOK_SAN"],
                                                               self.d.dir))
        os.chmod(hook + ".new", 0o755)
        os.rename(hook + ".new", hook)
        if not self.libvirtd:
            self.libvirtd_start()
        self.addCleanup(self.virsh, "undefine", "web")
        self.addCleanup(self.virsh, "destroy", "web")

    def define(self, attributes="", ports=""):
        path = os.path.join(self.folder, "web.xml")
        with open(path, "w") as f:
            f.write(DOMAIN % (METADATA % (attributes, ports), QEMU))
        self.ok("define", path)

    def vm(self):
        return self.d.call("status")["vms"].get("web") or {}

    def ports(self):
        return self.d.call("port.list")["ports"]

    def pid(self):
        with open("/run/libvirt/qemu/web.pid") as f:
            return int(f.read())

    def attached(self):
        dt.wait_for(lambda: self.vm().get("state") == "attached")
        self.assertEqual(self.vm()["pid"], self.pid())

    def gone(self):
        dt.wait_for(lambda: not self.vm() and not self.ports())
        self.assertEqual(os.listdir(self.d.path("domains")), [])

    def test_start_destroy(self):
        self.define()
        self.ok("start", "web")
        self.attached()
        port = self.ports()["web0"]
        self.assertEqual((port["mac"], port["queues"], port["bound_to"]),
                         ("02:00:00:00:00:01", 2, "web"))
        self.ok("reset", "web")
        self.attached()
        self.ok("destroy", "web")
        self.gone()

    def test_qemu_dies(self):
        self.define()
        self.ok("start", "web")
        self.attached()
        os.kill(self.pid(), signal.SIGKILL)
        self.gone()

    def test_save_restore(self):
        self.define()
        self.ok("start", "web")
        self.attached()
        image = os.path.join(self.folder, "save")
        self.ok("save", "web", image)
        self.gone()
        self.ok("restore", image)
        self.attached()

    def test_libvirtd_restarts(self):
        """Nothing happens, but what was changed with --live meanwhile."""
        self.define()
        self.ok("start", "web")
        self.attached()
        before = self.ports()
        with open(os.path.join(self.folder, "log")) as f:
            attaches = f.read().count("attach %d" % self.pid())
        self.libvirtd_stop()
        self.attached()
        self.libvirtd_start()
        dt.wait_for(lambda: "running" in self.ok("list", "--all"))
        self.assertEqual(self.ports(), before)
        with open(os.path.join(self.folder, "log")) as f:
            self.assertEqual(f.read().count("attach %d" % self.pid()), attaches)
        self.ok("metadata", "web", NS, "--live", "--key", "elisa", "--set",
                '<vm><port name="web0" mac="02:00:00:00:00:01" queues="2" mtu="9000"/>'
                '<port name="web1"/></vm>')
        self.libvirtd_stop()
        self.libvirtd_start()
        dt.wait_for(lambda: self.vm()["ports"] == ["web0", "web1"])
        self.assertEqual(self.ports()["web0"]["mtu"], 9000)
        self.assertEqual(self.ports()["web0"]["index"], before["web0"]["index"])
        self.ok("destroy", "web")
        self.gone()

    def test_daemon_restarts(self):
        self.define()
        self.d.kill()
        self.ok("start", "web")
        self.d.start()
        self.attached()
        self.d.kill()
        self.ok("destroy", "web")
        self.d.start()
        self.gone()

    def test_required(self):
        self.define(' required="yes"')
        self.d.kill()
        r = self.virsh("start", "web")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("elisa: web: elisa-vswitchd does not run: start it (systemctl start "
                      "elisa-vswitchd)", r.stdout)
        self.assertIn("shut off", self.ok("list", "--all"))
        self.d.start()
        self.ok("start", "web")
        self.attached()

    def test_wrong(self):
        """A mistake in the metadata: said with required, a domain without network else."""
        self.define(' required="yes"', '<elisa:port vlam="10"/>')
        r = self.virsh("start", "web")
        self.assertIn('elisa: web: port "web-1": unknown: "vlam"', r.stdout)
        self.ok("undefine", "web")
        self.define("", '<elisa:port vlam="10"/>')
        self.ok("start", "web")
        self.assertEqual((self.vm(), self.ports()), ({}, {}))

    # ---- docs/libvirt.md ----

    def doc_blocks(self):
        """(language, mark, text) of each fenced block."""
        with open(os.environ["DOC"]) as f:
            return re.findall(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", f.read(), re.M)

    def doc_domain(self):
        """The first domain there, but for KVM."""
        text = next(text for lang, mark, text in self.doc_blocks() if lang == "xml")
        for there, here in (("'kvm'", "'qemu'"), ("1024", "32"), (" mode='host-passthrough'",
                            " mode='maximum' check='none'"), ("/usr/bin/qemu-system-x86_64", QEMU)):
            self.assertIn(there, text)
            text = text.replace(there, here)
        with open(os.path.join(self.folder, "web.xml"), "w") as f:
            f.write(text)

    def doc_programs(self):
        """The environment for the commands there: elisactl is for this daemon."""
        path = os.path.join(self.folder, "elisactl")
        with open(path, "w") as f:
            f.write('#!/bin/sh\nexec %s --socket %s/control.sock "$@"\n' % (dt.CTL, self.d.dir))
        os.chmod(path, 0o755)
        return dict(os.environ, PATH="%s:%s" % (self.folder, os.environ["PATH"]),
                    LIBVIRT_DEFAULT_URI="qemu:///system")

    def test_doc(self):
        """Every command of docs/libvirt.md, in its order, and both pieces of XML."""
        self.doc_domain()
        env, blocks = self.doc_programs(), self.doc_blocks()
        commands = [text for lang, mark, text in blocks if mark == "test=libvirt"]
        self.assertEqual(len(commands), 6)
        self.assertFalse([mark for lang, mark, text in blocks if lang == "sh" and mark !=
                          "test=libvirt" and not mark.startswith(("lab=", 'skip="'))])
        for text in commands:
            text = text.replace("/usr/libexec/elisa-libvirt-hook", os.environ["LIBVIRT_HOOK"])
            r = subprocess.run(["bash", "-ec", text], env=env, cwd=self.folder, timeout=60, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual(r.returncode, 0, text + r.stdout)
        self.attached()
        self.assertEqual(sorted(self.ports()), ["web0", "web1"])
        xml = [text for lang, mark, text in blocks if lang == "xml"]
        self.ok("destroy", "web")
        self.ok("undefine", "web")
        with open(os.path.join(self.folder, "web.xml"), "w") as f:
            f.write(DOMAIN % (xml[1], QEMU))
        self.ok("define", f.name)
        self.ok("start", "web")
        self.attached()
        port = self.ports()["web0"]
        self.assertEqual((port["vlan"]["allowed"], port["groups"], sorted(self.ports())),
                         ("10,20-30", [0, 3], ["web-1", "web0"]))


if "LIBVIRT_NAMESPACE" not in os.environ:
    namespace()
dt.main()
