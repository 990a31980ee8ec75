"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real trained models and images; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("INTAGLIO_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real models and data are absent: set INTAGLIO_DATA ({folder} is no folder)")
    return folder
