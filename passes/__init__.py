"""Passes: from a graph to a smaller or faster one. A pass in a module of this folder is found without being listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph.lazy import lazily

if TYPE_CHECKING:
    from .base import PASSES, Context, Pass
    from .change import Change

__getattr__ = lazily(
    __name__,
    {
        ".base": "Context PASSES Pass",
        ".change": "Change",
    },
)
__all__ = ["PASSES", "Change", "Context", "Pass"]
