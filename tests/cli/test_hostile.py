"""Broken models never crash a command, hang it, or make it give up with an error of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = os.environ.get("INTAGLIO_FUZZ_SECONDS")
SEED = os.environ.get("INTAGLIO_FUZZ_SEED", "1")


def test_broken_models_end_with_a_result_or_a_reason() -> None:
    """The same 150 runs each time, for 30 seconds at most; ``INTAGLIO_FUZZ_SECONDS`` and ``INTAGLIO_FUZZ_SEED`` ask for more and for others."""
    command = [sys.executable, "-m", "tests.hostile", *([SECONDS, SEED] if SECONDS else ["30", SEED, "150"])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *bad, counted = done.stdout.splitlines()
    assert bad == []
    assert int(counted.split()[0]) > 5
