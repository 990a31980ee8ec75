"""Passes: from a graph to a smaller or faster one."""

from __future__ import annotations

from .base import PASSES, Context, Pass, PassReport

__all__ = ["PASSES", "Context", "Pass", "PassReport"]
