# SPDX-License-Identifier: BSD-3-Clause
"""What the daemon's tests have in common: a daemon in a directory of its own, and its sockets."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

VSWITCHD = os.environ["VSWITCHD"]
SAN = os.environ["VSWITCHD_SAN"]
FAKE = os.environ["VSWITCHD_FAKE"]
CTL = os.environ["ELISACTL"]
GEN = os.environ["ELISA_GEN"]
INFO = os.environ["ELISA_INFO"]

LOCAL = "local = { enable = true; };\n"
TWO_PORTS = LOCAL + """
ports = ( { name = "a"; vm = "local"; }, { name = "b"; transport = "local"; },
          { name = "web0"; vm = "web"; } );
"""


def wait_for(what, timeout=5, every=0.01):
    """Result of what() once it is true."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        result = what()
        if result:
            return result
        time.sleep(every)
    raise AssertionError("not within %s s: %s" % (timeout, what))


class Daemon:
    def __init__(self, program=SAN, config=TWO_PORTS, env=None, wrapper=()):
        self.program = program
        self.wrapper = list(wrapper)    # a command that becomes the daemon
        self.dir = tempfile.mkdtemp(prefix="elisa-test-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.config = os.path.join(self.dir, "vswitchd.conf")
        self.env = dict(os.environ, **(env or {}))
        self.process = None
        with open(self.config, "w") as f:
            f.write(config)

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self):
        log = open(self.path("log"), "ab")
        self.process = subprocess.Popen(
            self.wrapper + [self.program, "--config", self.config, "--run-dir", self.dir], stderr=log,
            stdin=subprocess.DEVNULL, env=self.env)
        log.close()
        wait_for(lambda: self.process.poll() is not None or self.answers(), 20)
        if self.process.poll() is not None:
            raise AssertionError("the daemon ended with %s:\n%s" % (self.process.poll(), self.log()))
        return self

    def answers(self):
        try:
            with Rpc(self) as rpc:
                return bool(rpc.call("port.list"))
        except (OSError, Refused):
            return False

    def log(self):
        with open(self.path("log"), errors="replace") as f:
            return f.read()

    def rpc(self):
        return Rpc(self)

    def call(self, method, **params):
        with Rpc(self) as rpc:
            return rpc.call(method, **params)

    def ctl(self, *args):
        return subprocess.run([CTL, "--socket", self.path("control.sock")] + list(args),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)

    def spec(self, name):
        return "local:%s,name=%s" % (self.path("local.sock"), name)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Orderly; sanitizers' findings make it fail."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("the daemon did not end:\n" + self.log())
        else:
            code = self.process.returncode if self.process else 0
        log = self.log() if self.process else ""
        shutil.rmtree(self.dir)
        if code not in (0, -signal.SIGKILL) or "Sanitizer" in log or "runtime error" in log:
            raise AssertionError("the daemon ended with %s:\n%s" % (code, log))


class Refused(Exception):
    def __init__(self, error):
        super().__init__(error.get("message"))
        self.error = error
        self.data = error.get("data") or {}


class Rpc:
    def __init__(self, daemon, timeout=20):
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.connect(daemon.path("control.sock"))
        except OSError:
            self.sock.close()
            raise
        self.sock.settimeout(timeout)
        self.file = self.sock.makefile("rb")
        self.id = 0

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def call(self, method, **params):
        self.id += 1
        self.send(json.dumps({"jsonrpc": "2.0", "id": self.id, "method": method,
                              "params": params}).encode() + b"\n")
        answer = self.line()
        if answer is None:
            raise ConnectionResetError("closed without an answer")
        if "error" in answer:
            raise Refused(answer["error"])
        assert answer["id"] == self.id
        return answer["result"]


class DaemonCase(unittest.TestCase):
    """A daemon for each test; its end is part of the test."""
    program = SAN
    config = TWO_PORTS
    env = None
    wrapper = ()

    def setUp(self):
        self.children = []
        self.d = Daemon(self.program, self.config, self.env, self.wrapper)
        self.addCleanup(self.d.stop)
        self.addCleanup(self.end_children)
        self.d.start()

    def spawn(self, *args, **kw):
        child = subprocess.Popen(args, **{"stdin": subprocess.DEVNULL, **kw})
        self.children.append(child)
        return child

    def end_children(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    stream.close()


def fake_host(case):
    """A folder where the test double of libelisa-host (FAKE) finds what it is to play, as case.fake."""
    case.fake = tempfile.mkdtemp(prefix="elisa-fake-", dir="/tmp")
    case.addCleanup(shutil.rmtree, case.fake)
    case.env = {"FAKE_HOST_DIR": case.fake}


def fake_put(case, name, text):
    """A file for the double, at once, as a rename, which is what it waits for."""
    path = os.path.join(case.fake, name)
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)


class FakeCase(DaemonCase):
    """A daemon whose VMs are the test double's. FAKE in its configuration: the double's folder."""
    program = FAKE

    def setUp(self):
        fake_host(self)
        self.config = self.config.replace("FAKE", self.fake)
        super().setUp()

    def put(self, name, text):
        fake_put(self, name, text)

    def state(self, name="web"):
        vm = self.d.call("status")["vms"].get(name)
        return vm and vm["state"]


NULL_NIC = """
nics = ( { name = "null0"; vdev = "net_null0"; } );
dpdk = { huge = false; memory = 64; library = "%s"; };
""" % os.environ.get("VSWITCH_NIC", "")


def need_nic(case):
    """For NULL_NIC; else the test is skipped."""
    if not os.environ["VSWITCH_NIC"]:
        case.skipTest("built without DPDK (libdpdk-dev, and its driver headers)")


def main():
    unittest.main(verbosity=2)


def skip(reason):
    print("skipped: " + reason)
    sys.exit(77)
