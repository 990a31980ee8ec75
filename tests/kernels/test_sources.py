"""The C code itself: all of it is built, it is clean under sanitizers, and it is right on another processor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent
DRIVER = Path(__file__).with_name("driver.c")


def extension() -> dict[str, Any]:
    """How the library is built."""
    (found,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    return found


def files(*suffixes: str) -> list[str]:
    """Files of the kernels, relative to the root."""
    return sorted(f.relative_to(ROOT).as_posix() for f in (ROOT / "kernels").rglob("*") if f.suffix in suffixes)


def test_every_source_and_header_is_listed() -> None:
    assert extension()["sources"] == files(".c")
    assert extension()["depends"] == files(".def", ".h")


def test_the_package_installs_where_the_library_cannot_be_built() -> None:
    assert extension()["optional"] is True


def compiler(name: str) -> str:
    """The path of a compiler; skips where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def build(compiler: str, flags: list[str], folder: Path) -> Path:
    """The driver with all sources, with the flags of the package and some more; each warning is an error."""
    usual = [flag for flag in extension()["extra-compile-args"] if not flag.startswith("-O")]
    flags = [*usual, "-Wall", "-Wextra", "-Werror", *flags]

    def compiled(source: str) -> str:
        to = folder / source.replace("/", "-").replace(".c", ".o")
        run([compiler, *flags, "-c", source, "-o", str(to)])
        return str(to)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, [*extension()["sources"], DRIVER.relative_to(ROOT).as_posix()]))
    program = folder / "driver"
    run([compiler, *flags, *objects, "-o", str(program)])
    return program


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    flags = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = build(compiler(os.environ.get("CC", "cc")), flags, tmp_path)
    assert "portable: " in run([str(program)])


def test_results_are_right_on_aarch64(tmp_path: Path) -> None:
    emulator = compiler("qemu-aarch64")
    program = build(compiler("aarch64-linux-gnu-gcc"), ["-O2", "-static"], tmp_path)
    assert "neon: " in run([emulator, str(program)])
