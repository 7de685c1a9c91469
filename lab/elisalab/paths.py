# SPDX-License-Identifier: BSD-3-Clause
"""Where things are."""

import os
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent
ROOT = LAB.parent
SCENARIOS = LAB / "scenarios"


def work_dir() -> Path:
    """Directory of images and runs: build/lab, or $ELISA_LAB_DIR."""
    path = Path(os.environ.get("ELISA_LAB_DIR", ROOT / "build" / "lab"))
    path.mkdir(parents=True, exist_ok=True)
    return path


class LabError(Exception):
    """The lab itself cannot go on: what was wrong, and what to do."""
