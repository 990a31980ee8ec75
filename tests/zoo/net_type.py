"""`Net` for annotations, without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .net import Net
else:
    Net = Any

__all__ = ["Net"]
