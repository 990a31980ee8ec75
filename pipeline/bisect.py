"""Which pass, then which layers make a result differ from the original: each is run by itself, and put back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..graph.errors import BadData, UsageError
from ..graph.index import index_of
from ..graph.io.load import load
from ..graph.model import Model
from ..graph.nodes import display_name
from ..measure.accuracy import Evaluation, Scoring
from ..measure.data.source import Batch, DataSource
from ..measure.difference import Difference, add_outputs
from ..measure.run.pairing import pair_models
from ..measure.run.running import real_rows
from ..measure.run.session import open_session, run
from ..passes.calibration.activation_cache import part
from .measured import accuracy

Values = Mapping[str, np.ndarray]
Rated = Sequence[str] | None
"""Metrics, the usual ones where none is named; None to look at noise alone."""
_BATCH = 32
_ROUNDING_DB = 100.0
"""Single precision alone adds no more noise than this."""


@dataclass(frozen=True)
class Worth:
    """What outputs are worth: noise against the original's, in dB, and how right they are, where labels are asked."""

    sqnr_db: float
    evaluation: Evaluation | None = None

    @property
    def accuracy(self) -> Mapping[str, float] | None:
        """By metric."""
        return self.evaluation.values if self.evaluation else None

    @property
    def first(self) -> float | None:
        """The first metric."""
        return next(iter(self.accuracy.values())) if self.accuracy else None

    def lost(self, original: Worth) -> float:
        """By the first metric: points of a share, or percent."""
        if self.evaluation is None or self.first is None or original.first is None:
            return 0.0
        reading = self.evaluation.worth[next(iter(self.evaluation.values))]
        return round(reading.lost(original.first, self.first), 9)


@dataclass(frozen=True)
class Good:
    """Which outputs count as good: those with no more noise, or that lose no more than ``drop`` by the first of the
    ``metrics``, where that is given."""

    sqnr_db: float = 20.0
    drop: float | None = None
    metrics: Sequence[str] = ()

    def holds(self, worth: Worth, original: Worth) -> bool:
        return worth.sqnr_db >= self.sqnr_db if self.drop is None else worth.lost(original) <= self.drop


@dataclass(frozen=True)
class Suspect:
    """The nodes that make one tensor from others that both models have.

    ``own`` is the noise that they add on what the original gives them, ``all`` what reaches that tensor in the result,
    ``without`` what the outputs are worth once the original's nodes stand in their place. Units: dB.
    """

    tensor: str
    nodes: Sequence[str]
    own: float
    all: float
    without: Worth = Worth(0.0)

    def as_dict(self) -> dict[str, Any]:
        told = {"own_sqnr_db": self.own, "sqnr_db": self.all, "restored_sqnr_db": self.without.sqnr_db}
        return {
            "tensor": self.tensor,
            "nodes": list(self.nodes),
            **told,
            "restored_accuracy": self.without.first,
        }


@dataclass(frozen=True)
class Blame:
    """``responsible`` are the fewest suspects, the worst first, without which the outputs are good; None if all are not."""

    original: Worth
    output: Worth
    suspects: Sequence[Suspect]
    responsible: Sequence[str] | None
    shared: int
    samples: int

    def as_dict(self) -> dict[str, Any]:
        before, after = self.original.evaluation, self.output.evaluation
        return {
            "output_sqnr_db": self.output.sqnr_db,
            "accuracy": accuracy(before, after) if before and after else None,
            "layers": [one.as_dict() for one in self.suspects],
            "responsible": None if self.responsible is None else list(self.responsible),
            "shared_tensors": self.shared,
            "samples": self.samples,
        }


def blame(before: Model, after: Model, source: DataSource, *, good: Good, top: int) -> Blame:
    """Run both on the data and look at every tensor that they share; ``top`` suspects are put back.

    Raises:
        BadData: there are no samples, or the models share no tensor.
    """
    pieces = [Piece(before, after, batch) for batch in _batches(source)]
    rated = None if good.drop is None else good.metrics
    original = _worth(pieces, lambda one: one.outputs, rated)
    output = _worth(pieces, lambda one: one.result({}), rated)
    found = sorted(_suspects(pieces), key=lambda one: one.own)[:top]
    suspects = [replace(one, without=_restored(pieces, [one.tensor], rated)) for one in found]
    suspects.sort(key=lambda one: one.without.lost(original))
    responsible: Sequence[str] | None = [] if good.holds(output, original) else None
    names = [one.tensor for one in suspects]
    for count in range(1, len(names) + 1) if responsible is None else ():
        if good.holds(_restored(pieces, names[:count], rated), original):
            responsible = names[:count]
            break
    samples = sum(piece.batch.count for piece in pieces)
    return Blame(original, output, suspects, responsible, len(pieces[0].shared), samples)


def _batches(source: DataSource) -> list[Batch]:
    batches = list(islice(source.batches(_BATCH), 8))
    if not batches:
        raise BadData(f"{source.name} holds no samples")
    return batches


def _restored(pieces: Sequence[Piece], tensors: Sequence[str], rated: Rated) -> Worth:
    """Of the outputs where the original's nodes make these tensors."""
    return _worth(pieces, lambda one: one.restored(tensors), rated)


def _worth(pieces: Sequence[Piece], outputs: Callable[[Piece], Values], rated: Rated) -> Worth:
    made = {id(one): outputs(one) for one in pieces}
    noise = _noise([(one.outputs, made[id(one)]) for one in pieces])
    return Worth(noise, _rated(pieces, lambda one: made[id(one)], rated) if rated is not None else None)


def _rated(pieces: Sequence[Piece], outputs: Callable[[Piece], Values], metrics: Sequence[str]) -> Evaluation:
    scoring = Scoring(metrics, usual=not metrics)
    for one in pieces:
        scoring.add(one.batch, real_rows(outputs(one), one.batch))
    return scoring.evaluation()


def _suspects(pieces: Sequence[Piece]) -> Iterator[Suspect]:
    first = pieces[0]
    for tensor in first.shared:
        own = _noise([({tensor: one.original[tensor]}, one.alone(tensor)) for one in pieces])
        if own < _ROUNDING_DB:
            whole = _noise([({tensor: one.original[tensor]}, {tensor: one.changed[tensor]}) for one in pieces])
            yield Suspect(tensor, first.nodes(tensor), own, whole)


def _noise(pairs: Sequence[tuple[Values, Values]]) -> float:
    """The worst of several tensors."""
    found: dict[str, Difference] = {}
    for a, b in pairs:
        add_outputs(found, a, b)
    return min((one.sqnr_db for one in found.values()), default=np.inf)


@dataclass(frozen=True)
class Piece:
    """Both models on one batch."""

    before: Model
    after: Model
    batch: Batch
    sessions: dict[tuple[str, ...], Any] = field(default_factory=dict)

    @cached_property
    def inputs(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        pair = pair_models(self.before, self.after)
        return dict(self.batch.inputs), pair.for_b(self.batch.inputs)

    @cached_property
    def outputs(self) -> Values:
        return self._run(self.before, [one.name for one in self.before.graph.output], self.inputs[0])

    @cached_property
    def shared(self) -> list[str]:
        """Tensors of the same name and shape in both, in the order of the original."""
        names = [name for name in index_of(self.before).place if name in index_of(self.after).place and name]
        old = self._run(self.before, names, self.inputs[0])
        new = self._run(self.after, names, self.inputs[1])
        self.sessions.clear()
        kinds = {name: {old[name].dtype.kind, new[name].dtype.kind} for name in names}
        same = [name for name in names if old[name].shape == new[name].shape and kinds[name] <= {"f", "V"}]
        vars(self).update(original={n: old[n] for n in same}, changed={n: new[n] for n in same})
        if not same:
            raise BadData("the models share no tensor", why="no name and shape of one is one of the other's")
        return same

    @property
    def original(self) -> Values:
        _ = self.shared
        found: Values = vars(self)["original"]
        return found

    @property
    def changed(self) -> Values:
        _ = self.shared
        found: Values = vars(self)["changed"]
        return found

    def nodes(self, tensor: str) -> list[str]:
        """The original's nodes between this tensor and the shared ones before it."""
        made, _ = part(self.before, [tensor], {*self.inputs[0], *self.shared} - {tensor})
        return [display_name(node) for node in made.graph.node]

    def alone(self, tensor: str) -> Values:
        """What the result makes of the original's tensors."""
        known = {**self.inputs[1], **{n: v.astype(self.changed[n].dtype) for n, v in self.original.items()}}
        return self._run(self.after, [tensor], {n: v for n, v in known.items() if n != tensor})

    def result(self, known: Values) -> Values:
        """The outputs of the result, some tensors being known."""
        return self._run(self.after, [one.name for one in self.after.graph.output], {**self.inputs[1], **known})

    def restored(self, tensors: Sequence[str]) -> Values:
        """The outputs where the original's nodes make these tensors from what the result gives them."""
        done: dict[str, np.ndarray] = {}
        for tensor in (one for one in self.shared if one in set(tensors)):
            _, sources = part(self.before, [tensor], {*self.inputs[0], *self.shared} - {tensor})
            inner = [name for name in sources if name not in self.inputs[0]]
            now = self._run(self.after, inner, {**self.inputs[1], **done}) if inner else {}
            given = {**self.inputs[0], **{n: v.astype(self.original[n].dtype) for n, v in now.items()}}
            made = self._run(self.before, [tensor], given)[tensor]
            done[tensor] = made.astype(self.changed[tensor].dtype)
        return self.result(done)

    def _run(self, model: Model, targets: Sequence[str], known: Values) -> dict[str, np.ndarray]:
        found = {name: known[name] for name in targets if name in known}
        wanted = [name for name in targets if name not in found]
        if wanted:
            made, sources = part(model, wanted, {n: _element(v) for n, v in known.items()})
            found |= run(open_session(made), {name: known[name] for name in sources}, wanted)
        return {name: found[name] for name in targets}


def _element(value: np.ndarray) -> int:
    from onnx.helper import np_dtype_to_tensor_dtype

    return int(np_dtype_to_tensor_dtype(value.dtype))


def steps_of(folder: Path) -> tuple[Path, list[Path]]:
    """The original and the steps, in order, of a folder that ``compress`` wrote. Raises UsageError."""
    try:
        told = json.loads((folder / "report.json").read_text())
        model = Path(told["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = "it has no report.json that names a model"
        raise UsageError(f"{folder} is no folder that compress wrote", why=why, fix="give two models: A B") from error
    steps = sorted((folder / "steps").glob("*/model.onnx"))
    if not steps:
        raise UsageError(
            f"{folder} holds no steps", fix="run compress without --no-keep-steps, or give two models: A B"
        )
    return model, steps


@dataclass(frozen=True)
class Left:
    """What a pass left: what the outputs are worth."""

    name: str
    worth: Worth

    def as_dict(self) -> dict[str, Any]:
        return {"pass": self.name, "sqnr_db": self.worth.sqnr_db, "accuracy": self.worth.accuracy}


def culprit(original: Model, steps: Sequence[Path], source: DataSource, *, rated: Rated) -> tuple[list[Left], int]:
    """What each pass left, and the place of the one that lost most accuracy; where none lost any, added most noise."""
    batches, left, known = _batches(source), list[Left](), Worth(0.0)
    for path in steps:
        pieces = [Piece(original, load(path), batch) for batch in batches]
        left.append(Left(path.parent.name.partition("-")[2], _worth(pieces, lambda one: one.result({}), rated)))
        known = _worth(pieces, lambda one: one.outputs, rated)
    noise = np.diff([0.0, *(10 ** (-one.worth.sqnr_db / 10) for one in left)])
    lost = np.diff([0.0, *(one.worth.lost(known) for one in left)])
    return left, max(range(len(left)), key=lambda place: (max(lost[place], 0.0), noise[place]))
