"""An export: written, loaded in its runtime, compared with ONNX Runtime, and only then put in its place."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..exporters.base import EXPORTERS, Artifact, CannotExport, Exporter, Runner, refuse_halves
from ..graph.cost import cost
from ..graph.errors import GateFailed, IntaglioError, UsageError
from ..graph.io.fix_dims import pin_shapes
from ..graph.io.inline import inlined
from ..graph.io.learners import without_learners
from ..graph.io.place import replacing
from ..graph.io.save import CannotWrite, check_target, file_bytes
from ..graph.lazy import release, require
from ..graph.model import Model
from ..graph.nodes import all_nodes
from ..graph.spec import Spec, spelled
from ..measure.data.source import Batch, DataSource, open_data
from ..measure.run.inputs import runnable_inputs
from ..measure.run.latency import time_sessions
from ..measure.run.pairing import pair_models
from ..measure.run.rounding import SIGMOID_STEP, stepped_outputs
from ..measure.run.session import open_session, run
from ..measure.run.tensor_specs import input_specs
from ..passes.binarize.storage.inline import inline_definitions
from . import gates as limits
from .data import Named
from .gates import Gate, read_gates
from .measured import compared, told_latency
from .run import Logged, View, loaded

_MADE_UP = 4
"""Runs on made-up inputs."""
_EXACT_DB, _ROUNDED_DB = 60.0, 20.0
"""How close outputs of floats must come, and those of integers, which may differ by a step of every layer."""


@dataclass(frozen=True)
class Exported:
    """What was written, and what is known of it."""

    artifact: Artifact
    told: Mapping[str, Any]

    @property
    def failed(self) -> GateFailed | None:
        return limits.missed(self.told["gates"])

    def as_dict(self) -> dict[str, Any]:
        return dict(self.told)


def export(
    model: Model | str | PathLike[str],
    target: Spec,
    path: str | PathLike[str],
    *,
    data: Named | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    seed: int = 0,
    gates: Sequence[str | Gate] = (),
    measure: bool = True,
    threads: int = 1,
    seconds: float = 1.0,
    view: View | None = None,
) -> Exported:
    """Write a model for a target, which is an exporter's name with its options, such as ``"onnx:io=float16"``.

    What was written is loaded in the target's own runtime and compared with ONNX Runtime on the data, or on made-up inputs.
    What misses a gate, of which closeness of the outputs is always one, lies aside as ``NAME.gate-failed.SUFFIX``, and
    ``failed`` says so.

    Raises:
        IntaglioError: the target cannot hold the model, or its runtime does not take what was written; nothing is there then.
    """
    exporter: Exporter = EXPORTERS[target]
    require(f"exporter {exporter.name}", exporter.extra, exporter.imports)
    view, place, held = view or Logged(), Path(path), read_gates(gates)
    model = loaded(model)
    _check_place(place, exporter, model)
    model = _fixed(model) if exporter.fixed else model
    model = model if exporter.keeps_functions or not model.proto.functions else _inlined(model)
    source = None if data is None else _opened(data, model, preprocess, samples)
    _require(held, source, measure)
    reference = open_session(model, threads=threads)  # what does not load here is refused before it is written
    model = model if exporter.learners else without_learners(model)
    with _workplace(place) as work:
        with view.progress(f"writing {exporter.name}"):
            artifact = _written(exporter, model, work / place.name, reference, source, seed)
        batches = source.batches() if source else _made_up(model, seed)
        runner = _runner(exporter, artifact, model, threads)
        told = {
            "target": spelled(target, "exporter"),
            "runtime": release(exporter.package),
            **_amounts(model, work),
            **_compared(model, runner, reference, source, batches, held, view),
            **({"latency_ms": _timed(model, runner, source, seed, threads, seconds)} if measure else {}),
            "figures": dict(artifact.figures),
            "data": source.name if source else f"random inputs, seed {seed}",
        }
        held, why = _with_closeness(held, artifact, model, told["outputs"])
        told["gates"] = [gate.judged(told) for gate in held]
        told["passed"] = all(one["passed"] for one in told["gates"])
        final = place if told["passed"] else place.with_name(f"{place.stem}.gate-failed{place.suffix}")
        if final != place:
            work, artifact = _under(final.name, exporter, model, work, artifact)
        told["notes"] = [*artifact.notes, *told["notes"], *why]
        told["files"] = sorted(one.name for one in work.iterdir())
        _put(work, final)
    source_path = str(model.source) if model.source else None
    return Exported(replace(artifact, path=final), {"model": source_path, "out": str(final), **told, "warnings": []})


def file_name(target: Spec) -> str:
    """What an artifact is called in a folder that is named otherwise."""
    exporter: Exporter = EXPORTERS[target]
    return f"model{exporter.suffix}" if exporter.suffix else f"model_{exporter.name}"


def _opened(data: Named, model: Model, preprocess: str | None, samples: int | None) -> DataSource:
    if isinstance(data, DataSource):
        return data
    return open_data(str(data), model, preprocess=preprocess, samples=samples)


def _check_place(place: Path, exporter: Exporter, model: Model) -> None:
    """Raises before any work where the artifact could not get its place."""
    if exporter.suffix:
        check_target(place, model)
    elif place.exists() and not place.is_dir():
        raise CannotWrite(f"cannot write {place}", why="it is a file, and what is written is a folder")
    elif not place.absolute().parent.is_dir():
        raise CannotWrite(f"cannot write {place}", why=f"there is no folder {place.parent}", fix="create it first")
    nameless = () if exporter.by_name else ("",)
    if exporter.suffix and place.suffix.lower() not in (exporter.suffix, *nameless):
        raise UsageError(
            f"{place.name!r} is no name for what {exporter.name} writes",
            why=f"programs go by {place.suffix or exporter.suffix}",
            fix=f"call it {place.with_suffix(exporter.suffix).name}",
        )
    if model.source is not None and place.exists() and place.samefile(model.source):
        raise UsageError(f"{place} is the model that was read", fix="choose another name")


def _fixed(model: Model) -> Model:
    """The model for one sample. Raises UsageError where other dimensions are free, too."""
    shapes: dict[str, list[int]] = {}
    batches = {spec.shape[0] for spec in input_specs(model) if spec.shape}
    for spec in input_specs(model):
        if spec.shape is None or any(isinstance(d, str) and d not in batches for d in spec.shape):
            sizes = [str(d) if isinstance(d, int) else "1" if d in batches else "32" for d in spec.shape or (1, 32)]
            raise UsageError(
                f"input {spec.name} has shape {spec.describe()}, and the target needs numbers",
                fix=f"give them, such as --shape {spec.name}:{','.join(sizes)}",
            )
        shapes[spec.name] = [d if isinstance(d, int) else 1 for d in spec.shape]
    pinned = model.copy()
    pin_shapes(pinned, shapes)
    return pinned


def _inlined(model: Model) -> Model:
    """Bodies of functions in the place of calls."""
    made = inline_definitions(model)
    made.proto.CopyFrom(inlined(made.proto))
    return made


def _require(held: Sequence[Gate], source: DataSource | None, measure: bool) -> None:
    labels = None if source and source.labelled else "add --data SOURCE, data with labels"
    data = "add --data SOURCE" if source is None and any(gate.name == "agreement" for gate in held) else None
    limits.require(held, labels=labels, data=data, times=None if measure else "leave out --no-measure")


@contextmanager
def _workplace(place: Path) -> Iterator[Path]:
    """A folder beside where the artifact goes; it goes with whatever is left in it."""
    try:
        with tempfile.TemporaryDirectory(prefix=".intaglio-", suffix=".tmp", dir=place.absolute().parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise CannotWrite(f"cannot write {place}", why=(error.strerror or str(error)).lower()) from error


def _runner(exporter: Exporter, artifact: Artifact, model: Model, threads: int) -> Runner:
    try:
        return exporter.open(artifact, model, threads)
    except (IntaglioError, MemoryError):
        raise
    except Exception as error:
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CannotExport(f"{exporter.name} does not load what was written", why=told) from error


class _Session:
    """A runner, used as sessions of ONNX Runtime are."""

    def __init__(self, runner: Runner, of: Any, timed: Callable[[], object] | None = None) -> None:
        self._runner, self._of, self._timed = runner, of, timed

    def get_inputs(self) -> Any:
        return self._of.get_inputs()

    def get_outputs(self) -> Any:
        return self._of.get_outputs()

    def run(self, names: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> Any:
        if self._timed is not None:
            self._timed()
            return [None] * len(names or ())
        found = self._runner.run(inputs)
        return [found[name] for name in names or found]


def _written(
    exporter: Exporter, model: Model, path: Path, reference: Any, source: DataSource | None, seed: int
) -> Artifact:
    """Exporters take for granted that operands fit: where one breaks down, a model that does not run is told as that."""
    if not exporter.halves:
        refuse_halves(exporter.name, model)
    try:
        return exporter.write(model, path)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        for batch in islice(source.batches() if source else _made_up(model, seed), 1):
            run(reference, batch.inputs)
        raise


def _made_up(model: Model, seed: int) -> Iterator[Batch]:
    for k in range(_MADE_UP):
        yield Batch(runnable_inputs(model, seed=seed + k, batches=(1, 2)), 1)


def _amounts(model: Model, work: Path) -> dict[str, Any]:
    """What the model costs, and the bytes of the artifact's files."""
    costs = cost(model)
    shared = {"macs": costs.macs, "params": costs.params}
    before = model.file.size_bytes if model.file else file_bytes(model)
    after = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    return {
        "before": {**shared, "size_bytes": before},
        "after": {**shared, "size_bytes": after},
        "kept": {**dict.fromkeys(shared, 1.0), "size_bytes": after / before},
    }


def _compared(
    model: Model,
    runner: Runner,
    reference: Any,
    source: DataSource | None,
    batches: Iterator[Batch],
    held: Sequence[Gate],
    view: View,
) -> dict[str, Any]:
    with view.progress("comparing with ONNX Runtime") as tick:
        return compared(
            [reference, _Session(runner, reference)], pair_models(model, model), source, batches, held, tick
        )


def _timed(
    model: Model, runner: Runner, source: DataSource | None, seed: int, threads: int, seconds: float
) -> dict[str, Any]:
    """One sample in both, in turn: ONNX Runtime before, the target after.

    With one thread the process's processor time counts, for some runtimes compute in a thread of their own, which waits
    long for a busy machine.
    """
    session = open_session(model, threads=threads, spin=False)
    first = next(source.batches(1), None) if source else None
    feed = first.inputs if first else runnable_inputs(model, seed=seed, batches=(1, 2))
    sessions = [session, _Session(runner, session, runner.timed(feed))]
    clock = time.process_time if threads == 1 else time.perf_counter
    timing = time_sessions(sessions, [feed, feed], threads=threads, seconds=seconds, clock=clock)
    return {**told_latency(timing), "inputs": {name: list(np.shape(value)) for name, value in feed.items()}}


def _with_closeness(
    held: tuple[Gate, ...], artifact: Artifact, model: Model, outputs: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[Gate, ...], list[str]]:
    """The gates, and how close outputs must come unless one of them says that; and why it is less than usual.

    What differs by the rounding of Sigmoid alone is near enough, unless that rounding is all that there is.
    """
    if any(gate.name == "sqnr" for gate in held):
        return held, []
    rounded = any(node.op_type == "QuantizeLinear" for node in all_nodes(model.graph))
    least = artifact.sqnr_db if artifact.sqnr_db is not None else _ROUNDED_DB if rounded else _EXACT_DB
    apart = [name for name, one in outputs.items() if one["sqnr_db"] < least]
    stepped = [name for name in stepped_outputs(model) if name in apart and outputs[name]["max_abs"] <= SIGMOID_STEP]
    why = []
    if stepped and stepped == apart and least > _ROUNDED_DB:
        least = _ROUNDED_DB
        names, most = ", ".join(map(repr, stepped)), max(outputs[name]["max_abs"] for name in stepped)
        why = [
            f"{names}: small numbers from Sigmoid, which float32 rounds to about 1e-7; they differ by {most:.2g} at most"
        ]
    return (*held, Gate.read(f"sqnr >= {least:g}dB")), why


def _under(name: str, exporter: Exporter, model: Model, work: Path, artifact: Artifact) -> tuple[Path, Artifact]:
    """The artifact by another name, in a folder of its own: files beside it go by its name, and are written again with it."""
    folder = work / "renamed"
    alone = list(work.iterdir()) == [artifact.path]
    folder.mkdir()
    if not alone:
        return folder, exporter.write(model, folder / name)
    artifact.path.rename(folder / name)
    return folder, replace(artifact, path=folder / name)


def _put(work: Path, place: Path) -> None:
    """Move all that was written to its place, the artifact itself last. Raises CannotWrite where a folder holds other files."""
    written = work / place.name
    if written.is_dir() and place.is_dir():
        others = {file.name for file in place.iterdir()} - {file.name for file in written.iterdir()}
        if others:
            told = ", ".join(sorted(others)[:3])
            raise CannotWrite(f"{place} holds other files", why=told, fix="choose another folder")
        former = Path(tempfile.mkdtemp(prefix="former-", dir=work))
        os.rename(place, former / place.name)
        os.rename(written, place)
        shutil.rmtree(former)
        return
    with replacing(place.absolute()):
        for entry in [one for one in work.iterdir() if one != written]:
            os.replace(entry, place.with_name(entry.name))
        os.replace(written, place)
