"""The accuracy of a model on images made worse, beside another's or beside its own on the images as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.errors import BadData, UsageError
from .accuracy import Evaluation
from .data.corruption import CORRUPTIONS, SEVERITIES, Pixels, corrupted
from .data.source import DataSource
from .efficiency import scores
from .run.running import Tick

Evaluate = Callable[[DataSource], Evaluation]


@dataclass(frozen=True)
class Withstood:
    """Of one model: the first metric on the data as they are, and by kind at each severity."""

    metric: str
    clean: float
    values: Mapping[str, list[float]]

    @property
    def means(self) -> dict[str, float]:
        return {kind: float(np.mean(values)) for kind, values in self.values.items()}


def withstood(
    evaluate: Evaluate, source: DataSource, pixels: Mapping[str, Pixels], clean: Evaluation, *, seed: int, tick: Tick
) -> Withstood:
    """Run every kind at every severity. Raises UsageError for a metric whose smaller numbers are better."""
    name = next(iter(clean.values))
    if clean.worth[name].smaller:
        fix = f"name another metric first than {name}"
        raise UsageError("--corruptions tells what is left of a metric whose larger numbers are better", fix=fix)
    found: dict[str, list[float]] = {kind: [] for kind in CORRUPTIONS}
    runs = [(kind, severity) for kind in CORRUPTIONS for severity in SEVERITIES]
    for done, (kind, severity) in enumerate(runs):
        tick(done, len(runs))
        found[kind].append(evaluate(corrupted(source, pixels, kind, severity, seed)).values[name])
    return Withstood(name, clean.values[name], found)


def beside(model: Withstood, reference: Withstood | None) -> dict[str, Any]:
    """What is left, in percent: of the reference's metric under the same corruption, or of the model's own without any.

    Source: Qin et al., "BiBench", ICML 2023, arXiv:2301.11233: relative scores by corruption, and their quadratic mean.

    Raises:
        BadData: what it is compared with has nothing right.
    """
    own = dict.fromkeys(model.values, model.clean)
    whole = reference.means if reference else own
    if min(whole.values()) <= 0:
        raise BadData(
            f"{model.metric} of what the model is compared with is {min(whole.values()):g}: nothing to be relative to"
        )
    return {
        "metric": model.metric,
        "values": dict(model.values),
        "beside": whole,
        **scores(whole, model.means).as_dict(),
    }
