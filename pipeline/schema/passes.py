"""What commands print that rewrite a model."""

from __future__ import annotations

from typing import Any, Literal

from .shared import Numbers, Ran, Step, Told, told


class Calibrated(Ran):
    dialect: str | None = None
    samples: int | None = None
    mirrored: bool | None = None


class Prune(Calibrated):
    command: Literal["prune"]
    groups: list[dict[str, Any]] | None = told(
        "name, before and after: channels, exact, prunable, frozen_by: why it is not", None
    )
    branches: list[dict[str, Any]] | None = told(
        "of --axis depth: name, macs, params, effect: squared error of the outputs without it alone, removed", None
    )
    criterion: str | None = None
    solver: str | None = None
    repair: dict[str, Any] | None = None
    bodies: Any = None


class Factorize(Calibrated):
    command: Literal["factorize"]
    layers: list[dict[str, Any]] = told("name, op, scheme and rank, or the reason why it is whole; gain, speedup")
    fitted: int | None = None
    refitted: int | None = None


class FewerBits(Ran):
    layers: list[dict[str, Any]] = told("name, numbers of weights and activations, errors, sqnr_db")
    nodes: dict[str, str] = told("what was changed, and into what")
    skipped: dict[str, str] = told("what stays in float, and why")
    sqnr_db: Numbers = told("by output, on calibration data")
    worst: list[dict[str, Any]] = told("layers with the most noise, its cause, and advice")
    higher_precision: list[str]


class Quantize(FewerBits):
    command: Literal["quantize"]
    ranges: dict[str, str] | None = None
    runtime: dict[str, Any] | None = None
    predicted: dict[str, Any] | None = told("what another machine should compute in integers, by its rules", None)
    accelerated: bool | None = None
    allocation: Any = None


class Binarize(FewerBits):
    command: Literal["binarize"]
    scheme: str
    bits: float | None
    bibench: Numbers
    form: str | None = None
    proof: dict[str, Any] | None = None


class Sparsify(FewerBits):
    command: Literal["sparsify"]
    density: float = told("the part of the weights of these layers that stays")
    densities: str = told("how it is spread over the layers")
    pattern: str
    form: str


class Simplify(Ran):
    command: Literal["simplify"]
    done: dict[str, int] = told("rewrites by their names")
    nodes: dict[str, int] = told("before, as read, and after")
    layers: list[dict[str, Any]]


class Trained(Told):
    """How training went. Losses are of one sample, on the samples that were held back."""

    steps: int = told("that were taken")
    best_step: int = told("whose weights the result has")
    held_back_before: float
    held_back_after: float
    history: list[dict[str, float]] = told("steps, and the loss of each")
    interrupted: bool
    samples: int = told("that were trained on")
    held_back: int = told("samples that were not trained on")
    labels: bool = told("labels were looked at")
    teacher: str | None
    losses: list[str]
    lr: float = told("the highest step size")
    batch: int = told("samples of a step")
    bf16: bool
    seconds: float


class Train(Ran):
    command: Literal["train"]
    training: Trained
    weights: list[dict[str, Any]] = told("that were trained, and how far each moved beside its length")


class Several(Ran):
    """Several passes in a row, as Python's ``run`` does them."""

    command: Literal["run"]
    steps: list[Step]
