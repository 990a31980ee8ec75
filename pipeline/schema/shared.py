"""What several commands print, and what every one begins with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Numbers = dict[str, float | None]


class Told(BaseModel):
    """Has no other keys than these; those that may be absent default to null."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())


def told(text: str, default: Any = ...) -> Any:
    return Field(default, description=text)


class Error(Told):
    what: str
    why: str
    fix: str


class Answer(Told):
    """What every command's object begins with. The others follow only where there was no error, or a gate was missed."""

    schema_: Literal["intaglio/1"] = Field(alias="schema", description="raised when the meaning of a key changes")
    version: str = told("of intaglio")
    command: str
    error: Error | None = told("what ended the command with an exit code other than 0", None)


class Failure(Answer):
    """A command that could not do what was asked."""

    error: Error


class Amounts(Told):
    """Of one run on one sample. MACs of bits are counted apart, where there are any."""

    macs: int
    params: int
    size_bytes: int = told("of the file, and of files that hold its weights")
    bops: int | None = told("MACs of one bit with another", None)
    equivalent_macs: float | None = told("all MACs, 64 of bits as one", None)


class Lost(Told):
    """What a metric lost on the same samples."""

    points: float | None = told("in the unit; null where all is lost")
    low: float | None = told("the loss lies between low and high with this confidence; null where that is not known")
    high: float | None
    unit: Literal["points", "%"] = told("points of a share, or percent of what it was")
    better: Literal["larger", "smaller"] = told("which numbers of the metric are better")
    confidence: float
    samples: int
    lost: int | None = told("samples that only the original has right", None)
    won: int | None = told("samples that only the result has right", None)
    p_value: float | None = told("McNemar's exact test", None)


class Accuracy(Told):
    before: Numbers = told("by metric; the first is what the gate `accuracy` means")
    after: Numbers
    drop: dict[str, Lost] = told("by metric")


class Latency(Told):
    """Medians of both models, run in turn."""

    before: float = told("milliseconds")
    after: float
    speedup: float
    verdict: Literal["faster", "slower", "same"]
    threads: int
    machine: str
    inputs: dict[str, list[int]] | None = None
    p90: dict[str, float] | None = told("milliseconds of both, of compare", None)
    least: dict[str, float] | None = told("milliseconds of both, of compare", None)
    runs: int | None = None


class Difference(Told):
    """How far an output of the result lies from the original's."""

    identical: bool
    max_abs: float
    mean_abs: float
    max_rel: float | None = told("the largest difference as a part of the largest magnitude")
    sqnr_db: float | None = told("null where nothing differs")
    not_finite: int = told("values that are finite in one model only")
    top1_agreement: float | None = told("of real data alone")


class Gate(Told):
    gate: str = told("as it was given")
    figure: str
    limit: float
    unit: str = told("of limit and value: points, B, ms, dB, x of the original, or none")
    value: float | None = told("null where it could not be measured, or is infinite")
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
    accuracy: Numbers | None = told("by metric; null without labelled data")
    sqnr_db: float | None = told("of the outputs against the original's; null without data")
    seconds: float
    details: dict[str, Any]


class BeforeAfter(Told):
    """Null where one of the models has no such layer, or nothing is known."""

    before: float | None
    after: float | None


class LayerCost(Told):
    name: str
    op: str
    bytes: BeforeAfter
    macs: BeforeAfter
    bops: BeforeAfter | None = None
    latency_ms: BeforeAfter | None = told("inside of the model, by ONNX Runtime's profile, where that tells it", None)


class Judged(Answer):
    """What commands that judge a model have in common."""

    model: str | None = told("the original")
    out: str | None = told("the model that is judged: the file that was written, or B of compare")
    passed: bool = told("all gates passed")
    before: Amounts
    after: Amounts
    kept: Numbers = told("the fraction that is left of each amount")
    gates: list[Gate]
    accuracy: Accuracy | None = told("with labelled data", None)
    latency_ms: Latency | None = told("where both were timed", None)
    outputs: dict[str, Difference] | None = told("by output, where they were compared", None)
    by_layer: list[LayerCost] | None = told("what each layer cost and costs, where something changed", None)
    notes: list[str]
    warnings: list[str]


class Ran(Judged):
    """What commands that write a model have in common."""

    changed: bool
    seconds: float
    recipe: dict[str, Any] = told("the pass and its options: scheme, target and all that decides the result")
    plugins: list[Plugin]
    environment: dict[str, str] = told("versions of what computed, and the kind of machine")
    lossless: dict[str, Any] | None = told("what reading the file saved, which changes no output", None)
    verified: dict[str, Any] | None = told("the proof that the result computes what it should", None)
    latency_target: dict[str, Any] | None = told("with --latency: asked, predicted, kept, verdict, missed_by", None)
