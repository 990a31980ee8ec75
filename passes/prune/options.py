"""Options of pruning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ...graph.errors import UsageError
from ..options import BUDGETS, DROP, BudgetOptions, Entries, Registered, Target, option

TARGETS = (
    *BUDGETS,
    Target("channels", "Keep this fraction of every prunable group's channels.", "--channels"),
    DROP,
    Target("widths", field="widths"),
    Target("scopes", field="scope_targets"),
    Target("branches", field="branches"),
)


def width(text: str) -> tuple[str, int]:
    """``conv1=16``, the name being a group's."""
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal() or len(number) > 9 or not int(number):
        raise ValueError(text)
    return name, int(number)


def scope_target(text: str) -> tuple[str, float]:
    """``re:neck.*=0.4``, a pattern as for ``include`` and a fraction."""
    pattern, _, fraction = text.rpartition("=")
    if not pattern or not 0 < float(fraction) <= 1:
        raise ValueError(text)
    return pattern, float(fraction)


UNRANKED = ("channels", "widths", "scopes")
"""Targets that say of each group how much of it stays."""


class PruneOptions(BudgetOptions):
    target: Literal["macs", "params", "size", "latency", "channels", "drop", "widths", "scopes", "branches"] = option(
        "macs", "What keep is the fraction of.", "target", flag=None, targets=TARGETS
    )
    widths: Annotated[tuple[tuple[str, Annotated[int, Field(gt=0)]], ...], Entries(width, "GROUP=N", "conv1=16")] = (
        option(
            (),
            "Keep so many channels of this group, see intaglio groups, and all of groups that are not named. Repeatable.",
            "target",
            flag="--width",
        )
    )
    scope_targets: Annotated[
        tuple[tuple[str, Annotated[float, Field(gt=0, le=1)]], ...],
        Entries(scope_target, "PATTERN=FRACTION", "re:neck.*=0.4"),
    ] = option(
        (),
        "Keep this fraction of the channels of groups that a name, as for --include, stands for, and all others. "
        "--scope global weighs channels within each such scope. Repeatable.",
        "target",
        flag="--scope-target",
    )
    branches: tuple[str, ...] = option(
        (),
        "Remove this branch of a residual sum, as --axis depth names it, and no other. Repeatable.",
        "target",
        unit="name",
        flag="--branch",
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
    nested: bool = option(
        False,
        "With obspa: one order whatever the width, and no refit, so that narrower networks lie in wider ones.",
        "method",
    )
    steps: int = option(1, "Remove in so many steps, scoring anew before each.", "advanced", ge=1, le=1000)
    axis: Literal["heads", "width", "both", "depth", "experts"] = option(
        "width",
        "What to thin where heads and their width cross; depth removes whole branches of residual sums, experts those of a "
        "mixture that data seldom use: both no channels.",
        "method",
    )
    merge: Annotated[str | None, Registered("intaglio.merges")] = option(
        None,
        "With --axis experts: how experts that go are merged into those that stay, which then stand in for them: see "
        "intaglio passes.",
        "method",
        shown="they are dropped, with their scores",
    )
    min_channels: int = option(1, "Channels that every group keeps at least.", "target", ge=1)
    round_to: int | None = option(
        None,
        "Keep multiples of this many channels.",
        "target",
        shown="1; with --latency 8, or less where the runtime works on less at once; with --followed-by 16, and 8 where that leaves too much of the time",
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
        """Where it is said what each group keeps, nothing is left to rank globally."""
        if given.get("widths"):
            given = {"target": "widths", **given}
        if given.get("branches"):
            given = {"target": "branches", "axis": "depth", **given}
        if given.get("scope_targets"):
            return {"target": "scopes", "scope": "group", **given}
        if given.get("target") not in UNRANKED:
            return given
        if given.get("scope") == "global":
            what = "a fraction of every group's channels" if given["target"] == "channels" else "a width for each group"
            raise UsageError(f"{what} leaves nothing to rank globally", fix="leave `scope` out")
        return {**given, "scope": "group"}

    @model_validator(mode="after")
    def _named(self) -> PruneOptions:
        if self.merge and self.axis != "experts":
            raise UsageError("`merge` is of experts", fix="add --axis experts, or leave it out")
        if (self.target == "widths") != bool(self.widths):
            raise UsageError("`widths` name groups and their channels", fix="give them alone, such as conv1=16")
        if (self.target == "scopes") != bool(self.scope_targets):
            raise UsageError("`scope_targets` are a target of their own", fix="give them alone, such as re:neck.*=0.4")
        if (self.target == "branches") != bool(self.branches) or (self.branches and self.axis != "depth"):
            raise UsageError("`branches` are a target of their own, with `axis` depth", fix="give them alone")
        return self
