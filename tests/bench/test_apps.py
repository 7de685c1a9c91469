# SPDX-License-Identifier: BSD-3-Clause
"""bench/apps without the lab: figures and tables from a made-up record whose answers are known."""

import importlib.machinery
import importlib.util
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("apps", str(ROOT / "bench/apps"))
apps = importlib.util.module_from_spec(importlib.util.spec_from_loader("apps", loader))
loader.exec_module(apps)

START = 5_000_000  # ns that a run takes whatever its length


def run(n: int, per_unit_ns: int, exits: int, packets: int, output: str = "", switch: bool = False) -> dict:
    """A run at 100 MHz that also idles 7 ns a unit, of which nothing may remain."""
    zero = {key: 0 for key in [*apps.EXITS, "now", "idle", "irq_injections", "idle_calls", "bridged",
                               "cpu_guest_a", "cpu_guest_b"]}
    after = zero | {"now": START + n * (per_unit_ns + 7), "idle": 7 * n, "exits": 50 + n * exits,
                    "bridged": 0 if switch else 9 + n * packets, "cpu_guest_a": n * per_unit_ns // 2}
    counters = [{"packets": 0, "calls": 0, "exits_inside": 0},
                {"packets": 9 + n * packets, "calls": 2 * n, "exits_inside": 0}]
    return {"n": n, "output": output, "host": [zero, after], "switch": counters if switch else [None, None]}


def runs(per_unit_ns: int, exits: int, switch: bool, output: str = "") -> list:
    return [run(n, per_unit_ns if i else 999_999, exits, 2, output, switch)
            for i, n in enumerate([100, 100, 400, 100, 400])]


def record(netperf: int) -> dict:
    values = {"mhz": 100.0, "netperf": netperf, "tap_waits": "polling", "tso": "on"}
    latency = "P50_LATENCY=12\nP99_LATENCY=15\nMIN_LATENCY=10\nMEAN_LATENCY=12.5\n"
    for side, cost, exits in [("virtio", 4000, 6), ("elisa", 1000, 3)]:
        values[f"{side}_iperf3"] = runs(cost // 100, 0, side == "elisa")
        values[f"{side}_memcached"] = runs(cost, exits, side == "elisa")
        if netperf:
            values[f"{side}_tcp_stream"] = runs(cost // 100, 0, side == "elisa")
            values[f"{side}_tcp_rr"] = runs(cost, exits, side == "elisa", latency)
            values[f"{side}_udp_rr"] = runs(cost, exits, side == "elisa", latency)
    return {"values": values}


class Figures(unittest.TestCase):
    def setUp(self):
        self.data = apps.figures(record(1))
        self.by_name = {item["name"]: item for item in self.data["applications"]}

    def test_start_idle_and_first_run_are_not_in_the_figures(self):
        item = self.by_name["tcp_rr"]
        self.assertAlmostEqual(item["virtio"]["instructions"], 400)  # 4,000 ns of 10 ns
        self.assertAlmostEqual(item["elisa"]["instructions"], 100)
        self.assertEqual(item["virtio"]["spread"], [400, 400])
        self.assertAlmostEqual(item["virtio"]["guest_a"], 200)
        self.assertAlmostEqual(item["virtio"]["other"], 200)

    def test_exits_and_packets_of_both_sides(self):
        item = self.by_name["udp_rr"]
        self.assertEqual([item[s]["exits"] for s in apps.SIDES], [6, 3])
        self.assertEqual([item[s]["packets"] for s in apps.SIDES], [2, 2])
        self.assertEqual([item[s]["exits_per_packet"] for s in apps.SIDES], [3, 1.5])
        self.assertEqual(item["elisa"]["calls"], 2)

    def test_latency_is_told_in_instructions(self):
        self.assertEqual(self.by_name["tcp_rr"]["elisa"]["latency"],
                         {"min": 1000, "p50": 1200, "p99": 1500, "mean": 1250})

    def test_latency_out_of_memaslaps_histogram(self):
        text = ("Get Statistics (1 events)\n   Min:        77\nTotal Statistics (200 events)\n   Min:        17\n"
                "   Max:       300\n   Avg:        41\n   Log2 Dist:\n       4:        0      150       49        0\n"
                "       8:        0        1\n\ncmd_get: 180\n")
        found = apps.memaslap_latency(text)
        self.assertEqual([found["min"], found["mean"], found["max"]], [17, 41, 300])
        self.assertAlmostEqual(found["p50"], 16 * (1 + 100 / 150))
        self.assertAlmostEqual(found["p99"], 32 * (1 + 48 / 49))
        self.assertEqual(apps.memaslap_latency("memcached is not there"), {})

    def test_netperf_says_how_much_it_sent(self):
        self.assertEqual(apps.amount({"n": 1000, "output": "X=1\nLOCAL_BYTES_SENT=1024\n"}), 1024)
        self.assertEqual(apps.amount({"n": 1000, "output": ""}), 1000)

    def test_tables_have_both_sides(self):
        text = apps.markdown(self.data)
        self.assertIn("| netperf TCP_RR, 1 byte, per transaction | 400 | 100 | 4.00 | 6.00 | 3.00 | 2.00 | 2.00 "
                      "| 3.00 | 1.50 |", text)
        self.assertIn("| netperf UDP_RR, 1 byte | 1,000 | 1,000 | 1,200 | 1,200 | 1,500 | 1,500 |", text)
        self.assertIn("polling", text)
        self.assertNotIn("not measured", text)

    def test_without_netperf_it_says_so(self):
        text = apps.markdown(apps.figures(record(0)))
        self.assertIn("netperf was not measured", text)
        self.assertIn("netperf TCP_RR, 1 byte (skipped", text)
        self.assertIn("| memcached, memaslap, per transaction | 400 | 100 |", text)


class Script(unittest.TestCase):
    def test_the_counting_script_parses(self):
        subprocess.run(["sh", "-n", ROOT / "bench/apps-count"], check=True)

    def test_it_refuses_a_wrong_call(self):
        done = subprocess.run(["sh", ROOT / "bench/apps-count", "a"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("apps-count GUEST", done.stderr)


if __name__ == "__main__":
    unittest.main()
