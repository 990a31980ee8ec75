"""Whether a large model of fewer bits computes what it should: each part on what the float model feeds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...graph.errors import BadModel, ProofFailed
from ...graph.index import index_of
from ...graph.model import Model
from ...measure.data.source import DataSource
from ...measure.run.inputs import tried_inputs
from ..by_parts import LAYER, Walk, walks
from ..calibration.activation_cache import part
from .decibels import Noise
from .result import Result

_NOISE = 1.5
"""Most noise beside signal of a layer by its weights: nearest numbers leave less than 1, other weights 2."""
_BESIDE = 1 << 16
"""Bytes of constants that the result may have beside smaller weights."""


def check_by_parts(
    original: Model, result: Result, data: DataSource | None, memory: int, done: str, *, optimize: bool = True
) -> None:
    """Each part must run, give finite numbers where the original's does, and layers must resemble theirs.

    Parts are fed with what the original computes of real or made-up inputs. Where the result has no tensors of the
    same names it is run by itself, and its outputs must be finite.

    Raises:
        ProofFailed: one does not.
    """
    batch = next(iter(data.batches(4)), None) if data is not None else None
    job = _Check(original, result, memory, done, optimize)
    if batch is not None:
        job.on(batch.inputs)
    else:
        tried_inputs(original, job.on)


class _Check:
    def __init__(self, original: Model, result: Result, memory: int, done: str, optimize: bool) -> None:
        self.original, self.model, self.memory, self.done, self.optimize = (
            original,
            result.model,
            memory,
            done,
            optimize,
        )
        self.made = index_of(result.model).place
        self.layers = {one.tensor for one in result.layers if one.activations == "float32"}

    def on(self, feed: Mapping[str, np.ndarray]) -> None:
        apart = False
        with walks([(self.original, feed)], self.memory, optimize=self.optimize) as (walk,):
            for names, wanted in walk.parts(LAYER):
                both = [n for n in names if n in self.made and (n in wanted or n in self.layers)]
                if not self.made.keys() >= {*wanted} or not self._alike(both, walk):
                    both, apart = [], True
                near, failed = dict[str, Any](), None
                try:
                    near = next(walk.cache.batches(both, self.model)) if both else near
                except BadModel as error:
                    failed = error
                walk.cache.hold([*wanted, *both])
                if failed is not None:
                    raise self._fails(failed) from failed
                for name, exact in next(walk.cache.batches(both)).items():
                    self._compare(name, exact, near[name])
        if apart:
            self._alone(feed)

    def _alike(self, names: list[str], walk: Walk) -> bool:
        """Whether both models make these tensors of the same ones: the result needs no other layers for that."""
        sizes = []
        for model in (self.original, self.model):
            weights = part(model, names, walk.cache.types())[0].weights
            sizes.append(sum(weight.nbytes for weight in weights.values()))
        return sizes[1] <= sizes[0] + _BESIDE

    def _alone(self, feed: Mapping[str, np.ndarray]) -> None:
        outputs = [value.name for value in self.model.graph.output]
        with walks([(self.model, feed)], self.memory, optimize=self.optimize) as (walk,):
            try:
                for _ in walk.parts():
                    pass
                values = next(walk.cache.batches(outputs))
            except BadModel as error:
                raise self._fails(error) from error
        for name, value in values.items():
            self._require_finite(name, value)

    def _compare(self, name: str, exact: Any, near: Any) -> None:
        if not isinstance(exact, np.ndarray) or exact.dtype.kind != "f":
            return
        if near.shape != exact.shape:
            raise ProofFailed(f"tensor {name!r} has shape {near.shape}, the original's has {exact.shape}")
        if np.isfinite(exact).all():
            self._require_finite(name, near)
        noise = Noise()
        noise.add(exact, near)
        if name in self.layers and noise.noise > _NOISE * noise.signal:
            raise ProofFailed(
                f"the {self.done} layer that makes {name!r} does not resemble the original's",
                why=f"fed alike it is off by {noise.decibels:.1f} dB",
                fix="leave it out with --exclude, and report the model: this is a fault in intaglio",
            )

    def _require_finite(self, name: str, value: Any) -> None:
        if isinstance(value, np.ndarray) and not np.isfinite(value.astype(np.float64)).all():
            raise ProofFailed(
                f"tensor {name!r} of the {self.done} model is not finite",
                why="numbers overflow in the smaller type",
                fix="keep the layers that overflow in float with --exclude",
            )

    def _fails(self, error: BadModel) -> ProofFailed:
        return ProofFailed(
            f"ONNX Runtime does not run the {self.done} model, while it runs the original",
            why=error.why or error.what,
            fix="leave what it names in float, and what is next to it: --exclude NODE_OR_OPERATOR",
        )
