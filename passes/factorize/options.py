"""Options of low-rank factorization."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...graph.errors import UsageError
from ..options import BUDGETS, DROP, BudgetOptions, Entries, Registered, Target, option

TARGETS = (
    *BUDGETS,
    Target("energy", "Keep this fraction of every layer's energy, such as 0.95.", "--energy"),
    Target("evbmf", "Keep what stands out of noise in every layer.", "--evbmf", unit=""),
    DROP,
    Target("rank", field="ranks"),
)


def _rank(text: str) -> tuple[str, int]:
    """``conv1=16``"""
    name, equals, number = text.rpartition("=")
    if not equals or not name or not number.isdecimal() or len(number) > 9 or not int(number):
        raise ValueError(text)
    return name, int(number)


def _scheme(text: str) -> tuple[str, str]:
    """``conv1=spatial``"""
    name, _, scheme = text.rpartition("=")
    if not name or not scheme:
        raise ValueError(text)
    return name, scheme


class FactorizeOptions(BudgetOptions):
    target: Literal["macs", "params", "size", "latency", "energy", "evbmf", "rank", "drop"] = option(
        "macs",
        "What is split, and what keep is the fraction of.",
        "target",
        flag=None,
        targets=TARGETS,
    )
    ranks: Annotated[tuple[tuple[str, Annotated[int, Field(gt=0)]], ...], Entries(_rank, "NAME=RANK", "NAME=16")] = (
        option(
            (),
            "Split this layer, by the name of its node or weight, at this rank; alone, only the layers named. Repeatable.",
            "target",
            flag="--rank",
        )
    )
    schemes: tuple[Annotated[str, Registered("intaglio.factorizations")], ...] = option(
        (),
        "Use only this way to split, see intaglio passes. Repeatable.",
        "method",
        flag="--scheme",
        shown="all; without --data those that weights can choose",
    )
    scheme_of: Annotated[tuple[tuple[str, str], ...], Entries(_scheme, "NAME=SCHEME", "NAME=spatial")] = option(
        (), "Split a layer that --rank names in this way. Repeatable.", "advanced", flag="--scheme-of"
    )
    align: int = option(8, "Ranks are multiples of N.", "method", ge=1)
    min_gain: float = option(1.3, "Split only layers that get so many times cheaper.", "method", unit="times", ge=0)
    measure: bool = option(True, "Time layers alone, and both models in turn.", "output")
    min_speedup: float = option(
        1.1, "Split only layers that are measured so many times faster.", "method", unit="times", ge=0
    )
    solver: Annotated[str, Registered("intaglio.solvers")] = option(
        "knapsack", "How the target is divided over layers: knapsack, greedy.", "advanced"
    )
    refit: bool = option(True, "With --data, also fit layers that stay whole to what reaches them.", "accuracy")
    verify: bool = option(True, "Prove that the result equals the product of its factors.", "accuracy")

    @model_validator(mode="after")
    def _named(self) -> FactorizeOptions:
        if self.target == "rank" and not self.ranks:
            raise UsageError("no layer was named", fix="give `ranks`, such as NAME=16")
        return self
