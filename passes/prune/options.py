"""Options of pruning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import model_validator

from ...graph.errors import UsageError
from ..options import BUDGETS, DROP, BudgetOptions, Registered, Target, option

TARGETS = (
    *BUDGETS,
    Target("channels", "Keep this fraction of every prunable group's channels.", "--channels"),
    DROP,
)


class PruneOptions(BudgetOptions):
    target: Literal["macs", "params", "size", "latency", "channels", "drop"] = option(
        "macs", "What keep is the fraction of.", "target", flag=None, targets=TARGETS
    )
    criterion: Annotated[str | None, Registered("intaglio.criteria")] = option(
        None,
        "How channels are chosen: see intaglio passes.",
        "method",
        short="-c",
        shown="obspa with --data or --dialect, else l2",
    )
    scope: Literal["global", "group"] = option(
        "global", "Weigh channels over all groups, or thin each group equally.", "method"
    )
    solver: Annotated[str, Registered("intaglio.solvers")] = option(
        "knapsack", "How obspa divides the target over groups: knapsack, greedy.", "advanced"
    )
    repair: Annotated[str | None, Registered("intaglio.repairs")] = option(
        None, "What makes up for removed channels: see intaglio passes.", "method", shown="the criterion's own"
    )
    steps: int = option(1, "Remove in so many steps, scoring anew before each.", "advanced", ge=1, le=1000)
    axis: Literal["heads", "width", "both"] = option(
        "width", "What to thin where heads and their width cross.", "method"
    )
    min_channels: int = option(1, "Channels that every group keeps at least.", "target", ge=1)
    round_to: int | None = option(
        None,
        "Keep multiples of this many channels.",
        "target",
        shown="1; with --latency 8, or less where the runtime works on less at once; with --followed-by 16",
        ge=1,
    )
    followed_by: Literal["int8"] | None = option(
        None,
        "What comes after: int8 likes other widths than float, and --latency then means the time of the int8 model.",
        "target",
        shown="nothing",
    )
    exact_only: bool = option(False, "Leave groups whole that a normalization or a mean runs over.", "accuracy")
    verify: bool = option(True, "Prove that the result equals the masked original.", "accuracy")

    @model_validator(mode="before")
    @classmethod
    def _uniform(cls, given: dict[str, Any]) -> dict[str, Any]:
        """A fraction of every group's channels leaves nothing to rank globally."""
        if given.get("target") != "channels":
            return given
        if given.get("scope") == "global":
            raise UsageError(
                "a fraction of every group's channels leaves nothing to rank globally", fix="leave `scope` out"
            )
        return {**given, "scope": "group"}
