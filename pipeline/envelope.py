"""What the JSON of every command begins with."""

from __future__ import annotations

from ..graph.version import VERSION

SCHEMA = "intaglio/1"
"""The form of what commands print with ``--json``; what changes the meaning of a key raises the number."""


def envelope(command: str) -> dict[str, str]:
    return {"schema": SCHEMA, "version": VERSION, "command": command}
