"""What the JSON of every command begins with."""

from __future__ import annotations

from functools import cache

from ..graph.version import VERSION

SCHEMA = "intaglio/1"
"""The form of what commands print with ``--json``; what changes the meaning of a key raises the number."""


_PACKAGES = ("onnx", "onnxruntime", "numpy")
"""What decides results beside intaglio."""


def envelope(command: str) -> dict[str, str]:
    return {"schema": SCHEMA, "version": VERSION, "command": command}


@cache
def environment() -> dict[str, str]:
    """Versions of what computed, and the kind of machine."""
    import platform
    from importlib.metadata import version

    system = f"{platform.system()} {platform.machine()}"
    return {"python": platform.python_version(), **{one: version(one) for one in _PACKAGES}, "system": system}
