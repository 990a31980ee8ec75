"""Rewrites that keep what a model computes."""

from __future__ import annotations

from .biases import with_biases
from .fold import FoldBatchNorm, fold_batch_norm
from .names import Names

__all__ = ["FoldBatchNorm", "Names", "fold_batch_norm", "with_biases"]
