"""A disk that is full, and folders that may not be written to, are told as what they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="no limits on files here")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, IMAGES = EXAMPLES / "digits.onnx", EXAMPLES / "digits_calib.npz"
DATA = ("--data", IMAGES, "--samples", "512", "--memory", "16MB")
LIMITED = '''"""Files may hold so many bytes; without a number what root may do beyond others is given up."""
import ctypes, os, resource, sys
from intaglio.cli.main import main

if int(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
elif os.geteuid() == 0:
    assert ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()) == 0
sys.exit(main(sys.argv[2:]))
'''


def limited(folder: Path, size: int, *words: object) -> tuple[int, str]:
    """Exit code and what was told; temporary files go to a folder of their own, and none is left."""
    (folder / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(folder / "temporary"), "PYTHONDONTWRITEBYTECODE": "1"}
    given = [sys.executable, "-c", LIMITED, str(size), *map(str, words)]
    ran = subprocess.run(given, cwd=folder, env=environment, capture_output=True, text=True)
    assert not [one for one in (folder / "temporary").iterdir() if one.name != ".ses"]  # of ONNX Runtime's
    return ran.returncode, ran.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("quantize", DIGITS, "--scheme", "int8", "-o", "out/small.onnx", *DATA),
        ("factorize", DIGITS, "--macs", "0.7", "-o", "out/small.onnx", *DATA),
        ("compress", DIGITS, "--recipe", "weights-4bit", "-o", "out"),
    ],
    ids=lambda words: str(words[0]),
)
def test_a_full_disk_is_told_as_such(tmp_path: Path, words: tuple[object, ...]) -> None:
    (tmp_path / "out").mkdir()
    code, told = limited(tmp_path, 1 << 11, *words)
    assert (code, told.count("error:")) == (1, 1), told
    assert "file too large" in told.lower()
    assert not [one for one in (tmp_path / "out").rglob("*") if one.is_file()]


@pytest.mark.skipif(sys.platform != "linux", reason="what root gives up is known of Linux alone")
@pytest.mark.parametrize("made", [True, False])
def test_a_folder_that_may_not_be_written_to_is_told_before_any_work(tmp_path: Path, made: bool) -> None:
    out = tmp_path / "closed" / ("" if made else "new")
    (tmp_path / "closed").mkdir(mode=0o555)
    code, told = limited(tmp_path, 0, "compress", DIGITS, "--recipe", "weights-4bit", "-o", out)
    assert code == 1
    assert ("is read-only" if made else "permission denied") in told
    assert told.startswith("error: cannot ")
    assert told.count("error:") == 1
    assert told.count("error:") == 1
