"""Numbers kept by key in the user's cache folder: a convenience that never fails, only forgets."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

LARGEST = 20_000
"""Entries kept; the oldest go first."""


def cache_folder() -> Path | None:
    """``$INTAGLIO_CACHE``, else ``intaglio`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; None without a home."""
    if own := os.environ.get("INTAGLIO_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "intaglio"
    try:
        return Path.home() / ".cache" / "intaglio"
    except RuntimeError:
        return None


def read_numbers(path: Path) -> dict[str, float | None]:
    """What the file holds; nothing of it that is no number or null, nothing at all if it cannot be read."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(held, dict):
        return {}
    return {k: v for k, v in held.items() if v is None or (type(v) in (int, float) and math.isfinite(v) and v > 0)}


def add_numbers(path: Path, more: Mapping[str, float | None]) -> None:
    """Write what the file holds and these too, whole or not at all; quietly nothing where that is not possible."""
    held = {**read_numbers(path), **more}
    for key in list(held)[: max(0, len(held) - LARGEST)]:
        del held[key]
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(held, indent=0), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
