"""Structured pruning of coupled channels."""

from __future__ import annotations

from . import obspa as _obspa  # noqa: F401  registers the criterion
from .criteria import CRITERIA, Criterion, criterion
from .prune import PruneChannels
from .weights import GroupWeights, Member

__all__ = ["CRITERIA", "Criterion", "GroupWeights", "Member", "PruneChannels", "criterion"]
