"""Structured pruning of coupled channels. A criterion or repair in a module of this folder is found without being listed."""

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .criteria.criteria import CRITERIA as CRITERIA
    from .criteria.criteria import Criterion as Criterion
    from .criteria.criteria import Scored as Scored
    from .criteria.criteria import criterion as criterion
    from .prune import PruneChannels as PruneChannels
    from .repair.repair import REPAIRS as REPAIRS
    from .repair.repair import Repaired as Repaired
    from .weights import GroupWeights as GroupWeights
    from .weights import Member as Member

__getattr__, __all__ = lazily(
    __name__,
    {
        ".criteria.criteria": "CRITERIA Criterion Scored criterion",
        ".prune": "PruneChannels",
        ".repair.repair": "REPAIRS Repaired",
        ".weights": "GroupWeights Member",
    },
)
