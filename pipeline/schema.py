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


class Export(Judged):
    """``before`` is the model in ONNX Runtime, ``after`` the artifact in the target's runtime."""

    command: Literal["export"]
    target: str = told("with its options")
    runtime: str = told("what ran the artifact, with its version")
    files: list[str] = told("all that was written, in the folder of the artifact")
    figures: dict[str, Any] = told("what else the exporter tells, such as bytes of an arena")
    data: str
    samples: int


class Import(Answer):
    command: Literal["import"]
    source: str
    out: str
    importer: str
    package: str = told("the framework, with its version")
    nodes: int
    size_bytes: int
    opset: int
    outputs: dict[str, Difference] = told("from the framework's, on random inputs; empty where nothing was compared")
    notes: list[str]


class State(Told):
    """What one run hands to the next; the first gets zeros."""

    name: str = told("the input")
    next: str = told("the output that it takes in the next run")
    shape: list[int | str]
    bytes: int = told("for one sample")


class Stream(Answer):
    """``before`` is the model on one window, ``after`` on one hop."""

    command: Literal["stream"]
    model: str
    out: str
    before: Amounts
    after: Amounts
    kept: Numbers
    axis: dict[str, int] = told("the axis of each input that goes on")
    hop: int = told("samples that are new in each run")
    window: int | None = told("samples of a window; null where the axis is free")
    hops_a_window: float
    head_macs: int = told("MACs a hop of what is computed on the whole window each time")
    delay: dict[str, int] = told("of how many samples ago each output is")
    states: list[State]
    state_bytes: int
    padded: list[str] = told("nodes whose padding the signal takes the place of")
    carried: list[str] = told("recurrent layers that go on where a window began anew")
    windowed: list[str] = told("nodes from which on all is computed on the whole window")
    exact: bool = told("whether it computes the same, up to rounding")
    outputs: dict[str, Difference] = told("from the model on a window, over all hops")
    hops: int = told("that were compared")
    ms: Numbers = told("medians of a run of each, in the process that compared them")
    gates: list[Gate]
    notes: list[str]


class Handed(Told):
    name: str
    shape: list[int | str]


class Age(Told):
    age: int = told("how many steps old the tensors are that the light model got")
    outputs: dict[str, Difference]


class Split(Answer):
    """``before`` is the full model, ``after`` the light one."""

    command: Literal["split"]
    model: str
    out: str
    tensors: list[Handed] = told("what the full model gives and the light one takes")
    before: Amounts
    after: Amounts
    kept: Numbers
    every: int = told("of so many steps one runs the full model")
    mean_macs: float = told("of a step, on average")
    steps: int = told("that were compared")
    ages: list[Age] = told("the light model beside the full one on the same inputs")
    notes: list[str]


class MergedModel(Told):
    model: str
    scale: float
    changed: int = told("numbers in which it differs from the base")
    kept: int = told("those of them that were taken")


class Merge(Answer):
    """``model`` is the base."""

    command: Literal["merge"]
    model: str
    out: str
    pattern: str
    apart: bool = told("whether no number takes the changes of two models")
    models: list[MergedModel]
    notes: list[str]


class Kind(Told):
    name: str
    about: str
    options: dict[str, str] = told("what each is")
    install: str = told("what to do to have what it needs; empty where all is there")


class Kinds(Answer):
    command: Literal["export", "import"]
    targets: list[Kind] | None = None
    sources: list[Kind] | None = None


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


_FORMS: tuple[type[Answer], ...] = (
    *(Bench, Binarize, Bisect, Check, Compare, Compress, Env, Evaluate, Export, Factorize),
    *(Groups, Import, Inspect, Merge, Passes, Prune, Quantize, Searched, Several, Simplify, Sparsify, Split),
    *(Stream, Swept, Train),
)
ANSWERS = {get_args(one.model_fields["command"].annotation)[0]: one for one in _FORMS}
"""By command."""


def form_of(answer: dict[str, Any]) -> type[Answer]:
    """Which of the forms an answer has."""
    if "presets" in answer:
        return Presets
    if answer.keys() & {"targets", "sources"}:
        return Kinds
    return Failure if "error" in answer and "model" not in answer else ANSWERS[answer["command"]]


def json_schema() -> dict[str, Any]:
    """JSON Schema of what any command may print."""
    forms: list[type[BaseModel]] = [*ANSWERS.values(), Presets, Kinds, Failure]
    every: list[type[BaseModel]] = [*forms, Judged, Ran]
    names, made = models_json_schema([(form, "validation") for form in every], ref_template="#/$defs/{model}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"What intaglio prints with --json, {SCHEMA}",
        "oneOf": [names[form, "validation"] for form in forms],
        "$defs": made["$defs"],
    }
