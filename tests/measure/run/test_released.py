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

from intaglio.measure.run.released import give_back, large_apart, relieve

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

if "apart" in sys.argv[1]:
    large_apart()
np.ones(7 << 20, np.float32)  # what glibc takes for large grows with it
before, large, small = held(), [], []
for _ in range(2 if "few" in sys.argv[1] else 16):
    large.append(np.ones(5 << 20, np.float32))
    small.append(np.ones(1 << 16, np.float32))
del large
if "give_back" in sys.argv[1]:
    give_back()
if "relieve" in sys.argv[1]:
    relieve()
print(held() - before)
"""


def left(asked: str) -> int:
    """Megabytes of 320 that a process still has after it freed them."""
    command = [sys.executable, "-c", HELD, asked]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of this C library")
def test_large_arrays_leave_nothing_behind() -> None:
    assert left("give_back") < 32
    assert left("nothing") > 64


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of this C library")
def test_large_arrays_apart_go_back_by_themselves() -> None:
    assert left("apart") < 32


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of this C library")
def test_a_process_that_has_grown_shrinks_before_a_run_and_a_small_one_is_left_alone() -> None:
    assert left("relieve") < 32
    assert left("relieve few") > 8
