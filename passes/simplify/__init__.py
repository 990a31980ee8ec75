"""Rewrites that keep what a model computes."""

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .biases import with_biases as with_biases
    from .fold import FoldBatchNorm as FoldBatchNorm
    from .fold import fold_batch_norm as fold_batch_norm
    from .names import Names as Names
    from .simplify import Simplify as Simplify

__getattr__, __all__ = lazily(
    __name__,
    {
        ".biases": "with_biases",
        ".fold": "FoldBatchNorm fold_batch_norm",
        ".names": "Names",
        ".simplify": "Simplify",
    },
)
