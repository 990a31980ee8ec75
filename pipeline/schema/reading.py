"""What commands print that look at models and write none."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .shared import Accuracy, Answer, Gate, Judged, Numbers, Told, told


class Side(Told):
    right: float = told("share of the samples")
    margin: float = told("mean of the label's score less the highest other one")


class Answers(Told):
    """What became of the answers."""

    samples: int
    changed: int = told("samples for which the two answer differently")
    lost: int = told("samples that only A has right")
    won: int = told("samples that only B has right")
    points: float = told("what B has right less, in points")
    before: Side
    after: Side
    clear: bool = told("by McNemar's test, at 95 % for all classes together, B is worse")


class OfClass(Answers):
    label: int


class Forgotten(Answers):
    lost_samples: list[int] = told("the first thousand of those that only A has right, counted from 0")
    classes: list[OfClass] = told("those that lose most first")


class Compare(Judged):
    command: Literal["compare"]
    data: str
    samples: int
    robust: Forgotten | None = told("with --robust", None)
    bibench: Numbers | None = None


class Inspect(Answer):
    command: Literal["inspect"]
    model: str
    opset: int
    ir_version: int
    domains: dict[str, int]
    producer: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    nodes: int
    operators: dict[str, int]
    functions: list[str]
    params: int
    macs: int
    bops: int | None = None
    equivalent_macs: float | None = None
    bit_params: int | None = None
    size_bytes: int
    weight_bytes: int
    peak_activation_bytes: int
    layers: list[dict[str, Any]] = told("name, op, macs, params, shape")
    metadata: dict[str, str]
    bit_orders: list[dict[str, Any]] | None = None
    notes: list[str]


class Groups(Answer):
    command: Literal["groups"]
    model: str
    groups: list[dict[str, Any]]
    notes: list[str]
    seconds: float


class Check(Answer):
    command: Literal["check"]
    model: str
    ok: bool
    opset: int
    ran_on: dict[str, list[int]]
    inputs_from: str
    outputs: list[dict[str, Any]]
    compared: list[str]
    native: str | None
    notes: list[str]


class Suspect(Told):
    """Nodes that make one tensor from others that both models have."""

    tensor: str
    nodes: list[str]
    own_sqnr_db: float | None = told("noise that they add on what the original gives them")
    sqnr_db: float | None = told("noise that reaches the tensor in the result")
    restored_sqnr_db: float | None = told("of the outputs, with the original's nodes in their place; null: no noise")
    restored_accuracy: float | None = told("likewise, where labels say who is responsible")


class Bisect(Answer):
    command: Literal["bisect"]
    model: str
    out: str
    passes: list[dict[str, Any]] = told("of a folder that compress wrote: pass, sqnr_db and accuracy after it")
    culprit: str | None = told("the pass that loses most, whose layers are looked at")
    output_sqnr_db: float | None
    accuracy: Accuracy | None = told("where labels say who is responsible")
    good_db: float | None = told("outputs above are good, where labels do not say it")
    max_drop: float | None = told("points that good results lose at most, where they do")
    layers: list[Suspect] = told("the worst first")
    responsible: list[str] | None = told("tensors without whose layers the outputs are good; null: no few are")
    shared_tensors: int
    samples: int


class Env(Answer):
    command: Literal["env"]
    intaglio: str
    from_: str = Field(alias="from")
    python: str
    system: str
    machine: str
    kernels: str
    packages: dict[str, str]
    plugins: list[str]
    shadowed: str


class Timed(Told):
    model: str
    inputs: dict[str, list[int]]
    median_ms: float
    p90_ms: float
    min_ms: float
    runs: int
    native: str | None
    speedup: float
    verdict: Literal["base", "faster", "slower", "same"]


class Bench(Answer):
    command: Literal["bench"]
    models: list[Timed]
    threads: int
    warm_up_runs: int
    machine: str
    notes: list[str]
    bundle: str | None = told("the folder that was written, where nothing was timed", None)
    files: list[str] | None = told("in that folder", None)


class Corruptions(Told):
    reference: str | None = told("the model that it stands beside; null for itself without corruption")
    metric: str
    values: dict[str, list[float]] = told("by corruption, at severities of 1 to 5")
    beside: Numbers = told("by corruption, what the means are relative to")
    relative: Numbers = told("by corruption, what is left in percent")
    overall: float = told("the quadratic mean of that, as BiBench has it")


class Evaluate(Answer):
    command: Literal["evaluate"]
    model: str
    data: str
    preprocess: str
    samples: int
    metrics: Numbers
    better: dict[str, Literal["larger", "smaller"]] = told("by metric, which numbers are better")
    units: dict[str, Literal["points", "%"]] = told("by metric, what a loss is told in")
    corruptions: Corruptions | None = told("with --corruptions", None)
    seconds: float
    gates: list[Gate]
    passed: bool
    notes: list[str]


class Pluggable(Told):
    kind: str
    name: str
    works: bool
    about: str
    why: str
    options: dict[str, Any] | None = None
    needs: list[str] | None = None
    module: str | None = None
    options_schema: dict[str, Any] | None = told("JSON Schema of its options", None)


class Passes(Answer):
    command: Literal["passes"]
    plugins: list[Pluggable] | None = told("what has that name, or all; null for a preset", None)
    kernels: dict[str, Any] | None = None
    kind: Literal["preset"] | None = None
    name: str | None = None
    recipe: str | None = told("of a preset, as YAML", None)
