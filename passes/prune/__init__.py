"""Structured pruning of coupled channels. A criterion or repair in a module of this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .criteria import CRITERIA, Criterion, Scored, criterion
from .prune import PruneChannels
from .repair import REPAIRS, Repaired
from .weights import GroupWeights, Member

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)

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
