"""Coupling analysis: which channels of any graph can only go together, and how to remove them."""

from __future__ import annotations

from .analyse import Coupling, analyse
from .groups import Group
from .mask import masked
from .surgery import Removal, remove

__all__ = ["Coupling", "Group", "Removal", "analyse", "masked", "remove"]
