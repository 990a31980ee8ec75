"""The joint search: chains of passes under several limits at once, tried, measured and corrected."""

from __future__ import annotations

from ...graph.model import Model
from ...passes.base import Context
from ..run import View
from .limits import Limits
from .result import SearchResult


def search(
    model: Model, limits: Limits, context: Context, *, target: str = "x86", view: View | None = None
) -> SearchResult:
    """The best model within ``limits``, by passes in a row.

    ``model`` and ``context`` are what a run hands to its passes: opened for many samples, ``context.data`` unlabelled and
    ``context.eval_data`` labelled, either of them None. Each pass of the result, run on what the one before it made with
    the same context, gives the same bytes.

    Raises:
        IntaglioError: no chain of passes could be run at all.
    """
    raise NotImplementedError
