"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=os.environ.get("INTAGLIO_FUZZ", "1") == "1", deadline=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent
PACKED = ("__init__.py", "py.typed", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real trained models and images; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("INTAGLIO_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real models and data are absent: set INTAGLIO_DATA ({folder} is no folder)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Measured times of layers go to a folder of the test run, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTAGLIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def hear_interrupts() -> None:
    """For a child process that is to be interrupted: what runs the tests in the background may ignore the signal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def zoo_folder(pytestconfig: pytest.Config) -> Path:
    """Networks exported once: the files outlive the run, since their names change with whatever decides their content."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("zoo")


def can_build() -> bool:
    """Whether this Python has what builds the package, so that nothing is fetched for it."""
    try:
        return int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built without a compiler."""
    if not can_build():
        pytest.skip("this Python lacks setuptools 77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    parts = [d.name for d in ROOT.iterdir() if (d / "__init__.py").is_file() and d.name[0] != "." and d.name != "tests"]
    for name in parts:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    for name in PACKED:
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(
        [*command, "-w", str(folder)], capture_output=True, text=True, check=False, env={**os.environ, "CC": "false"}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = folder.glob("*.whl")
    return made
