"""Which pass, then which layers make a result differ from the original: each is run by itself, and put back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from ..measure.data.source import Batch, DataSource
from ..measure.difference import Difference, add_outputs
from ..measure.run.pairing import pair_models
from ..measure.run.session import open_session, run
from ..passes.calibration.activation_cache import part

Values = Mapping[str, np.ndarray]
_BATCH = 32
_ROUNDING_DB = 100.0
"""Single precision alone adds no more noise than this."""


@dataclass(frozen=True)
class Suspect:
    """The nodes that make one tensor from others that both models have.

    ``own`` is the noise that they add on what the original gives them, ``all`` what reaches that tensor in the result,
    ``without`` the noise of the outputs once the original's nodes stand in their place. Units: dB.
    """

    tensor: str
    nodes: Sequence[str]
    own: float
    all: float
    without: float | None = None

    def as_dict(self) -> dict[str, Any]:
        told = {"own_sqnr_db": self.own, "sqnr_db": self.all, "restored_sqnr_db": self.without}
        return {"tensor": self.tensor, "nodes": list(self.nodes), **told}


@dataclass(frozen=True)
class Blame:
    """``responsible`` are the fewest suspects, the worst first, without which the outputs are good; None if all are not."""

    output: float
    suspects: Sequence[Suspect]
    responsible: Sequence[str] | None
    shared: int
    samples: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "output_sqnr_db": self.output,
            "layers": [one.as_dict() for one in self.suspects],
            "responsible": None if self.responsible is None else list(self.responsible),
            "shared_tensors": self.shared,
            "samples": self.samples,
        }


def blame(before: Model, after: Model, source: DataSource, *, good: float, top: int) -> Blame:
    """Run both on the data and look at every tensor that they share; ``top`` suspects are put back.

    Raises:
        BadData: there are no samples, or the models share no tensor.
    """
    batches = list(islice(source.batches(_BATCH), 8))
    if not batches:
        raise BadData(f"{source.name} holds no samples")
    pieces = [Piece(before, after, batch) for batch in batches]
    output = _noise([(piece.outputs, piece.result({})) for piece in pieces])
    found = sorted(_suspects(pieces), key=lambda one: one.own)[:top]
    alone = [replace_in(pieces, [one.tensor]) for one in found]
    suspects = [Suspect(one.tensor, one.nodes, one.own, one.all, db) for one, db in zip(found, alone, strict=True)]
    samples = sum(batch.count for batch in batches)
    responsible = _responsible(pieces, suspects, output, good)
    return Blame(output, suspects, responsible, len(pieces[0].shared), samples)


def _responsible(
    pieces: Sequence[Piece], suspects: Sequence[Suspect], output: float, good: float
) -> Sequence[str] | None:
    if output >= good:
        return []
    names = [one.tensor for one in suspects]
    for count in range(1, len(names) + 1):
        if replace_in(pieces, names[:count]) >= good:
            return names[:count]
    return None


def replace_in(pieces: Sequence[Piece], tensors: Sequence[str]) -> float:
    """Noise of the outputs where the original's nodes make these tensors."""
    return _noise([(piece.outputs, piece.restored(tensors)) for piece in pieces])


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


def steps_of(folder: Path) -> tuple[Path, list[tuple[str, Path]]]:
    """The original and the steps, in order, of a folder that ``compress`` wrote. Raises UsageError."""
    try:
        told = json.loads((folder / "report.json").read_text())
        model = Path(told["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = "it has no report.json that names a model"
        raise UsageError(f"{folder} is no folder that compress wrote", why=why, fix="give two models: A B") from error
    steps = [(one.parent.name.partition("-")[2], one) for one in sorted((folder / "steps").glob("*/model.onnx"))]
    if not steps:
        raise UsageError(
            f"{folder} holds no steps", fix="run compress without --no-keep-steps, or give two models: A B"
        )
    return model, steps


@dataclass(frozen=True)
class Left:
    """What a pass left: noise of the outputs against the original's. Units: dB."""

    name: str
    path: Path
    sqnr_db: float

    def as_dict(self) -> dict[str, Any]:
        return {"pass": self.name, "sqnr_db": self.sqnr_db}


def culprit(original: Model, steps: Sequence[tuple[str, Path]], source: DataSource) -> tuple[list[Left], int]:
    """What each pass left, and the place of the one that added most noise."""
    batches = list(islice(source.batches(_BATCH), 8))
    left = []
    for name, path in steps:
        pieces = [Piece(original, load(path), batch) for batch in batches]
        left.append(Left(name, path, _noise([(one.outputs, one.result({})) for one in pieces])))
    noise = [0.0, *(10 ** (-one.sqnr_db / 10) for one in left)]
    return left, int(np.argmax(np.diff(noise)))
