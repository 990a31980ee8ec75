"""Rewrites that keep what a model computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .biases import with_biases
    from .fold import FoldBatchNorm, fold_batch_norm
    from .names import Names

__getattr__ = lazily(
    __name__,
    {
        ".biases": "with_biases",
        ".fold": "FoldBatchNorm fold_batch_norm",
        ".names": "Names",
    },
)
__all__ = ["FoldBatchNorm", "Names", "fold_batch_norm", "with_biases"]
