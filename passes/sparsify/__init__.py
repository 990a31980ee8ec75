"""Sparsity. A method, pattern or scheme of densities in a module of this folder is found without being listed."""

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .sparsify import Sparsify as Sparsify

__getattr__, __all__ = lazily(__name__, {".sparsify": "Sparsify"})
