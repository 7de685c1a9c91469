# SPDX-License-Identifier: BSD-3-Clause
"""Runs the commands of the docs on a system with the packages installed.

    run.py ROOT install     what installs the packages
    run.py ROOT             all others; a daemon runs there already

ROOT is a file system to change into (chroot), with the project's folder at /src. Prints a line for each block.
"""
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from blocks import all_blocks  # noqa: E402

SOURCE = Path(__file__).resolve().parent.parent.parent
SECONDS = 300
count = {"RUN": 0, "LAB": 0, "VIRT": 0, "CONF": 0, "SKIP": 0, "FAIL": 0}


def in_root(root, script, quiet=True):
    script = ("cd\n" if quiet else "cd /src\n") + script
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
           "HOME": "/root"}
    try:
        r = subprocess.run(["chroot", root, "bash", "-e", "-c", script], env=env, timeout=SECONDS,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except subprocess.TimeoutExpired as e:
        return f"not done after {SECONDS} s\n{e.stdout or ''}"
    if quiet:
        return f"exit status {r.returncode}\n{r.stdout}" if r.returncode else None
    print(r.stdout)
    return f"exit status {r.returncode}" if r.returncode else None


def say(word, block, text=""):
    count[word] += 1
    print(f"{word:4} {block} {text}".rstrip(), flush=True)


def in_lab(block, scenario):
    """Each command's first two words are in the scenario, or in what it includes."""
    scenarios = SOURCE / "lab/scenarios"
    path = scenarios / f"{scenario}.toml"
    if not path.exists():
        return f"there is no scenario {scenario}"
    text = path.read_text()
    for part in re.findall(r'include = "(parts/[\w-]+\.toml)"', text):
        text += (scenarios / part).read_text()
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        for command in re.split(r"[;|]|&&", line.split("  #")[0]):
            words = command.split("#")[0].split()[:2]
            if words and not re.search(r"\s+".join(map(re.escape, words)), text):
                return f"lab/scenarios/{scenario}.toml does not run \"{' '.join(words)}\""
    return None


def main():
    root, install = sys.argv[1], sys.argv[2:] == ["install"]
    for block in all_blocks(SOURCE):
        kind, _, what = block.mark.partition(" ")
        if install != (what == "install") or kind not in ("sh", "conf"):
            continue
        if kind == "conf":
            word, wrong = "CONF", in_root(
                root, f"cat >/tmp/block.conf <<'ENDOFBLOCK'\n{block.text}ENDOFBLOCK\n"
                      "elisa-vswitchd --check -c /tmp/block.conf\nrm /tmp/block.conf")
        elif what in ("test", "install"):
            word, wrong = "RUN", in_root(root, block.text, quiet=not install)
        elif what == "test=libvirt":
            tested = (SOURCE / "tests/libvirt/test_libvirt.py").read_text()
            word, wrong = "VIRT", in_lab(block, "system") if '"test=libvirt"' in tested else "no test runs blocks of libvirt"
        elif what.startswith("lab="):
            word, wrong = "LAB", in_lab(block, what[4:])
        elif re.fullmatch(r'skip="[^"]{10,}"', what):
            say("SKIP", block, what[6:-1])
            continue
        else:
            word, wrong = "FAIL", f"unknown mark: {block.mark}"
        if wrong:
            say("FAIL", block, f"{wrong}\n{block.text}")
        else:
            say(word, block)
    print(", ".join(f"{n} {word.lower()}" for word, n in count.items() if n))
    return count["FAIL"] > 0 or not count["RUN"]


sys.exit(main())
