"""What large tensors lay in goes back to the system, whatever lies between them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HELD = """
import sys
from pathlib import Path
import numpy as np

from intaglio.measure.run.released import give_back

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

np.ones(3 << 20, np.float32)  # what glibc takes for large grows with it
before, large, small = held(), [], []
for _ in range(16):
    large.append(np.ones(2 << 20, np.float32))
    small.append(np.ones(1 << 16, np.float32))
del large
if sys.argv[1] == "1":
    give_back()
print(held() - before)
"""


def left(asked: bool) -> int:
    """Megabytes of 128 that a process still has after it freed them."""
    command = [sys.executable, "-c", HELD, str(int(asked))]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of this C library")
def test_large_arrays_leave_nothing_behind() -> None:
    assert left(asked=True) < 32
    assert left(asked=False) > 64
