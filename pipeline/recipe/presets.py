"""Recipes that come with the package, each a file in the folder beside this one."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("presets")


def presets() -> list[str]:
    """Names of all."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def preset_text(name: str) -> str:
    """The recipe as it is written."""
    return (_FOLDER / f"{name}.yaml").read_text()
