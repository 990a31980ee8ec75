"""The library is found, or its absence is told; an instruction set can be forced."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from intaglio.kernels import loader, reference
from intaglio.kernels.loader import ISAS

from . import library
from .calls import Gemm
from .signs import EVERY_ISA, bits, needs_library

KERNELS = Path(loader.__file__).parent
CALLS = Path(__file__).parent


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )


@needs_library
def test_every_instruction_set_has_every_operation() -> None:
    operations = {variant.operation for variant in library.variants()}
    assert {"bitpack", "tile", "wgemv"} <= operations
    assert {(v.operation, v.isa) for v in library.variants() if v.present} == {
        (operation, isa) for operation in operations for isa in loader.cpu_features()
    }


@needs_library
def test_what_is_forced_is_in_force() -> None:
    best = loader.isa()
    assert best == os.environ.get("INTAGLIO_KERNELS", loader.cpu_features()[-1])
    for isa in EVERY_ISA:
        with library.forced(isa):
            assert loader.isa() == isa
    assert loader.isa() == best


@needs_library
def test_what_the_processor_lacks_cannot_be_forced() -> None:
    for isa in set(ISAS) - set(loader.cpu_features()):
        with pytest.raises(loader.KernelError, match="lacks the instruction set"):
            library.force(isa)
        with pytest.raises(loader.KernelError, match="lacks the instruction set"):
            Gemm(np.zeros((1, 1, 1), np.uint8), 8, isa=isa)
    with pytest.raises(loader.KernelError, match="called 'mmx': choose portable"):
        library.force("mmx")


@needs_library
def test_a_variable_forces_an_instruction_set() -> None:
    code = "from intaglio.kernels import loader; print(loader.isa())"
    assert python(code, INTAGLIO_KERNELS="portable").stdout == "portable\n"
    assert "no instruction set has that name" in python(code, INTAGLIO_KERNELS="mmx").stderr
    missing = sorted(set(ISAS) - set(loader.cpu_features()))
    assert all("lacks the instruction set" in python(code, INTAGLIO_KERNELS=isa).stderr for isa in missing)


@needs_library
def test_a_peak_counts_what_it_ran() -> None:
    for isa in EVERY_ISA:
        assert library.peak(isa, 20) == 2 * library.peak(isa, 10) > 0


def copy_without_library(folder: Path) -> None:
    """The Python files of the kernels alone, as a package of another name, and the calls of these tests beside them."""
    (folder / "bare").mkdir()
    for file in KERNELS.glob("*.py"):
        shutil.copy(file, folder / "bare")
    for name in ("calls.py", "library.py"):
        (folder / "bare" / name).write_text((CALLS / name).read_text().replace("intaglio.kernels", "bare"))


USE_BARE = """
import numpy as np
from bare import loader, packing
from bare.calls import Conv, Gemm, bit_pack, max_pool
from bare.window import ConvWindow, Window
x, w = packing.pack(np.arange(-9, 9).reshape(1, 3, 3, 2)), np.zeros((1, 1, 1), np.uint8)
out = np.empty((1, 3, 3, 1), np.int32)
assert Gemm(w, 2).dot(x, out=out) is out
print(loader.available(), out.sum(), Conv(w, 2, ConvWindow((2, 2))).dot(x).sum(), max_pool(x, 2, Window((2, 2))).sum())
print(bit_pack(np.ones((1, 3), np.float32), np.full(1, 2.0), (0, 1)))
print(loader.why_absent())
loader.load_library()
"""


def test_without_the_library_the_reference_answers(tmp_path: Path) -> None:
    copy_without_library(tmp_path)
    done = python(USE_BARE, PYTHONPATH=str(tmp_path))
    lines = done.stdout.splitlines()
    assert lines[0].startswith("False "), done.stderr
    assert lines[1] == "[[7]]"
    assert "install a C compiler" in lines[2]
    assert "KernelsAbsent" in done.stderr


def test_a_file_that_is_no_library_is_told_from_none(tmp_path: Path) -> None:
    copy_without_library(tmp_path)
    (tmp_path / "bare" / "_bits.abi3.so").write_bytes(b"not a library")
    done = python("from bare import loader; print(loader.why_absent())", PYTHONPATH=str(tmp_path))
    assert "_bits.abi3.so cannot be used" in done.stdout
    assert "install intaglio again" in done.stdout


def test_the_reference_answers_what_the_library_answers() -> None:
    rng = np.random.default_rng(0)
    x, weights = bits(rng, 3, 70), bits(rng, 2, 5, 70)
    np.testing.assert_array_equal(Gemm(weights, 70).dot(x), reference.gemm(x, weights, 70))


@needs_library
def test_the_library_is_newer_than_its_sources() -> None:
    """A library that an edit left behind would be tested in place of the edit."""
    built = loader.path()
    sources = [f for f in KERNELS.rglob("*") if f.suffix in (".c", ".h", ".def")]
    if built is None or not sources:
        pytest.skip("the sources do not lie beside the library: it was installed, not built here")
    newer = [f.name for f in sources if f.stat().st_mtime > built.stat().st_mtime]
    assert newer == [], "build the library again: pip install -e ."
