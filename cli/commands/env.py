"""``intaglio env``: what runs here, for whoever reads a report of a fault."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from ...graph.version import VERSION
from .. import console
from ..options import Debug, Json

_PACKAGES = ("onnx", "onnxruntime", "numpy", "scipy", "ml_dtypes", "protobuf", "typer", "pydantic", "pillow", "torch")


def env(json: Json = False, debug: Debug = False) -> None:
    """Say what versions, machine, kernels and plug-ins there are, to be put into a report.

    Example: intaglio env --json
    """
    from ...measure.run.latency import machine
    from ...measure.run.native import kernels

    here, native = Path(__file__).resolve().parents[2], kernels()
    found: dict[str, object] = {
        "intaglio": VERSION,
        "from": str(here),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "machine": machine(),
        "kernels": native.isa if native.built else f"none: {native.why}",
        "packages": {name: _version(name) or "absent" for name in _PACKAGES},
        "plugins": sorted(set(_plugins())),
        "shadowed": _shadowed(here),
    }
    console.emit(found, lambda: console.facts(list(_rows(found))))


def _rows(found: dict[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from value.items()
        elif value:
            yield name, ", ".join(value) if isinstance(value, list) else value


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plugins() -> Iterator[str]:
    """Packages beside this one that plug something in."""
    from importlib import metadata

    for one in metadata.distributions():
        name = one.metadata["Name"]
        if name != "intaglio" and any(point.group.startswith("intaglio.") for point in one.entry_points):
            yield f"{name} {one.version}"


def _shadowed(here: Path) -> str:
    """The installed package that this code stands in front of; empty where there is none."""
    from importlib import metadata

    try:
        installed = Path(str(metadata.distribution("intaglio").locate_file("intaglio"))).resolve()
    except metadata.PackageNotFoundError:
        return ""
    return str(installed) if installed.is_dir() and installed != here else ""
