"""Coupling analysis: which channels of any graph can only go together, and how to remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .analysis import analyse
    from .coupling import Coupling
    from .groups import Group
    from .mask import mask_removed
    from .surgery import Removal, remove

__getattr__ = lazily(
    __name__,
    {
        ".analysis": "analyse",
        ".coupling": "Coupling",
        ".groups": "Group",
        ".mask": "mask_removed",
        ".surgery": "Removal remove",
    },
)
__all__ = ["Coupling", "Group", "Removal", "analyse", "mask_removed", "remove"]
