# SPDX-License-Identifier: BSD-3-Clause
"""
The doorbell server, as QEMU's ivshmem-doorbell devices see it (protocol version 0), and one real
QEMU. VMs are those of the test double of libelisa-host; each "QEMU" is a process that connects.
"""
import array
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import unittest

import daemontest as dt

CONFIG = """
doorbell = { vectors = 4; };
ports = ( { name = "a0"; vm = "a"; }, { name = "b0"; vm = "b"; queues = 2; }, { name = "c0"; vm = "c"; groups = [1]; },
          { name = "a1"; vm = "a"; queues = 2; } );
"""


class Device:
    """What the device does with what it is told: see ivshmem-spec.txt."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.sock.settimeout(5)
        self.peers = {}                # id: eventfds
        self.dead = set()
        self.version, fd = self.message()
        assert fd is None
        self.id, fd = self.message()
        assert fd is None
        shared, self.memory = self.message()
        assert shared == -1 and self.memory is not None

    def message(self):
        data, control, flags, _ = self.sock.recvmsg(8, socket.CMSG_SPACE(4))
        if not data:
            raise ConnectionResetError("closed")
        assert len(data) == 8 and not flags & socket.MSG_CTRUNC
        fds = array.array("i")
        for level, kind, payload in control:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds.frombytes(payload)
        return struct.unpack("<q", data)[0], fds[0] if fds else None

    def hear(self, seconds=0.0):
        """Takes in what was sent, and waits so long for more."""
        while select.select([self.sock], [], [], seconds)[0]:
            who, fd = self.message()
            if fd is not None:
                # QEMU 7.2 would write to freed memory
                assert who not in self.dead, "id %d is told again" % who
                self.peers.setdefault(who, []).append(fd)
            else:
                assert who in self.peers and who != self.id, "id %d left, but was not there" % who
                for old in self.peers.pop(who):
                    os.close(old)
                self.dead.add(who)
        return self

    def knows(self):
        self.hear()
        return {who: len(fds) for who, fds in self.peers.items()}

    def ring(self, who, vector):
        os.write(self.peers[who][vector], struct.pack("=Q", 1))

    def rung(self):
        """Vectors of its own that were rung since it was asked last."""
        self.hear()
        return self.rung_alone()

    def rung_alone(self):
        """... without a server."""
        ready = select.select(self.peers[self.id], [], [], 0)[0]
        for fd in ready:
            os.read(fd, 8)
        return [self.peers[self.id].index(fd) for fd in ready]

    def close(self):
        self.sock.close()
        for fds in self.peers.values():
            for fd in fds:
                os.close(fd)
        os.close(self.memory)


def device_process(path):
    """The other side of Vm: a process that is a VM with a doorbell. Commands as lines of JSON."""
    devices = []
    for line in sys.stdin:
        what, *args = json.loads(line)
        try:
            if what == "open":
                devices.append(Device(path))
                answer = [devices[-1].version, devices[-1].id, os.fstat(devices[-1].memory).st_size,
                          os.fstat(devices[-1].memory).st_ino]
            elif what == "send":
                devices[args[0]].sock.send(b"x" * args[1])
                answer = None
            elif what == "close":
                devices.pop(args[0]).close()
                answer = None
            else:
                answer = getattr(devices[args[0]], what)(*args[1:])
        except (OSError, AssertionError) as e:
            answer = {"error": repr(e)}
        print(json.dumps(answer), flush=True)


class Vm:
    def __init__(self, case):
        self.process = case.spawn(sys.executable, __file__, "--device", case.d.path("doorbell.sock"),
                                  **{"stdout": subprocess.PIPE, "text": True, "bufsize": 1})
        self.pid = self.process.pid

    def do(self, *command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(answer["error"])
        return answer

    def open(self):
        version, self.id, self.size, self.inode = self.do("open")
        assert version == 0
        return self

    def knows(self, device=0):
        return {int(who): count for who, count in self.do("knows", device).items()}


class Doorbell(dt.DaemonCase):
    program = dt.FAKE
    config = CONFIG

    def setUp(self):
        dt.fake_host(self)
        super().setUp()

    def spawn(self, *args, **kw):
        child = subprocess.Popen(args, stdin=subprocess.PIPE, **kw)
        self.children.append(child)
        return child

    def end_children(self):
        for child in self.children:
            child.stdin.close()
        super().end_children()

    def vm(self, name=None, doorbell=True):
        vm = Vm(self)
        if doorbell:
            vm.open()
        if name:
            self.d.call("attach", pid=vm.pid, name=name)
        return vm

    def bell(self, port):
        bell = self.d.call("port.show", name=port)["doorbell"]
        return bell and (bell["id"], bell["vector"], bell["vectors"])

    def connected(self):
        return self.d.call("status")["doorbell"]["connected"]

    # ---- introductions ----

    def test_pair(self):
        """Two VMs learn of each other whichever comes first, attach or doorbell, and can ring."""
        a = self.vm("a")
        b = self.vm("b", doorbell=False)
        dt.wait_for(lambda: a.knows() == {a.id: 4})
        b.open()
        dt.wait_for(lambda: a.knows() == {a.id: 4, b.id: 4})
        dt.wait_for(lambda: b.knows() == {a.id: 4, b.id: 4})
        self.assertNotEqual(a.id, b.id)
        self.assertNotIn(0, (a.id, b.id))
        a.do("ring", 0, b.id, 1)
        self.assertEqual((a.do("rung", 0), b.do("rung", 0)), ([], [1]))
        b.do("ring", 0, a.id, 3)
        self.assertEqual((a.do("rung", 0), b.do("rung", 0)), ([3], []))
        self.assertEqual(self.bell("b0"), (b.id, 0, 2))
        self.assertEqual(self.bell("a0"), (a.id, 0, 1))
        self.assertEqual(self.bell("a1"), (a.id, 1, 2))
        self.assertIsNone(self.bell("c0"))
        self.assertIn("%d, vectors 1 to 2" % a.id, self.d.ctl("port", "show", "a1").stdout)
        self.assertRegex(self.d.ctl("status").stdout, "doorbells .* 2 connected, 0 of before a restart, 4 vectors each")
        self.assertEqual(self.d.call("status")["vms"]["b"]["doorbells"], [{"id": b.id, "rings": 0}])

    def test_memory_is_private(self):
        a, b = self.vm("a"), self.vm("b")
        self.assertEqual((a.size, b.size), (4096, 4096))
        self.assertNotEqual(a.inode, b.inode)

    def test_strangers_learn_nothing(self):
        """A process that is no VM, and a VM of another isolation group."""
        a, stranger, c = self.vm("a"), self.vm(), self.vm("c")
        for vm in (a, stranger, c):
            dt.wait_for(lambda: vm.knows() == {vm.id: 4})
        self.d.call("attach", pid=stranger.pid, name="b")
        dt.wait_for(lambda: stranger.knows() == {a.id: 4, stranger.id: 4})
        dt.wait_for(lambda: c.knows() == {c.id: 4})

    def test_groups_change(self):
        """A group in common is noticed; without one it ends; and for good, QEMU must not hear again."""
        a, c = self.vm("a"), self.vm("c")
        self.d.call("port.set", name="c0", groups=[0, 1])
        dt.wait_for(lambda: a.knows() == {a.id: 4, c.id: 4})
        self.d.call("port.set", name="c0", groups=[1])
        self.assertEqual((a.knows(), c.knows()), ({a.id: 4}, {c.id: 4}))
        self.d.call("port.set", name="c0", groups=[0])
        self.assertEqual((a.knows(), c.knows()), ({a.id: 4}, {c.id: 4}))

    def test_detach_keeps(self):
        """A VM that is detached and attached again has its bell, and is known as before."""
        a, b = self.vm("a"), self.vm("b")
        for _ in range(3):
            self.d.call("detach", name="b")
            self.assertIsNone(self.bell("b0"))
            self.d.call("attach", pid=b.pid, name="b")
            self.assertEqual(self.bell("b0"), (b.id, 0, 2))
        dt.wait_for(lambda: a.knows() == {a.id: 4, b.id: 4})

    def test_leaving(self):
        a, b = self.vm("a"), self.vm("b")
        b.do("close", 0)
        dt.wait_for(lambda: a.knows() == {a.id: 4})
        self.assertIsNone(self.bell("b0"))
        first = b.id
        b.open()
        self.assertNotEqual(b.id, first)
        dt.wait_for(lambda: a.knows() == {a.id: 4, b.id: 4})
        b.process.kill()
        dt.wait_for(lambda: a.knows() == {a.id: 4})
        self.assertEqual(self.connected(), 1)

    def test_vectors_run_out(self):
        """A port that needs more vectors than are left has none, the log says why; ports keep theirs."""
        a = self.vm("a")
        self.d.call("port.add", name="a2", vm="a", queues=2)
        self.assertEqual(self.d.call("port.show", name="a2")["doorbell"], {"note": "too few vectors"})
        self.assertIn("port a2: it has 2 queues, but doorbell %d of VM a" % a.id, self.d.log())
        self.d.call("port.del", name="a0")
        self.d.call("port.add", name="a3", vm="a")
        self.assertEqual(self.bell("a3"), (a.id, 0, 1))
        self.assertEqual(self.bell("a1"), (a.id, 1, 2))

    def test_two_doorbells(self):
        """Port i uses doorbell i modulo their number."""
        a = self.vm()
        first, second = a.id, a.open().id
        self.d.call("attach", pid=a.pid, name="a")
        self.assertEqual(self.bell("a0"), (first, 0, 1))
        self.assertEqual(self.bell("a1"), (second, 0, 2))
        self.assertEqual(a.knows(0), {first: 4, second: 4})

    def test_restart(self):
        """Bells outlive the daemon: ids stay, VMs that come later can ring those from before."""
        for orderly in (False, True):
            a, b = self.vm("a"), self.vm("b")
            bells = [self.bell(port) for port in ("a0", "a1", "b0")]
            self.assertEqual((a.knows(), b.knows()), ({a.id: 4, b.id: 4},) * 2)
            if orderly:
                self.d.process.terminate()
                self.d.process.wait()
            else:
                self.d.kill()
            self.d.start()
            dt.wait_for(lambda: self.d.call("status")["vms"]["b"]["state"] == "attached")
            self.assertEqual([self.bell(port) for port in ("a0", "a1", "b0")], bells)
            status = self.d.call("status")["doorbell"]
            self.assertEqual((status["connected"], status["kept"]), (0, 2))
            c = self.vm()
            self.assertNotIn(c.id, (a.id, b.id))
            self.d.call("port.set", name="c0", groups=[0])
            self.d.call("attach", pid=c.pid, name="c")
            dt.wait_for(lambda: c.knows() == {a.id: 4, b.id: 4, c.id: 4})
            c.do("ring", 0, b.id, 2)
            self.assertEqual(b.do("rung_alone", 0), [2])
            with self.assertRaisesRegex(AssertionError, "closed|Reset"):
                a.open()
            a.process.kill()
            a.process.wait()
            dt.wait_for(lambda: a.id not in c.knows())
            for vm in (b, c):
                vm.process.kill()
                vm.process.wait()
            dt.wait_for(lambda: not self.d.call("status")["vms"])
            dt.wait_for(lambda: self.d.call("status")["doorbell"]["kept"] == 0)

    # ---- bad company ----

    def test_garbage(self):
        a, b = self.vm("a"), self.vm("b")
        b.do("send", 0, 1)
        dt.wait_for(lambda: a.knows() == {a.id: 4})
        self.assertIn("which an ivshmem-doorbell device never does", self.d.log())
        c = self.vm()
        c.do("send", 0, 100000)
        dt.wait_for(lambda: self.connected() == 1)

    def test_limits(self):
        greedy = Vm(self)
        for _ in range(8):
            greedy.open()
        with self.assertRaisesRegex(AssertionError, "closed|Reset"):
            greedy.open()
        self.assertEqual(self.connected(), 8)
        greedy.process.kill()
        dt.wait_for(lambda: self.connected() == 0)

    def test_one_that_does_not_read(self):
        """It holds up nobody, and learns the present, not the past, once it reads."""
        a, b = self.vm("a"), self.vm("b")
        a.knows()
        for _ in range(400):
            b.do("close", 0)
            b.open()
        dt.wait_for(lambda: b.knows() == {a.id: 4, b.id: 4})
        dt.wait_for(lambda: a.knows() == {a.id: 4, b.id: 4})
        self.assertEqual(self.connected(), 2)

    def test_nothing_leaks(self):
        fds = "/proc/%d/fd" % self.d.process.pid
        a = self.vm("a")
        before = len(os.listdir(fds))
        for _ in range(20):
            b = self.vm("b")
            self.d.call("detach", name="b")
            b.process.kill()
            b.process.wait()
            dt.wait_for(lambda: self.connected() == 1)
        dt.wait_for(lambda: len(os.listdir(fds)) <= before)

    def test_switched_off(self):
        self.assertTrue(os.path.exists(self.d.path("doorbell.sock")))
        off = dt.Daemon(dt.FAKE, "doorbell = { enable = false; };", self.env)
        self.addCleanup(off.stop)
        off.start()
        self.assertFalse(os.path.exists(off.path("doorbell.sock")))
        self.assertIn("doorbells    off", off.ctl("status").stdout)

    # ---- the real one ----

    @unittest.skipUnless(shutil.which("qemu-system-x86_64"), "qemu-system-x86_64 is not installed")
    def test_qemu(self):
        """Stock QEMU takes what it is told, while peers come and go, and without a complaint."""
        log = open(self.d.path("qemu.log"), "w+")
        qemu = self.spawn("qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-nodefaults",
                          "-display", "none", "-S", "-monitor", "stdio",
                          "-chardev", "socket,id=bell,path=" + self.d.path("doorbell.sock"),
                          "-device", "ivshmem-doorbell,id=db,chardev=bell,vectors=4",
                          stdout=log, stderr=subprocess.STDOUT, text=True)
        dt.wait_for(lambda: qemu.poll() is not None or self.connected(), 30)
        self.d.call("attach", pid=qemu.pid, name="b")
        bell, _, _ = self.bell("b0")
        for _ in range(5):
            a = self.vm("a")
            dt.wait_for(lambda: a.knows() == {a.id: 4, bell: 4})
            self.d.call("detach", name="a")
            a.process.kill()
            dt.wait_for(lambda: self.connected() == 1)
        qemu.stdin.write("info qtree\nquit\n")
        qemu.stdin.flush()
        self.assertEqual(qemu.wait(30), 0)
        log.seek(0)
        text = log.read()
        log.close()
        self.assertIn('dev: ivshmem-doorbell, id "db"', text)
        for complaint in ("nvalid", "Too many", "server sent", "unexpected", "error"):
            self.assertNotIn(complaint, text)
        dt.wait_for(lambda: self.connected() == 0)


if len(sys.argv) == 3 and sys.argv[1] == "--device":
    device_process(sys.argv[2])
else:
    dt.main()
