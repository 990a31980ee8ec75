"""Passes: from a graph to a smaller or faster one. A pass in a module of this folder is found without being listed."""

from typing import TYPE_CHECKING

from ..graph.lazy import lazily

if TYPE_CHECKING:
    from .base import PASSES as PASSES
    from .base import Context as Context
    from .base import Pass as Pass
    from .change import Change as Change

__getattr__, __all__ = lazily(__name__, {".base": "Context PASSES Pass", ".change": "Change"})
