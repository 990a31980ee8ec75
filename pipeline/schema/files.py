"""What commands print that turn one file into another, or many."""

from __future__ import annotations

from typing import Any, Literal

from .shared import Amounts, Answer, Difference, Gate, Judged, Numbers, Told, told


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
