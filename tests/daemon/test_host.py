# SPDX-License-Identifier: BSD-3-Clause
"""
What the daemon says of its host: hugepages by node, CPU, module, pinning, command lines. The host is
a folder that stands for /sys and /proc, but for the last class: real hugepages, if any are free.
"""
import os
import shutil
import subprocess
import tempfile
import unittest

import daemontest as dt

MIB2, GIB = 2048, 1048576
CPU = "flags\t\t: fpu vmx ept vpid pcid rtm ibt\nvmx flags\t: ept vpid eptp_switching\n"
SMALL = "switch = { max_ports = 4; max_vms = 4; max_callers = 64; fdb_capacity = 1024; hugepages = \"%s\"; };\n"


def free_pages():
    with open("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") as f:
        free = int(f.read())
    with open("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages") as f:
        return free - int(f.read())


class Host(dt.DaemonCase):
    program = dt.FAKE
    config = ""

    def setUp(self):
        self.fake = tempfile.mkdtemp(prefix="elisa-fake-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.fake)
        self.env = {"FAKE_HOST_DIR": self.fake}
        for node in (0, 1):
            self.pool(node, MIB2, 0, 0)
            self.pool(node, GIB, 0, 0)
        self.put("proc/cpuinfo", CPU)
        self.put("proc/mounts", "hugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n")
        self.put("sys/module/kvm_intel/parameters/ept", "Y\n")
        self.d = None

    def begin(self, config=""):
        if self.d:
            self.d.stop()
        else:
            self.addCleanup(lambda: self.d.stop())
            self.addCleanup(self.end_children)
            self.children = []
        self.d = dt.Daemon(self.program, config, self.env)
        return self.d.start()

    def put(self, path, text):
        path = os.path.join(self.fake, "root", path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def pool(self, node, kib, total, free):
        folder = "sys/devices/system/node/node%d/hugepages/hugepages-%dkB/" % (node, kib)
        self.put(folder + "nr_hugepages", "%d\n" % total)
        self.put(folder + "free_hugepages", "%d\n" % free)

    def findings(self, check, level=None):
        return [f for f in self.d.call("doctor")["findings"]
                if f["check"] == check and level in (None, f["level"])]

    def needs(self):
        return self.d.call("status")["memory"]["needs"]

    # ---- hugepages ----

    NIC = 'nics = ( %s );\ndpdk = { library = "/nonexistent.so"; %s };\n'

    def test_by_node(self):
        """DPDK's heap is looked for on the NIC's node; what is missing is named with its command."""
        self.put("sys/bus/pci/devices/0000:00:04.0/numa_node", "1\n")
        self.pool(0, MIB2, 500, 500)
        self.pool(1, MIB2, 16, 10)
        self.begin(self.NIC % ('{ name = "up0"; pci = "0000:00:04.0"; }', "memory = 64;"))
        need, = self.needs()
        self.assertEqual(need["missing"], 22)
        self.assertEqual(need["text"], "DPDK's heap (64 MiB): 32 hugepages of 2 MiB on node 1 needed, "
                                       "10 free, 22 missing")
        self.assertIn("echo 38 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages ", need["fix"])
        self.assertIn('HUGEPAGES_2M="1:38"', need["fix"])
        self.assertIn(need["text"], self.d.log())
        found, = [f for f in self.findings("memory", "warn") if "DPDK" in f["text"]]
        self.assertEqual((found["text"], found["fix"]), (need["text"], need["fix"]))
        out = self.d.ctl("doctor").stdout
        self.assertRegex(out, r"(?m)^ok +memory +node 1: 10 of 16 hugepages of 2048 KiB free")
        self.assertRegex(out, r"(?m)^ok +memory +hugetlbfs at /dev/hugepages")
        # made meanwhile
        self.pool(1, MIB2, 38, 32)
        self.assertEqual(self.needs()[0]["missing"], 0)
        # promised to others: not ours
        self.put("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "505\n")
        self.assertEqual(self.needs()[0]["missing"], 5)
        self.pool(1, GIB, 1, 1)
        self.assertEqual(self.needs()[0]["missing"], 0)

    def test_two_nodes(self):
        """Computed from the NICs, each on its own; one without a node counts anywhere."""
        self.put("sys/bus/pci/devices/0000:00:04.0/numa_node", "0\n")
        self.put("sys/bus/pci/devices/0000:00:05.0/numa_node", "1\n")
        self.begin(self.NIC % ('{ name = "up0"; pci = "0000:00:04.0"; }, { name = "up1"; pci = "0000:00:05.0"; '
                               'queues = 4; }, { name = "n"; vdev = "net_null0"; }', ""))
        per_queue = 2 * (512 + 512 + 1280) * 2560 / 2**20
        sizes = [int(n["text"].split("(")[1].split()[0]) for n in self.needs()]
        self.assertEqual(sizes, [int(20 + per_queue) & ~1, int(4 + 4 * per_queue) & ~1, int(4 + per_queue) & ~1])
        self.assertEqual([n["text"].split(" on ")[1].split(" needed")[0] for n in self.needs()],
                         ["node 0", "node 1", "any node"])
        # Commands add up: the last one counts on the first.
        first, last = sizes[0] // 2, sizes[2] // 2
        self.assertIn("echo %d > /sys/devices/system/node/node0/" % first, self.needs()[0]["fix"])
        self.assertIn("echo %d > /sys/devices/system/node/node0/" % (first + last), self.needs()[2]["fix"])

    def test_heap_on_node(self):
        """DPDK itself takes its heap where the NIC is said to be: here is a node 0, but no node 1."""
        library = os.environ.get("VSWITCH_NIC")
        if not library or free_pages() < 16:
            self.skipTest("needs libvswitch-nic and 16 free hugepages of 2 MiB")
        if os.path.exists("/sys/devices/system/node/node1"):
            self.skipTest("this machine has a node 1")
        config = ('nics = ( { name = "up0"; pci = "ffff:00:04.0"; } );\n'
                  'dpdk = { library = "%s"; memory = 16; };\n' % library)
        for node, text in ((0, "no driver took|there is no such device|not there"), (1, "DPDK did not start with 16 MiB")):
            self.put("sys/bus/pci/devices/ffff:00:04.0/numa_node", "%d\n" % node)
            self.begin(config)
            nic, = self.d.call("status")["nics"].values()
            self.assertRegex(nic["note"], text)
            self.assertEqual(len(self.needs()), node)
            if not node:
                with open("/proc/%d/status" % self.d.process.pid) as f:
                    self.assertRegex(f.read(), r"HugetlbPages:\s+%d kB" % (16 << 10))

    def test_no_hugepages_in_kernel(self):
        shutil.rmtree(os.path.join(self.fake, "root/sys/devices/system/node"))
        self.begin(self.NIC % ('{ name = "up0"; pci = "0000:00:04.0"; }', "memory = 64;"))
        self.assertIn("boot with hugepagesz=2M", self.needs()[0]["fix"])

    def test_huge_dir(self):
        self.begin(self.NIC % ('{ name = "up0"; pci = "0000:00:04.0"; }', 'huge_dir = "/tmp";'))
        self.assertTrue([f for f in self.findings("memory", "fail") if "/tmp is no hugetlbfs" in f["text"]])

    def test_never(self):
        """By default nobody's pages are taken, and nothing is missing."""
        self.pool(0, MIB2, 500, 500)
        self.begin()
        memory = self.d.call("status")["memory"]
        self.assertEqual(memory["needs"], [])
        self.assertEqual((memory["arena"]["hugepages"], memory["arena"]["page"], memory["arena"]["fallback"]),
                         ("never", 4096, False))
        self.assertNotIn("fallback", self.d.ctl("status").stdout)

    def test_fallback(self):
        """Too few: smaller pages, and it says so wherever that shows."""
        self.pool(1, MIB2, 7, 0)
        self.begin(SMALL % "auto")
        memory = self.d.call("status")["memory"]
        self.assertEqual((memory["arena"]["page"], memory["arena"]["fallback"]), (4096, True))
        pages = -(-memory["arena"]["bytes"] // 2**21)
        self.assertEqual(memory["needs"][0]["missing"], pages)
        self.assertIn("echo %d > /sys/devices/system/node/node0/" % pages, memory["needs"][0]["fix"])
        self.assertRegex(self.d.log(), "in pages of usual size \\(fallback: hugepages are missing\\)")
        self.assertIn("%d missing: echo %d > /sys" % (pages, pages), self.d.log())
        self.assertRegex(self.d.ctl("status").stdout, r"(?m)^memory .* of 4 KiB \(fallback")
        self.assertRegex(self.d.ctl("doctor").stdout, r"(?m)^warn +memory +the switch has .* fallback")

    def test_nics_first(self):
        """What is free is DPDK's; the switch does not take it away."""
        self.put("sys/bus/pci/devices/0000:00:04.0/numa_node", "1\n")
        self.pool(1, MIB2, 32, 32)
        self.begin(SMALL % "auto" + self.NIC % ('{ name = "up0"; pci = "0000:00:04.0"; }', "memory = 64;"))
        memory = self.d.call("status")["memory"]
        self.assertTrue(memory["arena"]["fallback"])
        self.assertEqual([bool(n["missing"]) for n in memory["needs"]], [False, True])

    def test_require(self):
        d = dt.Daemon(self.program, SMALL % "require", self.env)
        self.addCleanup(shutil.rmtree, d.dir)
        r = subprocess.run([d.program, "--config", d.config, "--run-dir", d.dir], env=d.env, text=True,
                           stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(r.returncode, 71, r.stderr)
        self.assertIn('no hugepages for the switch, and switch.hugepages is "require"', r.stderr)
        self.assertRegex(r.stderr, r"missing: echo \d+ > /sys/devices/system/node/node0/")

    # ---- CPU, module, socket ----

    def test_cpu(self):
        self.begin()
        self.assertEqual(self.findings("cpu", "fail"), [])
        self.assertIn("VM functions", [f["text"] for f in self.findings("cpu", "ok")])
        self.put("proc/cpuinfo", CPU.replace("eptp_switching", ""))
        self.assertIn("VM functions", self.findings("cpu", "warn")[0]["text"])
        self.put("proc/cpuinfo", CPU.replace(" ept ", " "))
        self.assertEqual([f["text"] for f in self.findings("cpu", "fail")], ["missing: ept"])
        self.put("proc/cpuinfo", CPU.replace(" vmx", ""))
        found, = self.findings("cpu", "fail")
        self.assertIn("no VT-x", found["text"])
        self.assertIn("firmware", found["fix"])

    def test_kvm(self):
        self.begin()
        self.put("sys/module/kvm_intel/parameters/ept", "N\n")
        self.put("sys/module/kvm_intel/parameters/nested", "Y\n")
        self.put("sys/module/kvm/parameters/enable_pmu", "Y\n")
        self.assertEqual([(f["level"], f["text"]) for f in self.findings("kvm")],
                         [("fail", "kvm_intel ept=N"), ("warn", "kvm_intel nested=Y"), ("warn", "kvm enable_pmu=Y")])
        os.remove(os.path.join(self.fake, "root/sys/module/kvm_intel/parameters/ept"))
        self.assertEqual(self.findings("kvm", "fail")[0]["fix"], "modprobe kvm_intel")

    def test_no_module(self):
        """Without it: how to get it, under lockdown too, and what it would say of the CPU."""
        with open(os.path.join(self.fake, "no-module"), "w"):
            pass
        self.put("sys/devices/system/cpu/vulnerabilities/l1tf", "Mitigation: PTE Inversion; VMX: vulnerable\n")
        self.put("sys/devices/system/cpu/vulnerabilities/mds", "Not affected\n")
        self.begin()
        self.assertIn("modprobe elisa", self.findings("module", "fail")[0]["fix"])
        self.assertEqual(len(self.findings("module")), 1)
        found, = self.findings("cpu", "fail")
        self.assertIn("l1tf: Mitigation: PTE Inversion; VMX: vulnerable", found["text"])
        self.assertIn("force_vulnerable_cpu", found["fix"])
        self.put("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        self.assertIn("mokutil --import", self.findings("module", "warn")[0]["fix"])
        self.put("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        self.assertEqual(self.findings("module", "warn"), [])
        self.begin("security = { force_vulnerable_cpu = true; };")
        self.assertEqual([f["level"] for f in self.findings("cpu") if "l1tf" in f["text"]], ["warn"])

    def test_control(self):
        self.begin()
        self.assertIn("for root only", self.findings("control", "ok")[0]["text"])
        self.begin('control = { group = "daemon"; };')
        found, = self.findings("control")
        self.assertEqual(found["level"] == "warn", "adduser" in found["fix"])
        self.assertIn('group "daemon"', found["text"])
        os.chmod(self.d.path("control.sock"), 0o600)
        self.assertIn("mode 600", self.findings("control", "fail")[0]["text"])

    # ---- VMs ----

    def threads(self, pid, cpus):
        for i, allowed in enumerate(cpus):
            task = "proc/%d/task/%d/" % (pid, pid + i + 1)
            self.put(task + "comm", "CPU %d/KVM\n" % i)
            self.put(task + "status", "Name:\tCPU %d/KVM\nCpus_allowed:\tf\nCpus_allowed_list:\t%s\n" % (i, allowed))
        self.put("proc/%d/task/%d/comm" % (pid, pid), "qemu-system-x86\n")

    def test_pinning(self):
        self.begin()
        pids = [self.spawn("sleep", "1000").pid for _ in range(2)]
        for pid, name in zip(pids, ("web", "db")):
            self.d.call("attach", pid=pid, name=name)
        self.assertEqual([f["text"] for f in self.findings("pinning")],
                         ["%s: which of its threads are vCPUs cannot be told" % n for n in ("web", "db")])
        self.assertIn("debug-threads=on", self.findings("pinning")[0]["fix"])
        self.threads(pids[0], ["2", "3"])
        self.threads(pids[1], ["4", "5"])
        self.assertEqual({(f["level"], f["text"]) for f in self.findings("pinning")},
                         {("ok", "web: 2 vCPUs, each pinned"), ("ok", "db: 2 vCPUs, each pinned")})
        # one on another's CPU: once, not twice
        self.threads(pids[1], ["4", "3"])
        found, = self.findings("pinning", "warn")
        self.assertRegex(found["text"], r"vCPU 1 of \w+ may run on CPU 3, where vCPU 1 of \w+ is")
        self.assertRegex(found["fix"], r"virsh vcpupin \w+ 1 CPU, or taskset -cp CPU \d+")
        # one floats, over another's too
        self.threads(pids[1], ["4", "0-1,3"])
        texts = {f["text"] for f in self.findings("pinning", "warn")}
        self.assertEqual(texts, {"db: 1 of 2 vCPUs are not pinned (vCPU 1: CPUs 0-1,3)",
                                 "vCPU 1 of db may run on CPU 3, where vCPU 1 of web is"})

    def qemu(self, pid, *args, shared=True):
        folder = os.path.join(self.fake, "root/proc/%d/fd" % pid)
        os.makedirs(folder, exist_ok=True)
        if not os.path.lexists(folder + "/9"):
            os.symlink("anon_inode:kvm-vm", folder + "/9")
        self.put("proc/%d/cmdline" % pid, "\0".join(("qemu-system-x86_64",) + args) + "\0")
        self.put("proc/%d/maps" % pid, "7f0000000000-7f0040000000 rw-%s 00000000 00:01 1 /memfd\n"
                 "7f1000000000-7f1000001000 rw-p 00000000 00:00 0\n" % ("s" if shared else "p"))

    def test_command_line(self):
        self.begin()
        self.qemu(4000001, "-name", "web", "-cpu", "host", shared=False)
        private, cpu = self.findings("vm", "fail")
        self.assertIn("QEMU web (pid 4000001): its RAM is private", private["text"])
        self.assertIn("memory-backend-memfd", private["fix"])
        self.assertTrue(cpu["text"].endswith("add ,-pcid,-vmx,-rtm,-ibt to -cpu"), cpu["text"])
        self.qemu(4000001, "-name", "web", "-cpu", "host,-pcid,-vmx,rtm=off,-ibt")
        self.assertEqual(self.findings("vm", "fail"), [])
        self.put("sys/module/kvm/parameters/enable_pmu", "Y\n")
        self.assertTrue(self.findings("vm", "fail")[0]["text"].endswith("add ,pmu=off to -cpu"))
        self.qemu(4000001, "-name", "web", "-cpu", "host,-pcid,-vmx-ept,vmx-vpid=off,rtm=off,-ibt,pmu=off")
        self.assertTrue(self.findings("vm", "fail")[0]["text"].endswith("add ,-vmx to -cpu"))
        self.qemu(4000001, "-name", "web", "-cpu", "host,-pcid,-vmx,rtm=off,-ibt,pmu=off")
        self.assertEqual(self.findings("vm", "fail"), [])
        self.qemu(4000001, "-name", "web")
        self.assertIn("has no -cpu option", self.findings("vm", "warn")[0]["text"])

    def test_libvirt(self):
        """To who writes XML it speaks of XML."""
        self.begin()
        self.put("sys/module/kvm/parameters/enable_pmu", "Y\n")
        self.qemu(4000001, "-name", "guest=web,debug-threads=on", "-cpu", "host,migratable=on,vmx=off,rtm=off,ibt=off",
                  shared=False)
        private, cpu = self.findings("vm", "fail")
        self.assertIn("<source type='memfd'/><access mode='shared'/>", private["fix"])
        self.assertEqual(cpu["fix"], "in its XML, and start it again: <feature policy='disable' name='pcid'/> "
                                     "<pmu state='off'/>")


class Real(unittest.TestCase):
    def exchange(self, d):
        """Frames between two processes that map the switch."""
        rx = subprocess.Popen([dt.GEN, "-t", d.spec("b"), "--rx", "-n", "2000", "-T", "60", "--rx-size", "8192"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(rx.kill)
        dt.wait_for(lambda: d.call("port.show", name="b")["link"], 30)
        r = subprocess.run([dt.GEN, "-t", d.spec("a"), "--tx", "-n", "2000", "--dst",
                            d.call("port.show", name="b")["mac"]], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stdout)
        out = rx.communicate(timeout=90)[0]
        self.assertEqual(rx.returncode, 0, out)
        self.assertEqual(d.call("stats", port="b")["ports"]["b"]["rx_frames"], 2000)

    def test_arena(self):
        """The switch in hugepages, as local clients map it; given back at the end, and by kill -9."""
        try:
            if free_pages() < 8:
                self.skipTest("fewer than 8 hugepages of 2 MiB are free")
        except OSError as e:
            self.skipTest("no hugepages: %s" % e)
        d = dt.Daemon(config=SMALL % "require" + dt.LOCAL +
                      'ports = ( { name = "a"; vm = "local"; }, { name = "b"; vm = "local"; } );')
        self.addCleanup(d.stop)
        d.start()
        for _ in range(2):
            memory = d.call("status")["memory"]
            self.assertEqual((memory["arena"]["page"], memory["arena"]["fallback"], memory["needs"]),
                             (2**21, False, []))
            self.assertEqual(memory["arena"]["bytes"] % 2**21, 0)
            with open("/proc/%d/smaps" % d.process.pid) as f:
                maps = f.read().split("memfd:elisa-vswitch")[1]
            self.assertIn("KernelPageSize:     2048 kB", maps.split("VmFlags")[0])
            self.assertEqual(int(maps.split("Shared_Hugetlb:")[1].split()[0]) +
                             int(maps.split("Private_Hugetlb:")[1].split()[0]), memory["arena"]["bytes"] // 1024)
            self.exchange(d)
            d.kill()
            d.start()


dt.main()
