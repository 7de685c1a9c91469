# SPDX-License-Identifier: BSD-3-Clause
"""Builds the project under test: meson, installed under a staging directory."""

import json
import shutil
from pathlib import Path

from .images import debug_kernel, headers, locked, run, say
from .paths import ROOT, LabError, work_dir


def installs_tests(build: Path) -> bool:
    options = json.loads((build / "meson-info/intro-buildoptions.json").read_text())
    return any(o["name"] == "install_tests" and o["value"] for o in options)


def stage(kernel: str = "stock") -> Path:
    """Builds the project and returns the directory that is to appear as /opt/elisa."""
    if not (ROOT / "meson.build").exists():
        raise LabError(f"{ROOT} has no meson.build: say with --files DIR what to test")
    build, staged = ROOT / "build/meson", work_dir().parent / "stage"
    with locked("project"):
        if not (build / "build.ninja").exists():
            say("configuring the project (meson setup build/meson)")
            run(["meson", "setup", build, ROOT, "--prefix=/opt/elisa", "--libdir=lib",
                 "--buildtype=release", "-Dinstall_tests=true"], cwd=ROOT)
        elif not installs_tests(build):
            run(["meson", "configure", build, "-Dinstall_tests=true"], cwd=ROOT)
        if kernel == "debug":
            run(["meson", "setup", "--reconfigure", build, f"-Dkmod_headers={headers(debug_kernel())}"], cwd=ROOT)
        say("building the project")
        run(["meson", "compile", "-C", build], cwd=ROOT)
        shutil.rmtree(staged, ignore_errors=True)
        run(["meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", staged], cwd=ROOT)
        add_packages(staged / "opt/elisa/packages")
    return staged / "opt/elisa"


def add_packages(target: Path) -> None:
    """The Debian packages, if ./package has built them. What is older than a source of theirs says so."""
    debs = sorted((ROOT / "build/packages").glob("*.deb"))
    if not debs:
        return
    target.mkdir()
    for deb in debs:
        shutil.copy(deb, target)
    newest = max(f.stat().st_mtime for d in ["conf", "debian", "elisa-guest", "elisa-host", "include", "vswitch"]
                 for f in (ROOT / d).rglob("*") if f.is_file())
    if min(deb.stat().st_mtime for deb in debs) < newest:
        say("the packages in build/packages are older than the sources: ./package")
