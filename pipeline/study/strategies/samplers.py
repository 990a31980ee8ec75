"""Strategies of Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from pydantic import BaseModel, Field

from ....graph.lazy import require
from ..record import Record, Told
from ..space import Parameter
from .strategy import STRATEGIES, Proposal, alike


class Population(BaseModel):
    """Options of ``nsga2``."""

    population: int = Field(default=8, ge=2, le=10000, description="trials of one generation")


@STRATEGIES.register("nsga2", options=Population)
def nsga2(told: Told, count: int, options: Population) -> list[Proposal]:
    """Generations that cross and mutate the best of the one before, by Optuna.

    Source: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE TEVC 2002.
    Differs: in the first trials all parameters stand alike, as there are too few generations to find these by chance.
    """
    return _asked("NSGAIISampler", told, count, first=alike(told), population_size=options.population)


@STRATEGIES.register("tpe")
def tpe(told: Told, count: int) -> list[Proposal]:
    """Densities of good and of bad values, by Optuna.

    Source: Ozaki et al., "Multiobjective Tree-structured Parzen Estimator", JAIR 73, 2022.
    """
    return _asked("TPESampler", told, count, multivariate=True)


def _asked(sampler: str, told: Told, count: int, *, first: Sequence[Proposal] = (), **options: Any) -> list[Proposal]:
    """What a sampler proposes that was told the same: it is made anew, so that a study goes on as if it had never stopped.

    ``first`` are proposed before it is asked.
    """
    require("this strategy", "search", ["optuna"])
    optuna: Any = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = int(told.rng.integers(2**31))
    kind = getattr(optuna.samplers, sampler)(seed=seed, **options)
    study = optuna.create_study(sampler=kind, directions=["minimize"] * len(told.objectives))
    distributions = {one.name: _distribution(optuna, one) for one in told.space.parameters}
    study.add_trials([_trial(optuna, told, one, distributions) for one in told.records])
    for one in first[:count]:
        study.enqueue_trial(dict(one.values))
    found = []
    for _ in range(count):
        trial = study.ask(distributions)
        memo = study.get_trials(deepcopy=False)[-1].system_attrs
        found.append(Proposal(dict(trial.params), dict(memo)))
    return found


def _trial(optuna: Any, told: Told, record: Record, distributions: dict[str, Any]) -> Any:
    costs = told.costs([record])[0].tolist() if record.usable else None
    state = optuna.trial.TrialState.COMPLETE if costs else optuna.trial.TrialState.FAIL
    values = {"values": costs} if costs else {}
    return optuna.trial.create_trial(
        state=state, params=dict(record.values), distributions=distributions, system_attrs=dict(record.memo), **values
    )


def _distribution(optuna: Any, one: Parameter) -> Any:
    kinds = optuna.distributions
    if one.values:
        return kinds.CategoricalDistribution(one.values)
    if one.whole:
        return kinds.IntDistribution(int(one.low), int(one.low) + one.step * (one.levels - 1), step=one.step)
    return kinds.FloatDistribution(one.low, one.high, log=one.log)
