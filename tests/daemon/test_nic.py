# SPDX-License-Identifier: BSD-3-Clause
"""NIC ports served by the daemon, over DPDK's virtual devices, with a local client as the guest.

Two network namespaces: the daemon's own, where the other ends of its NICs are (the outside), and the
guest's, with its TAP interface. Neither has anything but that."""
import glob
import grp
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import unittest

import daemontest as dt

LIBRARY = os.environ["VSWITCH_NIC"]
TAP = os.environ["ELISA_TAP"]
OUTSIDE, INSIDE = "10.9.0.254", "10.9.0.1"

CONFIG = dt.LOCAL + """
ports = ( { name = "a"; transport = "local"; uplink = "%s"; }, { name = "b"; transport = "local"; } );
nics = ( %s );
dpdk = { huge = false; memory = 64; library = "%s"; };
"""

SERVER = """
import socket, hashlib, sys
s = socket.create_server(("0.0.0.0", 5000)); print("ready", flush=True)
c, _ = s.accept(); h = hashlib.sha256()
while True:
    d = c.recv(65536)
    if not d: break
    h.update(d)
print(h.hexdigest())
"""
CLIENT = """
import socket, sys
c = socket.create_connection((sys.argv[1], 5000), 10)
with open(sys.argv[2], "rb") as f: c.sendfile(f)
c.close()
"""


# ETHTOOL_STXCSUM of linux/ethtool.h, off
CSUM_OFF = """
import ctypes, fcntl, socket, struct, sys
value = bytearray(struct.pack("II", 0x17, 0))
at = ctypes.addressof((ctypes.c_char * len(value)).from_buffer(value))
fcntl.ioctl(socket.socket(), 0x8946, struct.pack("16sQ16x", sys.argv[1].encode(), at))
"""


def run(*args):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def why_not():
    if not LIBRARY:
        return "built without DPDK (libdpdk-dev, and its driver headers)"
    if os.geteuid():
        return "network namespaces and TAP interfaces need root"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    r = run("ip", "netns", "add", "elisa-nic-probe")
    run("ip", "netns", "del", "elisa-nic-probe")
    return r.returncode and "no network namespaces: " + r.stdout


class NicCase(dt.DaemonCase):
    program = dt.VSWITCHD
    nics, uplink, extra = "", "up0", ""

    def setUp(self):
        self.out, self.inn = ["elisa-nic-%s-%d" % (n, os.getpid()) for n in ("out", "in")]
        for ns in (self.out, self.inn):
            subprocess.run(["ip", "netns", "add", ns], check=True)
            self.addCleanup(subprocess.run, ["ip", "netns", "del", ns])
            self.ns(ns, "ip", "link", "set", "lo", "up")
        self.before_start()
        self.config = self.configuration()
        self.wrapper = ["nsenter", "--net=/run/netns/" + self.out]
        super().setUp()

    def configuration(self):
        return CONFIG % (self.uplink, self.nics, LIBRARY)

    def before_start(self):
        pass

    def ns(self, ns, *args, check=True):
        r = run("nsenter", "--net=/run/netns/" + ns, *args)
        if check:
            self.assertEqual(r.returncode, 0, " ".join(args) + ": " + r.stdout)
        return r

    def in_ns(self, ns, *args, **kw):
        return self.spawn("nsenter", "--net=/run/netns/" + ns, *args, stdout=subprocess.PIPE,
                          text=True, **kw)

    def nic(self, name="up0"):
        return self.d.call("nic.list")["nics"][name]

    def wait_up(self, name="up0"):
        dt.wait_for(lambda: self.nic(name)["state"] == "up", 20)
        dt.wait_for(lambda: self.nic(name)["link"]["up"], 20)

    def guest(self, port="a", ip=INSIDE):
        tap = self.in_ns(self.inn, TAP, "-t", self.d.spec(port), "--tap", "vs-" + port, "--ip",
                         ip + "/24", "--wait", "20", stderr=subprocess.STDOUT)
        dt.wait_for(lambda: self.d.call("port.show", name=port)["link"], 20)
        return tap

    def ping(self, ns, to, count=3):
        """Until it answers: interfaces and addresses may have come a moment ago."""
        dt.wait_for(lambda: self.ns(ns, "ping", "-c", "1", "-W", "1", to, check=False).returncode == 0, 20)
        out = self.ns(ns, "ping", "-c", str(count), "-i", "0.05", "-W", "2", to).stdout
        self.assertIn(" 0% packet loss", out)

    def transfer(self, server, client, to, size):
        """One way by TCP; what arrived is what was sent."""
        path = self.d.path("data")
        with open(path, "wb") as f:
            f.write(os.urandom(1 << 20) * (size >> 20))
        with open(path, "rb") as f:
            sent = hashlib.sha256(f.read()).hexdigest()
        receiver = self.in_ns(server, "python3", "-c", SERVER)
        self.assertEqual(receiver.stdout.readline(), "ready\n")
        self.ns(client, "timeout", "60", "python3", "-c", CLIENT, to, path)
        self.assertEqual(receiver.communicate(timeout=60)[0].strip(), sent)


class TapNic(NicCase):
    """net_tap: DPDK makes an interface `nt0`, which is the outside."""
    nics = '{ name = "up0"; vdev = "net_tap0,iface=nt0"; }'

    def outside(self):
        self.wait_up()
        self.ns(self.out, "ip", "addr", "replace", OUTSIDE + "/24", "dev", "nt0")
        self.ns(self.out, "ip", "link", "set", "nt0", "up")

    def test_traffic(self):
        self.outside()
        self.guest()
        self.ping(self.out, INSIDE)
        self.ping(self.inn, OUTSIDE)
        for server, client, to in ((self.inn, self.out, INSIDE), (self.out, self.inn, OUTSIDE)):
            self.transfer(server, client, to, 32 << 20)
        nic = self.nic()
        rx, tx = nic["queues"][0]["rx"], nic["queues"][0]["tx"]
        self.assertGreater(rx["frames_daemon"], 500)
        self.assertGreater(tx["frames_daemon"], 500)
        self.assertEqual((rx["frames_guest"], tx["frames_guest"], nic["lost_buffers"]), (0, 0, 0))
        self.assertEqual((nic["served_by"], nic["driver"]), ("daemon", "net_tap"))
        self.assertGreater(nic["ethdev"]["rx_frames"], 500)

    def test_addresses(self):
        """A frame from outside with the guest's own address does not lead its traffic away."""
        self.outside()
        self.guest()
        self.ping(self.out, INSIDE)
        mac = self.d.call("port.show", name="a")["mac"]
        entry = [e for e in self.d.call("fdb.list")["entries"] if e["mac"] == mac]
        self.assertEqual([(e["port"], e["static"]) for e in entry], [("a", True)])
        forged = bytes.fromhex("ffffffffffff" + mac.replace(":", "") + "88b5") + bytes(46)
        self.ns(self.out, "python3", "-c",
                "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); "
                "s.bind(('nt0', 0)); [s.send(bytes.fromhex('%s')) for i in range(5)]" % forged.hex())
        self.ping(self.out, INSIDE)
        entry = [e for e in self.d.call("fdb.list")["entries"] if e["mac"] == mac]
        self.assertEqual([(e["port"], e["static"]) for e in entry], [("a", True)])

    def test_between_guests(self):
        """What one guest has for the other is not sent outside."""
        self.outside()
        inn = self.inn
        self.guest("a")
        self.inn = self.out + "2"
        subprocess.run(["ip", "netns", "add", self.inn], check=True)
        self.addCleanup(subprocess.run, ["ip", "netns", "del", self.inn])
        self.guest("b", "10.9.0.2")
        self.ping(inn, "10.9.0.2")
        self.ping(self.inn, OUTSIDE)
        before = self.nic()["queues"][0]["tx"]["frames_daemon"]
        self.transfer(self.inn, inn, "10.9.0.2", 8 << 20)
        self.assertLess(self.nic()["queues"][0]["tx"]["frames_daemon"] - before, 20)

    def test_link(self):
        """Guests behind the NIC see its link; others do not care."""
        self.outside()
        self.guest()
        self.guest("b", "10.9.0.2")
        self.ping(self.out, INSIDE)
        link = lambda port: self.d.call("port.show", name=port)["link"]
        self.ns(self.out, "ip", "link", "set", "nt0", "down")
        dt.wait_for(lambda: not link("a"))
        self.assertTrue(link("b"))
        self.assertIn("NIC up0: link down", self.d.log())
        self.assertFalse(self.nic()["link"]["up"])
        self.ns(self.out, "ip", "link", "set", "nt0", "up")
        dt.wait_for(lambda: link("a"))
        self.ping(self.out, INSIDE)

    def test_restart(self):
        self.outside()
        self.guest()
        self.ping(self.out, INSIDE)
        for end in (self.d.kill, lambda: (self.d.process.terminate(), self.d.process.wait())):
            end()
            self.d.start()
            self.outside()
            self.ping(self.out, INSIDE)
            self.ping(self.inn, OUTSIDE)

    def test_leaves_nothing(self):
        left = lambda: sorted(glob.glob("/run/dpdk/*") + glob.glob(self.d.path("dpdk/*/*")) + glob.glob("/dev/hugepages/*"))
        before = left()
        self.outside()
        self.guest()
        self.ping(self.out, INSIDE)
        begin = time.monotonic()
        self.d.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.d.process.wait(15), 0, self.d.log())
        self.assertLess(time.monotonic() - begin, 5)
        self.assertNotIn("nt0", self.ns(self.out, "ip", "link").stdout)
        self.assertEqual(left(), before)

    def iperf(self, *args):
        r = self.ns(self.out, "iperf3", "-c", INSIDE, "-t", "2", "-f", "m", *args, check=False)
        return r.returncode == 0 and r.stdout

    def test_iperf(self):
        if not shutil.which("iperf3"):
            self.skipTest("iperf3 is not installed")
        self.outside()
        self.guest()
        self.ping(self.out, INSIDE)
        self.in_ns(self.inn, "iperf3", "-s")
        for reverse in ([], ["-R"]):
            # the server may not listen yet, or be busy with the client before
            out = dt.wait_for(lambda: self.iperf(*reverse), 20, 0.1)
            rate = re.findall(r"([\d.]+) Mbits/sec +receiver", out)
            self.assertTrue(rate and float(rate[0]) > 1, out)
            print("iperf3%s: %s Mbit/s" % ("".join(reverse), rate[0]), flush=True)

    def test_ctl(self):
        self.wait_up()
        for args in (["nic"], ["nic", "list"], ["nic", "up0"], ["nic", "show", "up0"], ["status"]):
            r = self.d.ctl(*args)
            self.assertEqual((r.returncode, r.stderr), (0, ""))
            self.assertIn("daemon", r.stdout)
        self.assertRegex(self.d.ctl("nic").stdout, r"(?m)^up0 +net_tap +net_tap0,iface=nt0 +up +up, ")
        self.assertRegex(self.d.ctl("port").stdout, r"(?m)^up0 .* nic +configuration")
        self.assertRegex(self.d.ctl("doctor").stdout, r"(?m)^ok +nic +up0: up")
        self.assertEqual(self.d.call("port.show", name="up0")["mac"], self.nic()["mac"])
        for args, message in ((["port", "del", "up0"], "is a NIC: take it out"),
                              (["port", "set", "up0", "--mtu", "1400"], "only its groups"),
                              (["port", "set", "b", "--uplink", "nix"], 'there is no NIC "nix"'),
                              (["nic", "nix"], 'there is no NIC "nix"')):
            r = self.d.ctl(*args)
            self.assertEqual(r.returncode, 1)
            self.assertIn(message, r.stderr)
        self.assertEqual(self.d.ctl("port", "set", "b", "--uplink", "up0").returncode, 0)
        self.assertEqual(self.d.call("port.show", name="b")["uplink"], "up0")


class PacketNic(NicCase):
    """net_af_packet on one end of a veth: another driver, and no code for it."""
    nics = '{ name = "up0"; vdev = "net_af_packet0,iface=ve0"; promiscuous = true; }'

    def before_start(self):
        self.ns(self.out, "ip", "link", "add", "ve0", "type", "veth", "peer", "name", "ve1")
        self.ns(self.out, "ip", "addr", "add", OUTSIDE + "/24", "dev", "ve1")
        # The kernel leaves checksums open on a veth: fine for the kernel, wrong for all others.
        self.ns(self.out, "python3", "-c", CSUM_OFF, "ve1")
        for end in ("ve0", "ve1"):
            self.ns(self.out, "ip", "link", "set", end, "up")

    def test_traffic(self):
        self.wait_up()
        self.guest()
        self.ping(self.out, INSIDE)
        self.transfer(self.out, self.inn, OUTSIDE, 8 << 20)
        self.assertEqual(self.nic()["driver"], "net_af_packet")


class Failover(NicCase):
    """Two TAP interfaces behind a bridge: when the active one goes down the other takes over."""
    nics = '{ name = "up0"; devices = ["net_tap0,iface=nt0", "net_tap1,iface=nt1"]; }'

    def bridge(self):
        self.wait_up()
        # An address of its own: it would take one of theirs, which change as the other takes over,
        # and neighbours find that out after 8 s.
        self.ns(self.out, "ip", "link", "add", "br0", "address", "02:00:00:00:ff:01", "type", "bridge")
        for end in ("nt0", "nt1"):
            self.ns(self.out, "ip", "link", "set", end, "master", "br0", "up")
        self.ns(self.out, "ip", "addr", "add", OUTSIDE + "/24", "dev", "br0")
        self.ns(self.out, "ip", "link", "set", "br0", "up")

    def active(self):
        return self.nic()["link"]["active"]

    def test_failover(self):
        self.bridge()
        self.guest()
        self.ping(self.out, INSIDE)
        dt.wait_for(lambda: self.active() == 0)
        for down, up, active in (("nt0", "nt1", 1), ("nt1", "nt0", 0)):
            self.ns(self.out, "ip", "link", "set", up, "up")
            time.sleep(0.5)
            self.ns(self.out, "ip", "link", "set", down, "down")
            begin = time.monotonic()
            self.ping(self.inn, OUTSIDE, 1)
            print("resumed after %.2f s" % (time.monotonic() - begin), flush=True)
            dt.wait_for(lambda: self.active() == active)
            self.ping(self.out, INSIDE)
        self.assertTrue(self.d.call("port.show", name="a")["link"])


class OtherNics(NicCase):
    """They start and are served; and what goes wrong is said and harms nobody else."""
    uplink = "null0"
    nics = """{ name = "null0"; vdev = "net_null0"; queues = 2; },
              { name = "ring0"; vdev = "net_ring0"; },
              { name = "bad0"; vdev = "net_nix0"; },
              { name = "bad1"; pci = "ffff:1f:1f.7"; },
              { name = "bad2"; vdev = "net_tap7,iface=nt7"; queues = 16; mtu = 9216; rx_ring = 32768; }"""

    def test_states(self):
        for name in ("null0", "ring0"):
            self.wait_up(name)
        self.assertEqual(len(self.nic("null0")["queues"]), 2)
        for name, message in (("bad0", "no driver took device net_nix0"),
                              ("bad1", "no driver took device ffff:1f:1f.7")):
            nic = self.nic(name)
            self.assertEqual((nic["state"], nic["served_by"]), ("failed", "nobody"))
            self.assertIn(message, nic["note"])
            self.assertIn("NIC %s: %s" % (name, message), self.d.log())
        dt.wait_for(lambda: self.nic("bad2")["state"] == "failed")
        doctor = self.d.ctl("doctor").stdout
        self.assertRegex(doctor, r"(?m)^fail +nic +bad0: no driver took")
        self.assertRegex(doctor, r"(?m)^ok +nic +null0: up")
        self.assertFalse(self.d.call("port.show", name="bad0")["link"])


class Telemetry(NicCase):
    """DPDK's own socket: its commands, and the switch's."""
    uplink = "null0"
    nics = '{ name = "null0"; vdev = "net_null0"; }, { name = "ring0"; vdev = "net_ring0"; }'

    def configuration(self):
        # a group that the daemon is not of: root may choose any
        return super().configuration().replace(
            "huge = false;", "huge = false; telemetry = true;") + 'control = { group = "daemon"; };\n'

    def connect(self):
        path = self.d.path("dpdk/elisa/dpdk_telemetry.v2")
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(s.close)
        s.settimeout(10)
        s.connect(path)
        return s, json.loads(s.recv(16384))

    def ask(self, s, command):
        s.send(command.encode())
        return json.loads(s.recv(16384))[command.split(",")[0]]

    def test_figures(self):
        self.wait_up("null0")
        s, hello = self.connect()
        self.assertEqual(hello["pid"], self.d.process.pid)
        self.assertLessEqual({"/elisa/ports", "/elisa/port", "/elisa/switch", "/ethdev/stats"},
                             set(self.ask(s, "/")))
        self.assertEqual(set(self.ask(s, "/elisa/ports")), {"a", "b", "null0", "ring0"})
        self.assertEqual(len(self.ask(s, "/ethdev/list")), 2)
        dt.wait_for(lambda: self.ask(s, "/ethdev/stats,0")["ipackets"] > 0)
        before = self.d.call("stats")["ports"]["null0"]
        port = self.ask(s, "/elisa/port,null0")
        after = self.d.call("stats")["ports"]["null0"]
        self.assertTrue(before["drops"])    # net_null receives without end, what is no frame
        for reason, number in before["drops"].items():
            shown = port["drops_" + reason.replace("-", "_")]
            self.assertTrue(0 < number <= shown <= after["drops"][reason], (before, port, after))
        for key in ("tx_frames", "rx_bytes", "tx_calls"):
            self.assertTrue(before[key] <= port[key] <= after[key], (key, before, port, after))
        self.assertEqual((port["name"], port["transport"], port["epoch_since"]),
                         ("null0", "nic", before["epoch"]["since"]))
        switch = self.ask(s, "/elisa/switch")
        self.assertEqual((switch["ports"], switch["vms"], switch["generation"], switch["context"]),
                         (4, 0, self.d.call("stats")["generation"], 0))
        self.assertGreater(switch["fdb_capacity"], 0)
        for command in ("/elisa/port", "/elisa/port,nix", "/elisa/port,", "/elisa/nix"):
            self.assertIsNone(self.ask(s, command))
        self.assertIn("name", self.ask(s, "/help,/elisa/port")["/elisa/port"])

    def test_rights(self):
        gid = grp.getgrnam("daemon").gr_gid
        for name, mode in (("dpdk", 0o750), ("dpdk/elisa", 0o750), ("dpdk/elisa/dpdk_telemetry.v2", 0o660)):
            st = os.stat(self.d.path(name))
            self.assertEqual((st.st_gid, st.st_mode & 0o777), (gid, mode), name)

    def test_who_stops_asking(self):
        """Clients come, go and stay without reading, meanwhile the daemon is stopped and killed."""
        self.wait_up("null0")
        for end in (self.d.kill, lambda: (self.d.process.terminate(), self.d.process.wait(15))):
            silent = [self.connect()[0] for _ in range(3)]
            for s in silent:
                s.settimeout(0.2)
                try:
                    for _ in range(2000):
                        s.send(b"/elisa/port,null0")
                except TimeoutError:
                    pass
            self.assertGreater(self.ask(self.connect()[0], "/elisa/switch")["uptime_s"], -1)
            self.assertEqual(self.d.ctl("status").returncode, 0)
            end()
            self.d.start()
            self.wait_up("null0")
        self.assertEqual(set(self.ask(self.connect()[0], "/elisa/ports")), {"a", "b", "null0", "ring0"})


class NoLibrary(NicCase):
    nics = '{ name = "up0"; vdev = "net_null0"; serve = "guest"; }'

    def configuration(self):
        return super().configuration().replace(LIBRARY, "/nonexistent/libvswitch-nic.so.0")

    def test_said(self):
        nic = self.nic()
        self.assertEqual(nic["state"], "failed")
        self.assertIn("the library for NICs was not loaded: /nonexistent/", nic["note"])
        self.assertIn("set dpdk.library", self.d.ctl("doctor").stdout)
        self.guest("b")     # the switch works


class NoHugepages(NicCase):
    nics = '{ name = "up0"; vdev = "net_null0"; }'

    def configuration(self):
        return super().configuration().replace("huge = false; memory = 64", "memory = 500000")

    def test_said(self):
        nic = self.nic()
        self.assertEqual(nic["state"], "failed")
        self.assertIn("DPDK did not start with 500000 MiB of hugepages", nic["note"])
        self.assertIn("(sysctl vm.nr_hugepages)", nic["note"])
        self.assertRegex(self.d.ctl("doctor").stdout, r"(?m)^fail +nic +up0: DPDK did not start")


class ForGuests(NicCase):
    """serve = "guest", with a test double of libelisa-host: who serves, by what the checker found."""
    program = dt.FAKE
    uplink = "null0"
    nics = '{ name = "null0"; vdev = "net_null0"; serve = "guest"; }'
    findings, module = 0, True

    def before_start(self):
        dt.fake_host(self)
        self.put("0", "findings %d\n" % self.findings)
        if not self.module:
            self.put("no-module", "")

    def put(self, name, text):
        dt.fake_put(self, name, text)

    def fake_log(self):
        with open(os.path.join(self.fake, "log")) as f:
            return f.read().split("\n")

    def served(self, by):
        dt.wait_for(lambda: self.nic("null0")["served_by"] == by, 20)

    def test_granted(self):
        self.served("guests")
        log = self.fake_log()
        self.assertIn("tls", log)
        self.assertIn("check", log)
        self.assertTrue([l for l in log if l.startswith("export parts")])
        self.assertNotIn("fallback", self.nic("null0"))
        r = self.d.ctl("nic", "check", "null0")
        self.assertIn("serve guest, served by guests\n0 findings", r.stdout)
        # Nobody polls, so the daemon's pass does.
        dt.wait_for(lambda: self.nic("null0")["queues"][0]["rx"]["frames_daemon"] > 1000)


class Refused(ForGuests):
    findings = 2

    def test_granted(self):
        self.served("daemon")
        why = "cannot run inside: system call 1 by libfake.so; and 1 more"
        self.assertIn(why, self.nic("null0")["fallback"])
        self.assertRegex(self.d.log(), r'NIC null0: "serve: guest" is refused, the daemon serves it instead: .*' + why)
        for args in (["nic"], ["nic", "null0"], ["nic", "check", "null0"], ["status"]):
            self.assertIn("daemon (fallback)", self.d.ctl(*args).stdout)
        self.assertIn("system-call: system call 1 by libfake.so\nread: a read",
                      self.d.ctl("nic", "check", "null0").stdout)
        self.assertRegex(self.d.ctl("doctor").stdout, r"(?m)^warn +nic +null0: up, but guests may not run it")


class ModuleLater(ForGuests):
    """No context yet: the daemon serves it, until there is one."""
    module = False

    def test_granted(self):
        self.served("daemon")
        self.assertNotIn("fallback", self.nic("null0"))
        self.assertIn("not checked", self.d.ctl("nic", "check", "null0").stdout)
        os.unlink(os.path.join(self.fake, "no-module"))
        self.d.ctl("attach", "--pid", str(os.getpid()), "--name", "v")
        self.served("guests")
        self.assertIn("check", self.fake_log())


class DiesInside(ForGuests):
    """A VM is killed while its vCPU has the NIC: noticed at once, and the NIC goes on for others."""

    def configuration(self):
        return super().configuration().replace(LIBRARY, os.environ["VSWITCH_NIC_STOP"]).replace(
            "ports = (", 'ports = ( { name = "web0"; vm = "web"; },')

    def tx(self):
        return self.nic("null0")["queues"][0]["tx"]

    def die(self, times):
        vm = self.spawn("sleep", "1000")
        self.put(str(vm.pid), "send 1\n")
        self.d.call("attach", pid=vm.pid, name="web")
        dt.wait_for(lambda: self.tx()["owner"] == "web")
        vm.kill()
        vm.wait()
        dt.wait_for(lambda: self.nic("null0")["resets"] == times)
        self.served("guests")

    def test_granted(self):
        self.served("guests")
        rpc = self.d.rpc()
        self.addCleanup(rpc.close)
        rpc.call("events.subscribe")
        for times in (1, 2, 3):
            self.die(times)
            event = {}
            while event.get("reason") != "reset":
                event = rpc.line()["params"]
            self.assertEqual((event["event"], event["port"], event["priority"]),
                             ("nic", "null0", "warning"))
            self.assertIn("NIC null0: VM web died with it: reset in", event["text"])
        nic = self.nic("null0")
        self.assertEqual((nic["state"], self.tx()["owner"], self.tx()["dirty"]), ("up", "", False))
        self.assertLess(nic["last_reset_ms"], 1000)
        resets = re.findall(r"NIC null0: VM web died with it: reset in ([\d.]+) ms, (\d+) buffers lost",
                            self.d.log())
        self.assertEqual(len(resets), 3, self.d.log())
        print("reset in %s ms" % ", ".join(r[0] for r in resets), flush=True)
        self.assertEqual(self.fake_log().count("check"), 1)      # not again at each reset
        before = nic["queues"][0]["rx"]["frames_daemon"]
        dt.wait_for(lambda: self.nic("null0")["queues"][0]["rx"]["frames_daemon"] > before + 1000)


del NicCase     # it has no tests of its own
if why_not():
    dt.skip(why_not())
dt.main()
