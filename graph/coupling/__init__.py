"""Coupling analysis: which channels of any graph can only go together, and how to remove them."""

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .analysis import analyse as analyse
    from .coupling import Coupling as Coupling
    from .groups import Group as Group
    from .mask import mask_removed as mask_removed
    from .surgery import Removal as Removal
    from .surgery import remove as remove

__getattr__, __all__ = lazily(
    __name__,
    {
        ".analysis": "analyse",
        ".coupling": "Coupling",
        ".groups": "Group",
        ".mask": "mask_removed",
        ".surgery": "Removal remove",
    },
)
