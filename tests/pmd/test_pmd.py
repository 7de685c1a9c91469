# SPDX-License-Identifier: BSD-3-Clause
"""net_elisa over the local transport: driver-test, and stock testpmd processes that talk, come, go
and die. Every packet is accounted for: sent = received + drops by reason."""
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest

import daemontest as dt

TESTPMD = shutil.which("dpdk-testpmd")
if not TESTPMD:
    dt.skip("no dpdk-testpmd: apt-get install dpdk-dev")
if os.geteuid():
    dt.skip("not root: EAL takes a driver from a safe folder only, which is in /run here")

GUEST_LIB = os.path.dirname(os.environ["ELISA_GUEST_LIB"])
CONFIG = dt.LOCAL + """
ports = ( { name = "p0"; vm = "t"; transport = "local"; queues = 4; mtu = 9216; anti_spoof = false; },
          { name = "p1"; vm = "t"; transport = "local"; queues = 4; mtu = 9216; anti_spoof = false; },
          { name = "p2"; vm = "t"; transport = "local"; mtu = 9216; },
          { name = "a"; transport = "local"; queues = 4; mtu = 9216; groups = [1]; },
          { name = "b"; transport = "local"; queues = 4; mtu = 9216; groups = [1, 2]; },
          { name = "m0"; vm = "m"; transport = "local"; mtu = 9216; groups = [3];
            anti_spoof = false; },
          { name = "m1"; vm = "m"; transport = "local"; mtu = 9216; groups = [4];
            anti_spoof = false; },
          { name = "c"; transport = "local"; mtu = 9216; groups = [3]; },
          { name = "d"; transport = "local"; mtu = 9216; groups = [4]; } );
"""


def libasan():
    path = subprocess.run(["cc", "-print-file-name=libasan.so"], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()
    return os.path.realpath(path)


class Testpmd:
    """A stock testpmd, spoken to by its commands. One lcore that polls, on one CPU."""

    def __init__(self, case, name, vdevs, *args, cpu=0):
        self.log_path = case.d.path("testpmd-%s-%d.log" % (name, len(case.children)))
        log = open(self.log_path, "wb")
        command = ["stdbuf", "-oL", TESTPMD, "--lcores", "(0,1)@%d" % cpu, *case.eal(name)]
        for i, port in enumerate(vdevs):
            command += ["--vdev", "net_elisa%d,%s" % (i, case.devargs(port))]
        command += ["--", "-i", "--no-mlockall", "--total-num-mbufs=4096", *args]
        self.process = case.spawn(*command, env=case.eal_env(), stdout=log,
                                  stderr=subprocess.STDOUT, pipe=True)
        log.close()
        self.wait(lambda: "testpmd>" in self.log(), "its start")

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def wait(self, what, name, timeout=30):
        end = time.monotonic() + timeout
        while not what():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError("%s: testpmd %s:\n%s" % (
                    name, self.process.poll(), self.log()[-4000:]))
            time.sleep(0.01)

    def do(self, *commands):
        """Their output. A command that testpmd does not know marks the end."""
        begin = len(self.log())
        text = "".join(c + "\n" for c in commands) + "that-is-all\n"
        os.write(self.process.stdin.fileno(), text.encode())
        self.wait(lambda: "Command not found" in self.log()[begin:], repr(commands))
        return self.log()[begin:]

    def stats(self, port=0):
        text = self.do("show port xstats %d" % port)
        return {k: int(v) for k, v in re.findall(r"^([a-z0-9_-]+): (\d+)\r?$", text, re.M)}

    def quit(self):
        os.write(self.process.stdin.fileno(), b"quit\n")
        code = self.process.wait(30)
        if code or "Sanitizer" in self.log():
            raise AssertionError("testpmd ended with %s:\n%s" % (code, self.log()[-4000:]))

    def kill(self):
        self.process.kill()
        self.process.wait()


def drops(stats, side):
    return sum(v for k, v in stats.items() if k.startswith("drop_" + side) and k != "drop_rx-filtered")


def arrived(sent, got):
    """Every packet that one end has sent was received, or is counted as dropped."""
    return sent["tx_good_packets"] == got["rx_good_packets"] + drops(got, "rx") + drops(sent, "tx")


def settle(done):
    """On a busy machine a receiver may not have run for a while: what is in its ring counts."""
    for _ in range(100):
        time.sleep(0.05)
        if done():
            break


class PmdCase(dt.DaemonCase):
    program = dt.VSWITCHD
    config = CONFIG
    pmd = os.environ["PMD"]
    asan = False

    def setUp(self):
        super().setUp()
        # EAL refuses drivers in a folder below one that anybody can write to, as /tmp.
        self.plugins = tempfile.mkdtemp(prefix="elisa-pmd-", dir="/run")
        self.addCleanup(shutil.rmtree, self.plugins)
        shutil.copy(self.pmd, self.plugins)

    def spawn(self, *args, pipe=False, **kw):
        child = subprocess.Popen(args, stdin=subprocess.PIPE if pipe else subprocess.DEVNULL, **kw)
        self.children.append(child)
        return child

    def eal(self, name, memory=64):
        return ["--no-huge", "-m", str(memory), "--no-pci", "--no-telemetry", "--iova-mode=va",
                "--file-prefix", "elisa-%d-%s" % (os.getpid(), name),
                "-d", os.path.join(self.plugins, os.path.basename(self.pmd))]

    def eal_env(self):
        env = dict(os.environ, LD_LIBRARY_PATH=GUEST_LIB)
        if self.asan:
            # DPDK and testpmd leak at their end; what matters is that nothing is touched wrongly.
            env.update(LD_PRELOAD=libasan(), ASAN_OPTIONS="detect_leaks=0")
        return env

    def devargs(self, port):
        vm = {"p": "t", "m": "m"}.get(port[0], port)
        return "port=%s,transport=local,socket=%s,name=%s" % (port, self.d.path("local.sock"), vm)

    def mac(self, name):
        return self.d.call("port.show", name=name)["mac"]

    def link(self, name):
        return self.d.call("port.show", name=name)["link"]


class Driver(PmdCase):
    def test_driver(self):
        r = subprocess.run([os.environ["DRIVER_TEST"], "-l", "0", *self.eal("driver", 128), "--",
                            self.d.path("local.sock")], env=self.eal_env(), stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(r.returncode, 0, r.stdout[-4000:])
        self.assertIn("20 tests passed", r.stdout)
        self.assertNotIn("Sanitizer", r.stdout)


class Traffic(PmdCase):
    def exchange(self, tx, rx, seconds=0.3):
        """Sends for a while. Both ends' counters, for which the sum must hold."""
        for end in (tx, rx):
            end.do("clear port xstats 0", "clear port stats 0")
        rx.do("start")
        tx.do("start")
        time.sleep(seconds)
        tx.do("stop")
        settle(lambda: arrived(tx.stats(), rx.stats()))
        rx.do("stop")
        sent, got = tx.stats(), rx.stats()
        self.assertGreater(got["rx_good_packets"], 100)
        self.assertTrue(arrived(sent, got), (sent, got))
        self.assertEqual(drops(sent, "tx"), 0, sent)
        self.assertEqual(drops(got, "rx"), got["drop_rx-no-buffer"], got)
        return sent, got

    def pair(self, *args, tx_args=(), rx_args=()):
        rx = Testpmd(self, "rx", ["b"], "--forward-mode=rxonly", *args, *rx_args, cpu=1)
        tx = Testpmd(self, "tx", ["a"], "--forward-mode=txonly", "--eth-peer=0,%s" % self.mac("b"),
                     *args, *tx_args, cpu=0)
        return tx, rx

    def test_sizes(self):
        tx, rx = self.pair("--mbuf-size=2176", "--max-pkt-len=9018", "--enable-scatter")
        for sizes in ("64", "1514", "2000,2000,2000,2000,1018", "64,128,900", "18,46,1"):
            total = sum(int(s) for s in sizes.split(","))
            tx.do("set txpkts " + sizes)
            sent, got = self.exchange(tx, rx)
            self.assertEqual(sent["tx_good_bytes"], sent["tx_good_packets"] * total)
            self.assertEqual(got["rx_good_bytes"], got["rx_good_packets"] * total)
        tx.quit()
        rx.quit()

    def test_queues(self):
        tx, rx = self.pair("--rxq=4", "--txq=4", tx_args=["--txonly-multi-flow"])
        sent, got = self.exchange(tx, rx, 1)
        for q in range(4):
            self.assertGreater(sent["tx_q%d_packets" % q], 0, sent)
            self.assertGreater(got["rx_q%d_packets" % q], 0, got)
        tx.quit()
        rx.quit()

    def test_modes(self):
        """A testpmd in the middle, by each of its modes; it forwards between ports that have
        nothing else in common."""
        rx = Testpmd(self, "rx", ["d"], "--forward-mode=rxonly", cpu=1)
        tx = Testpmd(self, "tx", ["c"], "--forward-mode=txonly", "--eth-peer=0,02:00:00:00:00:77",
                     cpu=0)
        middle = Testpmd(self, "mid", ["m0", "m1"], "--eth-peer=1,02:00:00:00:00:78", cpu=1)
        for mode in ("io", "mac", "csum", "macswap", "5tswap"):
            if mode == "macswap":
                # From now on m1 sends from the address that c sends to, which has to stay at m0.
                self.d.call("fdb.add", mac="02:00:00:00:00:77", port="m0")
            middle.do("set fwd " + mode, "clear port xstats all", "clear port stats all", "start")
            for end in (rx, tx):
                end.do("clear port xstats 0", "clear port stats 0", "start")
            time.sleep(0.4)
            tx.do("stop")
            settle(lambda: arrived(tx.stats(), middle.stats(0)) and
                   arrived(middle.stats(1), rx.stats()))
            middle.do("stop")
            rx.do("stop")
            sent, in_, out, got = tx.stats(), middle.stats(0), middle.stats(1), rx.stats()
            self.assertGreater(out["tx_good_packets"], 100, mode)
            # With addresses swapped they are for c, which m1 has nothing in common with.
            if "swap" in mode:
                self.assertEqual(got["rx_good_packets"], 0)
                self.assertEqual(out["tx_good_packets"], out["drop_tx-isolated"])
            else:
                self.assertGreater(got["rx_good_packets"], 100, mode)
            self.assertTrue(arrived(sent, in_), (mode, sent, in_))
            self.assertTrue(arrived(out, got), (mode, out, got))
        for child in (tx, middle, rx):
            child.quit()

    def test_flowgen_and_icmpecho(self):
        rx = Testpmd(self, "rx", ["b"], "--forward-mode=icmpecho", cpu=1)
        tx = Testpmd(self, "tx", ["a"], "--forward-mode=flowgen", "--eth-peer=0,%s" % self.mac("b"),
                     cpu=0)
        # flowgen writes a source address of its own, which the host has to allow.
        self.d.call("port.set", name="a", anti_spoof=False)
        self.exchange(tx, rx)
        tx.quit()
        rx.quit()


class Life(PmdCase):
    def sender(self, name="tx", cpu=0):
        tx = Testpmd(self, name, ["a"], "--forward-mode=txonly", "--eth-peer=0,%s" % self.mac("b"),
                     cpu=cpu)
        tx.do("start")
        return tx

    def receiver(self):
        return Testpmd(self, "rx", ["b"], "--forward-mode=rxonly", cpu=1)

    def arrives(self, rx):
        before = rx.stats()["rx_good_packets"]
        dt.wait_for(lambda: rx.stats()["rx_good_packets"] > before + 100, 15)

    def test_restart_under_traffic(self):
        rx, tx = self.receiver(), self.sender()
        rx.do("start")
        for i in range(80 if not self.asan else 20):
            rx.do("stop", "port stop 0", "port start 0", "start")
        self.arrives(rx)
        for i in range(20):
            tx.do("stop", "port stop 0", "port start 0", "start")
        self.arrives(rx)
        rx.quit()
        tx.quit()

    def test_attach_under_traffic(self):
        rx, tx = self.receiver(), self.sender()
        for i in range(25 if not self.asan else 5):
            text = rx.do("stop", "port stop 0", "port close 0", "device detach net_elisa0",
                         "port attach net_elisa0,%s" % self.devargs("b"), "port start 0", "start")
            self.assertIn("is attached", text)
        self.arrives(rx)
        rx.quit()
        tx.quit()

    def test_killed(self):
        rx = self.receiver()
        rx.do("start")
        for i in range(5):
            tx = self.sender("tx%d" % i)
            self.arrives(rx)
            tx.kill()
            dt.wait_for(lambda: not self.link("a"))
        tx = self.sender()
        for i in range(3):
            rx.kill()
            dt.wait_for(lambda: not self.link("b"))
            rx = self.receiver()
            rx.do("start")
            self.arrives(rx)
        rx.quit()
        tx.quit()

    def test_daemon_restart(self):
        rx, tx = self.receiver(), self.sender()
        rx.do("start")
        self.arrives(rx)
        self.d.kill()
        dt.wait_for(lambda: "Link status: down" in rx.do("show port info 0"))
        self.d.start()
        dt.wait_for(lambda: "Link status: up" in rx.do("show port info 0"))
        self.arrives(rx)
        self.assertIn("the switch is away", rx.log())
        # Down and up, told by the driver without being asked.
        dt.wait_for(lambda: rx.log().count("link state change event") >= 2)
        rx.quit()
        tx.quit()

    def test_stopped_while_away(self):
        """Buffers that late frames may still meet are kept, and used again at the next start."""
        rx = self.receiver()
        rx.do("start")
        self.d.kill()
        text = rx.do("stop", "port stop 0")
        self.assertIn("posted mbufs are kept", text)
        self.assertIn("the switch is away", rx.do("port start 0"))
        self.d.start()
        dt.wait_for(lambda: "Link status: up" in rx.do("show port info 0"))
        rx.do("start")
        tx = self.sender()
        self.arrives(rx)
        rx.quit()
        tx.quit()


class Secondary(PmdCase):
    def test_refused(self):
        Testpmd(self, "one", ["a"])
        r = subprocess.run(
            [TESTPMD, "-l", "0", *self.eal("one"), "--proc-type=secondary", "--vdev",
             "net_elisa1," + self.devargs("b"), "--", "--no-mlockall"], env=self.eal_env(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=60)
        self.assertNotEqual(r.returncode, 0)

    def test_pmdinfo(self):
        tool = shutil.which("dpdk-pmdinfo.py")
        if not tool:
            self.skipTest("apt-get install dpdk")
        r = subprocess.run(["/usr/bin/python3", tool, self.pmd], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=60)
        if "No module named 'elftools'" in r.stderr:
            self.skipTest("apt-get install python3-pyelftools")
        self.assertIn('"name": "net_elisa"', r.stdout, r.stderr)
        self.assertIn("port=<name|index> transport=vmfunc|local", r.stdout)


class Asan:
    pmd = os.environ["PMD_ASAN"]
    asan = True


class DriverAsan(Asan, Driver):
    pass


class TrafficAsan(Asan, Traffic):
    test_modes = test_flowgen_and_icmpecho = test_queues = None


class LifeAsan(Asan, Life):
    test_killed = test_stopped_while_away = None


unittest.main(verbosity=2)
