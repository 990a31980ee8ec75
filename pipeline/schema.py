"""The form of what commands print with ``--json``, for documents, editors and tests: nothing else is printed."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from .envelope import SCHEMA

Numbers = dict[str, float | None]


class Told(BaseModel):
    """Has no other keys than these; those that may be absent default to null."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())


def about(text: str, default: Any = ...) -> Any:
    return Field(default, description=text)


class Error(Told):
    what: str
    why: str
    fix: str


class Answer(Told):
    """What every command's object begins with. The others follow only where there was no error, or a gate was missed."""

    schema_: Literal["intaglio/1"] = Field(alias="schema", description="raised when the meaning of a key changes")
    version: str = about("of intaglio")
    command: str
    error: Error | None = about("what ended the command with an exit code other than 0", None)


class Failure(Answer):
    """A command that could not do what was asked."""

    error: Error


class Amounts(Told):
    """Of one run on one sample. MACs of bits are counted apart, where there are any."""

    macs: int
    params: int
    size_bytes: int = about("of the file, and of files that hold its weights")
    bops: int | None = about("MACs of one bit with another", None)
    equivalent_macs: float | None = about("all MACs, 64 of bits as one", None)


class Lost(Told):
    """Points that a metric lost on the same samples."""

    points: float
    low: float = about("the loss lies between low and high with this confidence")
    high: float
    confidence: float
    samples: int
    lost: int | None = about("samples that only the original has right", None)
    won: int | None = about("samples that only the result has right", None)
    p_value: float | None = about("McNemar's exact test", None)


class Accuracy(Told):
    before: Numbers = about("by metric; the first is what the gate `accuracy` means")
    after: Numbers
    drop: dict[str, Lost] = about("by metric, of those that score each sample")


class Latency(Told):
    """Medians of both models, run in turn."""

    before: float = about("milliseconds")
    after: float
    speedup: float
    verdict: Literal["faster", "slower", "same"]
    threads: int
    machine: str
    inputs: dict[str, list[int]] | None = None
    p90: dict[str, float] | None = about("milliseconds of both, of compare", None)
    least: dict[str, float] | None = about("milliseconds of both, of compare", None)
    runs: int | None = None


class Difference(Told):
    """How far an output of the result lies from the original's."""

    identical: bool
    max_abs: float
    mean_abs: float
    max_rel: float | None = about("the largest difference as a part of the largest magnitude")
    sqnr_db: float | None = about("null where nothing differs")
    not_finite: int = about("values that are finite in one model only")
    top1_agreement: float | None = about("of real data alone")


class Gate(Told):
    gate: str = about("as it was given")
    figure: str
    limit: float
    unit: str = about("of limit and value: points, B, ms, dB, x of the original, or none")
    value: float | None = about("null where it could not be measured, or is infinite")
    passed: bool
    of_accuracy: bool


class Plugin(Told):
    """A thing of another package that took part."""

    kind: str
    name: str
    package: str
    version: str


class Step(Amounts):
    """What one of several passes left; its own report is in ``details``."""

    pass_: str = Field(alias="pass")
    accuracy: Numbers | None = about("by metric; null without labelled data")
    sqnr_db: float | None = about("of the outputs against the original's; null without data")
    seconds: float
    details: dict[str, Any]


class BeforeAfter(Told):
    before: float
    after: float


class LayerCost(Told):
    name: str
    op: str
    bytes: BeforeAfter
    macs: BeforeAfter
    bops: BeforeAfter | None = None


class Judged(Answer):
    """What commands that judge a model have in common."""

    model: str | None = about("the original")
    out: str | None = about("the model that is judged: the file that was written, or B of compare")
    passed: bool = about("all gates passed")
    before: Amounts
    after: Amounts
    kept: Numbers = about("the fraction that is left of each amount")
    gates: list[Gate]
    accuracy: Accuracy | None = about("with labelled data", None)
    latency_ms: Latency | None = about("where both were timed", None)
    outputs: dict[str, Difference] | None = about("by output, where they were compared", None)
    notes: list[str]
    warnings: list[str]


class Compare(Judged):
    command: Literal["compare"]
    data: str
    samples: int
    bibench: Numbers | None = None


class Ran(Judged):
    """What commands that write a model have in common."""

    changed: bool
    seconds: float
    recipe: dict[str, Any] = about("the pass and its options: scheme, target and all that decides the result")
    plugins: list[Plugin]
    by_layer: list[LayerCost] | None = None
    verified: dict[str, Any] | None = about("the proof that the result computes what it should", None)
    latency_target: dict[str, Any] | None = about("with --latency: asked, predicted, kept, verdict, missed_by", None)


class Calibrated(Ran):
    dialect: str | None = None
    samples: int | None = None
    mirrored: bool | None = None


class Prune(Calibrated):
    command: Literal["prune"]
    groups: list[dict[str, Any]] = about("name, before and after: channels, exact, prunable")
    criterion: str | None = None
    solver: str | None = None
    repair: dict[str, Any] | None = None
    bodies: Any = None


class Factorize(Calibrated):
    command: Literal["factorize"]
    layers: list[dict[str, Any]] = about("name, op, scheme and rank, or the reason why it is whole; gain, speedup")
    fitted: int | None = None
    refitted: int | None = None


class FewerBits(Ran):
    layers: list[dict[str, Any]] = about("name, numbers of weights and activations, errors, sqnr_db")
    nodes: dict[str, str] = about("what was changed, and into what")
    skipped: dict[str, str] = about("what stays in float, and why")
    sqnr_db: Numbers = about("by output, on calibration data")
    worst: list[dict[str, Any]] = about("layers with the most noise, its cause, and advice")
    higher_precision: list[str]


class Quantize(FewerBits):
    command: Literal["quantize"]
    ranges: dict[str, str] | None = None
    runtime: dict[str, Any] | None = None
    accelerated: bool | None = None
    allocation: Any = None


class Binarize(FewerBits):
    command: Literal["binarize"]
    scheme: str
    bits: float | None
    bibench: Numbers
    form: str | None = None
    proof: dict[str, Any] | None = None


class Several(Ran):
    """Several passes in a row, as Python's ``run`` does them."""

    command: Literal["run"]
    steps: list[Step]


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
    layers: list[dict[str, Any]] = about("name, op, macs, params, shape")
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


class Evaluate(Answer):
    command: Literal["evaluate"]
    model: str
    data: str
    preprocess: str
    samples: int
    metrics: Numbers
    seconds: float
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
    options_schema: dict[str, Any] | None = about("JSON Schema of its options", None)


class Passes(Answer):
    command: Literal["passes"]
    plugins: list[Pluggable]
    kernels: dict[str, Any] | None = None


_FORMS: tuple[type[Answer], ...] = (
    *(Bench, Binarize, Check, Compare, Evaluate, Factorize),
    *(Groups, Inspect, Passes, Prune, Quantize, Several),
)
ANSWERS = {get_args(one.model_fields["command"].annotation)[0]: one for one in _FORMS}
"""By command."""


def form_of(answer: dict[str, Any]) -> type[Answer]:
    """Which of the forms an answer has."""
    return Failure if "error" in answer and "model" not in answer else ANSWERS[answer["command"]]


def json_schema() -> dict[str, Any]:
    """JSON Schema of what any command may print."""
    forms: list[type[BaseModel]] = [*ANSWERS.values(), Failure]
    every: list[type[BaseModel]] = [*forms, Judged, Ran]
    names, told = models_json_schema([(form, "validation") for form in every], ref_template="#/$defs/{model}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"What intaglio prints with --json, {SCHEMA}",
        "oneOf": [names[form, "validation"] for form in forms],
        "$defs": told["$defs"],
    }
