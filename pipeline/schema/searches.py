"""What commands print that try many chains of passes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from .shared import Amounts, Answer, Numbers, Ran, Step, told


class Point(Amounts):
    """One chain of passes that a search tried."""

    name: str
    passes: list[dict[str, Any]]
    kept: Numbers = told("the fraction that is left of each amount of the file as given")
    latency_ms: float | None
    latency_ratio: float | None
    accuracy: Numbers | None
    sqnr_db: float | None
    agreement: float | None = told(
        "of samples for which both models score the same class highest; null without real data"
    )
    seconds: float
    meets: bool = told("it is within all limits")
    front: bool = told("no other point is better in every way")
    chosen: bool
    told: str = told("why it was given up, or not finished")


class Compress(Ran):
    """Of one pass the keys are also those of its command; of several there are ``steps``."""

    model_config = ConfigDict(extra="allow")

    command: Literal["compress"]
    steps: list[Step] | None = None
    points: list[Point] | None = told("of a search: every chain that was tried", None)
    limits: dict[str, Any] | None = None
    chosen_layers: list[dict[str, Any]] | None = None
    search_seconds: float | None = None
    exports: list[dict[str, Any]] | None = told(
        "target, out, runtime, size_bytes, closeness; or why there is none", None
    )


class Trial(Point):
    """A recipe that a search over many tried."""

    values: dict[str, Any] = told("by parameter")
    bops: int | None = None


class Searched(Answer):
    """``report.json`` in the folder has the same."""

    command: Literal["search"]
    model: str
    out: str = told("a folder")
    passed: bool = told("some trial keeps the limits")
    before: Amounts
    original: dict[str, Any] = told("accuracy, latency_ms and sqnr_db of the model as it was given, as in a trial")
    strategy: str
    objectives: list[str]
    parameters: list[dict[str, Any]] = told("what may be chosen: name, and values or a range")
    trials: int
    failed: int = told("trials whose recipe could not be run")
    stopped: int = told("trials that were stopped on few samples")
    hypervolume: float = told("what the front dominates, as a part of all that there is")
    predictors: Numbers = told("by name, Kendall's tau between objectives and what is predicted of them", {})
    points: list[Trial]
    written: list[dict[str, Any]] = told("of models in the folder: name of the trial, out, amounts, accuracy")
    limits: dict[str, Any]
    search_seconds: float
    environment: dict[str, str]
    notes: list[str]
    warnings: list[str]


class Mean(Point):
    """Of one way of pruning at one size, over seeds."""

    spread: Numbers | None = told("standard deviation over seeds, by metric")
    seeds: int = told("results that there are")


class Swept(Answer):
    """``report.json`` in the folder has the same, ``sweep.csv`` its rows."""

    command: Literal["sweep"]
    model: str
    out: str = told("a folder")
    before: Amounts
    original: dict[str, Any] = told("accuracy and sqnr_db of the model as it was given")
    target: str = told("what is kept a fraction of")
    objectives: list[str]
    trials: int
    points: list[Mean]
    rows: list[dict[str, Any]] = told("every trial: method, keep, seed, and its figures")
    search_seconds: float
    environment: dict[str, str]
    notes: list[str]
    warnings: list[str]


class Presets(Answer):
    command: Literal["compress"]
    presets: dict[str, str] = told("what each recipe that comes with intaglio does")
