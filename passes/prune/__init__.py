"""Structured pruning of coupled channels."""

from __future__ import annotations

from .criteria import CRITERIA, Criterion, criterion
from .prune import PruneChannels
from .weights import GroupWeights, Member

__all__ = ["CRITERIA", "Criterion", "GroupWeights", "Member", "PruneChannels", "criterion"]
