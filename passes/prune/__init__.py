"""Structured pruning of coupled channels. A criterion or repair in a module of this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages

from .criteria.criteria import CRITERIA, Criterion, Scored, criterion
from .prune import PruneChannels
from .repair.repair import REPAIRS, Repaired
from .weights import GroupWeights, Member

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)

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
