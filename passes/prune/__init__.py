"""Structured pruning of coupled channels. A criterion or repair in a module of this folder is found without being listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .criteria.criteria import CRITERIA, Criterion, Scored, criterion
    from .prune import PruneChannels
    from .repair.repair import REPAIRS, Repaired
    from .weights import GroupWeights, Member

__getattr__ = lazily(
    __name__,
    {
        ".criteria.criteria": "CRITERIA Criterion Scored criterion",
        ".prune": "PruneChannels",
        ".repair.repair": "REPAIRS Repaired",
        ".weights": "GroupWeights Member",
    },
)
__all__ = [
    "CRITERIA",
    "REPAIRS",
    "Criterion",
    "GroupWeights",
    "Member",
    "PruneChannels",
    "Repaired",
    "Scored",
    "criterion",
]
