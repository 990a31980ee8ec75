"""Proof by running: the factorized model against the same network with each weight the product of its factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ...graph.errors import IntaglioError, ProofFailed
from ...graph.model import Model
from ...measure.run.inputs import runnable_inputs
from ...measure.run.session import open_session, run
from .rewrite import Split

TOLERANCE = {"float16": 2e-2, "float32": 1e-4, "float64": 1e-9}
"""Largest difference allowed, relative to the largest value in the tensor: sums run in another order."""
_LAST_PLACE = {"float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}
_DRAWS, _AMPLIFIED = 3, 4.0
"""Where the network amplifies rounding, an output may differ by so many times what changing every weight by a few last
places makes, the most of some draws."""


@dataclass(frozen=True)
class Proof:
    """Largest relative difference over the outputs of all factorized layers and of the network."""

    max_rel_diff: float
    tensors: int
    worst: str
    inputs: str
    noisy: int = 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def prove(
    reference: Model, small: Model, splits: Sequence[Split], real: Sequence[Mapping[str, np.ndarray]], seed: int
) -> Proof:
    """Run both on made-up inputs and on ``real`` ones.

    Raises:
        ProofFailed: they differ; names the first layer at which they do.
        BadModel: one of them does not run.
    """
    feeds = list(real)
    try:
        feeds.insert(0, runnable_inputs(reference, seed=seed))
    except IntaglioError:
        if not feeds:
            raise
    made = {site.output: site.name for s in splits for site in s.unit.sites}
    inner = [o for node in reference.graph.node for o in node.output if o in made]
    names = list(dict.fromkeys([*inner, *(o.name for o in reference.graph.output)]))
    ours, theirs = (open_session(m, outputs=names, optimize=False) for m in (small, reference))
    widest, worst, noisy = 0.0, "", set()
    for feed in feeds:
        a, b = run(theirs, feed, names), run(ours, feed, names)
        for name in names:
            if not isinstance(a[name], np.ndarray) or a[name].dtype.kind not in "fiub":
                continue
            found, scale = difference(a[name], b[name])
            ratio = found / scale
            if ratio > TOLERANCE.get(str(a[name].dtype), 0.0):
                if found > _AMPLIFIED * _noise(reference, feed, name, a[name]):
                    raise _failed(made.get(name, name), name, found, scale)
                noisy.add(name)
            elif ratio > widest:
                widest, worst = ratio, name
    inputs = "made-up" if not real else "real" if len(feeds) == len(real) else "made-up and real"
    return Proof(widest, len(names), worst, inputs, len(noisy))


def difference(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Largest difference, infinite where only one is a number or the shapes differ; and the largest value."""
    if expected.shape != found.shape:
        return float("inf"), 1.0
    x, y = expected.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    size = np.abs(x[np.isfinite(x)])
    return (float("inf") if np.isnan(gap).any() else float(gap.max(initial=0.0))), float(size.max(initial=0.0)) + 1e-6


def _noise(model: Model, feed: Mapping[str, np.ndarray], name: str, value: np.ndarray) -> float:
    """How far rounding alone moves a tensor."""
    found = 0.0
    for seed in range(_DRAWS):
        rng = np.random.default_rng(seed)
        moved = model.copy()
        moved.weights = {n: _moved(w, rng) for n, w in moved.weights.items()}
        other = run(open_session(moved, outputs=[name], optimize=False), feed, [name])[name]
        found = max(found, difference(value, other)[0])
    return found


def _moved(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    last = _LAST_PLACE.get(str(value.dtype))
    if last is None:
        return value
    return np.asarray(value * (1 + 4 * last * rng.standard_normal(value.shape)), dtype=value.dtype)


def _failed(layer: str, name: str, found: float, scale: float) -> ProofFailed:
    return ProofFailed(
        f"the factorized model is wrong from {layer!r} on: a difference of {found:.3g} where values reach {scale:.3g} "
        f"in tensor {name!r}",
        why="it does not equal the network whose weights are the products of the factors, so nothing is written",
        fix="leave the layer out with --exclude, and report the model: this is a fault in intaglio",
    )
