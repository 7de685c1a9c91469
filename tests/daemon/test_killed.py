# SPDX-License-Identifier: BSD-3-Clause
"""
The daemon killed (SIGKILL) at each step of attach and detach: between any two calls of the host library.
The next one finds its VM, or knows nothing of it; nothing is left over, and attach and detach work.
"""
import os

import daemontest as dt

STEPS = 3   # of RAM, in attach and in detach


class Killed(dt.FakeCase):
    config = 'ports = ( { name = "web0"; vm = "web"; }, { name = "free0"; } );\n'

    def settle(self):
        """Attached by itself or known no more: not in between."""
        dt.wait_for(lambda: self.state() in ("attached", "detached", None), 10)
        return self.state()

    def until_killed(self, method, ready):
        """Dies at the nth step, for n = 1 until the request gets through; how often it died."""
        deaths = 0
        while True:
            self.d.kill()
            self.put("0", "")
            self.d.start()
            ready()
            self.d.kill()
            # what a daemon does when it starts is not to be what it dies of
            self.put("0", "")
            self.forget()
            self.d.start()
            before = self.settle()
            self.assertEqual(before, "attached" if method == "detach" else before)
            if method == "attach" and before == "attached":
                self.d.call("detach", name="web")
            base = self.count()
            self.put("0", "die %d\n" % (base + deaths + 1))
            try:
                if method == "attach":
                    self.d.call("attach", pid=self.pid, name="web")
                else:
                    self.d.call("detach", name="web")
            except (OSError, dt.Refused):
                pass
            self.put("0", "")
            if self.d.process.poll() is None and self.d.answers():
                return deaths
            self.d.process.wait()
            deaths += 1
            self.d.start()
            self.check_next()

    def forget(self):
        try:
            os.unlink(os.path.join(self.fake, "moments"))
        except FileNotFoundError:
            pass

    def count(self):
        """Steps that the double has counted: it says so when it is asked."""
        try:
            with open(os.path.join(self.fake, "moments")) as f:
                return int(f.read())
        except FileNotFoundError:
            return 0

    def check_next(self):
        if self.settle() != "attached":
            self.d.call("attach", pid=self.pid, name="web")
        self.assertEqual(self.d.call("port.show", name="web0")["bound_to"], "web")
        self.d.call("detach", name="web")
        self.assertIn(self.state(), ("detached", None))
        self.assertIsNone(self.d.call("port.show", name="web0")["bound_to"])
        self.assertEqual(set(self.d.call("port.list")["ports"]), {"web0", "free0"})
        self.assertEqual([n for n in os.listdir(self.d.dir) if n.endswith((".new", ".tmp"))], [])

    def test_attach(self):
        self.pid = self.spawn("sleep", "1000").pid
        self.put(str(self.pid), "steps %d\n" % STEPS)
        deaths = self.until_killed("attach", lambda: None)
        print("attach: the daemon was killed at %d steps" % deaths)
        self.assertGreater(deaths, STEPS + 5)

    def test_detach(self):
        self.pid = self.spawn("sleep", "1000").pid
        self.put(str(self.pid), "steps %d\n" % STEPS)

        def ready():
            if self.settle() != "attached":
                self.d.call("attach", pid=self.pid, name="web")
        deaths = self.until_killed("detach", ready)
        print("detach: the daemon was killed at %d steps" % deaths)
        self.assertGreater(deaths, STEPS + 2)


if __name__ == "__main__":
    dt.main()
