# SPDX-License-Identifier: BSD-3-Clause
"""VLANs, rates, limits and mirrors at run time, through the control socket and elisactl."""
import subprocess
import time

import daemontest as dt


class Switch(dt.DaemonCase):
    def ok(self, *args):
        r = self.d.ctl(*args)
        self.assertEqual((r.returncode, r.stderr), (0, ""), args)
        return r.stdout

    def test_port(self):
        d = self.d
        p = d.call("port.add", name="q", vlan={"mode": "trunk", "allowed": "10,20-30"}, no_flood=["unknown"],
                   rate={"tx_bytes": 1000000, "rx_frames": 50}, storm={"broadcast": 10},
                   mac_limit={"addresses": 4, "drop": True})
        self.assertEqual(p["vlan"], {"mode": "trunk", "allowed": "10,20-30", "native_tagged": False})
        # What is not named stays; a mode begins anew; 0 takes a limit away.
        p = d.call("port.set", name="q", vlan={"pvid": 7}, rate={"tx_bytes": 0}, mac_limit={"drop": False})
        self.assertEqual(p["vlan"], {"mode": "trunk", "pvid": 7, "allowed": "10,20-30", "native_tagged": False})
        self.assertEqual((p["rate"], p["storm"], p["no_flood"], p["mac_limit"]),
                         ({"rx_frames": 50}, {"broadcast": 10}, ["unknown"], {"addresses": 4, "drop": False}))
        p = d.call("port.set", name="q", vlan={"mode": "access", "pvid": 9}, no_flood=[], mac_limit={"addresses": 0})
        self.assertEqual((p["vlan"], p["no_flood"], p["mac_limit"]),
                         ({"mode": "access", "pvid": 9}, [], {"addresses": 0, "drop": False}))

    def test_refused(self):
        before = self.d.call("port.list")
        for params, message in (
                ({"vlan": {"mode": "access"}}, 'vlan.pvid: mode "access" needs it'),
                ({"vlan": {"mode": "access", "pvid": 4095}}, "vlan.pvid: 4095 is out of range"),
                ({"vlan": []}, "vlan: must be a group"),
                ({"vlan": {"x": 1}}, "vlan.x: unknown key: known are mode"),
                ({"rate": {"tx_bytes": "1k"}}, "rate.tx_bytes: must be a whole number"),
                ({"rate": {"tx_bytes": 5, "burst_tx_bytes": 5}}, "burst_tx_bytes: 5 is too small: at least 1518"),
                ({"mtu": 9000, "rate": {"tx_bytes": 5, "burst_tx_bytes": 1518}}, "at least 9018"),
                ({"storm": {"tx_bytes": 5}}, "storm.tx_bytes: unknown key"),
                ({"no_flood": ["x"]}, 'no_flood: "x" is not known'),
                ({"mac_limit": {"drop": True}}, "there is no limit")):
            with self.subTest(message=message):
                with self.assertRaisesRegex(dt.Refused, message):
                    self.d.call("port.set", name="a", **params)
        self.assertEqual(self.d.call("port.list"), before)

    def test_outlives_the_daemon(self):
        """Run-time ports, addresses and mirrors do; with all that they have."""
        d = self.d
        d.call("port.add", name="q", vlan={"mode": "trunk", "allowed": "10,20-30", "pvid": 3}, no_flood=["unknown"],
               rate={"tx_bytes": 5000000000}, storm={"broadcast": 10}, mac_limit={"addresses": 4, "drop": True})
        d.call("fdb.add", mac="02:00:00:00:00:aa", port="q", vid=10)
        d.call("fdb.add", mac="02:00:00:00:00:ab", port="q")
        d.call("fdb.del", mac="02:00:00:00:00:ab")
        d.call("mirror.add", port="a", to="q", what=["rx"], snap=100)
        d.call("mirror.add", port="b", to="q")
        d.call("mirror.del", port="b", to="q")
        def state():
            return [d.call(m) for m in ("port.list", "mirror.list")] + \
                [[e for e in d.call("fdb.list")["entries"] if e["static"]]]
        before = state()
        self.assertEqual(len(before[1]["mirrors"]), 1)
        self.assertEqual(before[1]["mirrors"][0]["origin"], "control")
        d.kill()
        d.start()
        self.assertEqual(state(), before)
        d.call("port.del", name="q")
        dt.wait_for(lambda: "q" not in d.call("port.list")["ports"])
        self.assertEqual(d.call("mirror.list")["mirrors"], [])
        d.kill()
        d.start()
        self.assertEqual(d.call("mirror.list")["mirrors"], [])
        self.assertNotIn("not kept", d.log())

    def test_mirrors(self):
        d = self.d
        d.call("mirror.add", port="a", to="web0")
        for params, message in (({"port": "a", "to": "web0"}, "is mirrored to"), ({"port": "web0", "to": "b"}, "is where"),
                                ({"port": "b", "to": "a"}, "is mirrored itself"), ({"port": "a", "to": "a"}, "to itself"),
                                ({"port": "a", "to": "nix"}, "there is no port"), ({"port": "a"}, "to: is missing"),
                                ({"port": "a", "to": "b", "what": ["x"]}, 'what: "x" is not known')):
            with self.assertRaisesRegex(dt.Refused, message):
                d.call("mirror.add", **params)
        with self.assertRaisesRegex(dt.Refused, "is not mirrored to"):
            d.call("mirror.del", port="a", to="b")
        d.call("mirror.del", port="a", to="web0")
        d.call("mirror.add", port="web0", to="b")

    def test_elisactl(self):
        out = self.ok("port", "set", "a", "--vlan", "trunk", "--allowed", "10,20-30", "--pvid", "5", "--rate-tx", "1G",
                      "--burst-tx", "20M", "--rate-rx-frames", "2k", "--storm-broadcast", "1Ki", "--no-flood",
                      "multicast,unknown", "--mac-limit", "8", "--mac-limit-drop", "on")
        for line in ("vlan        trunk, pvid 5, allowed 10,20-30",
                     "rate        tx_bytes 1000000000, burst_tx_bytes 20000000, rx_frames 2000",
                     "storm       broadcast 1024", "no flood    multicast, unknown", "mac limit   8, drops what is above"):
            self.assertIn(line + "\n", out)
        out = self.ok("port", "set", "a", "--vlan", "none", "--rate-tx", "0", "--rate-rx-frames", "0",
                      "--storm-broadcast", "0", "--no-flood", "", "--mac-limit", "0")
        for word in ("vlan", "rate", "storm", "no flood", "mac limit"):
            self.assertNotIn(word + " ", out)
        self.ok("mirror", "add", "a", "web0", "--what", "tx,drops", "--snap", "128")
        self.assertRegex(self.ok("mirror"), r"(?m)^a +web0 +tx, drops +128 +control$")
        self.ok("mirror", "del", "a", "web0")
        self.ok("fdb", "add", "02:00:00:00:00:01", "a", "--vid", "10")
        self.assertRegex(self.ok("fdb"), r"(?m)^02:00:00:00:00:01 +10 +a +static")
        self.assertEqual(self.d.ctl("fdb", "del", "02:00:00:00:00:01").returncode, 1)
        self.ok("fdb", "del", "02:00:00:00:00:01", "--vid", "10")
        for args in (["port", "set", "a", "--rate-tx", "1X"], ["port", "set", "a", "--rate-tx", "-1"],
                     ["port", "set", "a", "--rate-tx", "99999999999T"], ["port", "set", "a", "--snap", "5"],
                     ["mirror", "add", "a"], ["mirror", "add", "a", "b", "--vid", "5"], ["fdb", "add", "x", "--pvid", "5"],
                     ["port", "set", "a", "--native-tagged", "x"]):
            with self.subTest(args=args):
                self.assertEqual(self.d.ctl(*args).returncode, 2)

    def counters(self, name):
        return self.d.call("stats", port=name)["ports"][name]

    def test_rate_is_refilled(self):
        """Ten seconds' worth of frames would take ten seconds; a second lets about a second's pass."""
        d = self.d
        rx = self.spawn(dt.GEN, "-t", d.spec("b"), "--rx", "-n", "1000000", "-T", "30", "--rx-size", "8192",
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        dt.wait_for(lambda: d.call("port.show", name="b")["link"])
        d.call("port.set", name="a", rate={"tx_frames": 1000, "burst_tx_frames": 100})
        mac = d.call("port.show", name="b")["mac"]
        begin = time.monotonic()
        tx = self.spawn(dt.GEN, "-t", d.spec("a"), "--tx", "-n", "100000000", "-s", "64", "--dst", mac,
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        dt.wait_for(lambda: self.counters("b")["rx_frames"] > 1500, 20)
        took = time.monotonic() - begin
        c = self.counters("a")
        self.assertGreater(took, 1.0)
        self.assertGreater(c["drops"]["tx-policed"], 0)
        tx.kill()
        rx.kill()


dt.main()
