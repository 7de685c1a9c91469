# SPDX-License-Identifier: BSD-3-Clause
"""Who may speak to the daemon is decided by the kernel's word on the peer, not by file modes."""
import grp
import os
import subprocess
import sys

import daemontest as dt

if os.geteuid():
    dt.skip("needs root, to become other users")

NOBODY = 65534
GROUP = grp.getgrgid(65534).gr_name

CLIENT = """
import os, socket, sys
os.setgroups(%r); os.setresgid(%d, %d, %d); os.setresuid(%d, %d, %d)
s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])
try:
    s.sendall(b'{"jsonrpc":"2.0","id":1,"method":"port.list"}\\n')
except OSError:
    pass
print(s.makefile().readline())
"""


class Peer(dt.DaemonCase):
    config = 'control = { group = "%s"; };\n' % GROUP + dt.TWO_PORTS

    def ask(self, uid, gid, groups):
        code = CLIENT % (groups, gid, gid, gid, uid, uid, uid)
        r = subprocess.run([sys.executable, "-c", code, self.d.path("control.sock")],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
        return r.stdout + r.stderr

    def test_modes(self):
        st = os.stat(self.d.path("control.sock"))
        self.assertEqual((st.st_mode & 0o777, st.st_gid), (0o660, 65534))
        self.assertEqual(os.stat(self.d.path("local.sock")).st_mode & 0o777, 0o600)

    def test_strangers(self):
        self.assertIn("Permission", self.ask(12345, 12345, []))
        os.chmod(self.d.path("control.sock"), 0o666)
        answer = self.ask(12345, 12345, [])
        self.assertIn("refused: user 12345 may not control the switch", answer)
        self.assertIn("members of group " + GROUP, answer)
        self.assertNotIn('"ports"', answer)

    def test_group(self):
        for gid, groups in ((65534, []), (12345, [65534]), (12345, [1, 2, 65534])):
            self.assertIn('"ports"', self.ask(12345, gid, groups))

    def test_local_strangers(self):
        os.chmod(self.d.path("local.sock"), 0o666)
        code = ("import os, sys;"
                "os.setgroups([]); os.setresgid(1, 1, 1); os.setresuid(1, 1, 1);"
                "os.execv(sys.argv[1], sys.argv[1:])")
        r = subprocess.run([sys.executable, "-c", code, dt.INFO, "-t", self.d.spec("a")],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
        self.assertEqual(r.returncode, 1)
        self.assertIn("user 1 may not", r.stdout + r.stderr)


if not os.access(dt.INFO, os.X_OK) or subprocess.run(
        [sys.executable, "-c", "import os, sys; os.setresuid(1, 1, 1);"
         "os.execv(sys.argv[1], [sys.argv[1], '--version'])", dt.INFO], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
    dt.skip("the build directory cannot be entered by other users")
dt.main()
