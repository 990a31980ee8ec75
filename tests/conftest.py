"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=os.environ.get("INTAGLIO_FUZZ", "1") == "1", deadline=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent


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
