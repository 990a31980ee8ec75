"""Two models side by side: whose input is whose, and how far their outputs lie apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...graph.errors import BadModel
from ...graph.model import Model
from ..data.source import Batch
from ..difference import Difference, add_outputs
from .running import run_batch
from .tensor_specs import TensorSpec, input_specs, output_specs


@dataclass(frozen=True)
class Pair:
    """Which input and output of B stands for which of A. ``types`` are those of B's inputs."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    types: Mapping[str, np.dtype]

    @property
    def notes(self) -> list[str]:
        """What is paired although the names differ."""
        renamed = [(a, b) for pairs in (self.inputs, self.outputs) for a, b in pairs.items() if a != b]
        return [f"{a!r} of A is paired with {b!r} of B, by their order" for a, b in renamed]

    def for_b(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A's inputs under B's names and in B's types: a model in half precision takes half-precision inputs."""
        return {b: inputs[a].astype(self.types[b], copy=False) for a, b in self.inputs.items()}


def pair_models(a: Model, b: Model) -> Pair:
    """Pair inputs and outputs. Raises BadModel where their numbers differ."""
    theirs = input_specs(b)
    inputs = pair_ports(input_specs(a), theirs, "input")
    outputs = pair_ports(output_specs(a), output_specs(b), "output")
    return Pair(inputs, outputs, {p.name: p.dtype for p in theirs})


def pair_ports(a: Sequence[TensorSpec], b: Sequence[TensorSpec], kind: str) -> dict[str, str]:
    """Names in A to names in B: the same ones, or where these differ, in order.

    Raises:
        BadModel: the models do not have the same number of them.
    """
    if len(a) != len(b):
        raise BadModel(
            f"the models cannot be compared: A has {len(a)} {kind}s, B has {len(b)}",
            why=f"A: {_told(a)}; B: {_told(b)}",
        )
    theirs = {p.name for p in b}
    if all(p.name in theirs for p in a):
        return {p.name: p.name for p in a}
    return {p.name: q.name for p, q in zip(a, b, strict=True)}


def output_differences(
    sessions: Sequence[Any],
    pair: Pair,
    batches: Iterable[Batch],
    *,
    tick: Callable[[int], None] | None = None,
    seen: Callable[[Batch, dict[str, Any], dict[str, Any]], None] = lambda piece, a, b: None,
) -> tuple[dict[str, Difference], int]:
    """Run both on each batch of A's inputs: the differences of every output by A's names, and how many samples.

    ``seen`` is handed each batch with the outputs of both.

    Raises:
        BadModel: one of them fails; says which.
        BadData: outputs differ in shape.
    """
    found: dict[str, Difference] = {}
    samples = 0
    for piece in batches:
        a = _run(sessions[0], piece, list(pair.outputs), "A")
        b = _run(sessions[1], replace(piece, inputs=pair.for_b(piece.inputs)), list(pair.outputs.values()), "B")
        add_outputs(found, a, b)
        seen(piece, a, b)
        samples += piece.count
        if tick:
            tick(samples)
    return found, samples


def _run(session: Any, piece: Batch, outputs: Sequence[str], which: str) -> dict[str, Any]:
    try:
        return run_batch(session, piece, outputs)
    except BadModel as error:
        raise BadModel(f"{which}: {error.what}", why=error.why, fix=error.fix) from error


def _told(ports: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{p.name} {p.describe()}" for p in ports)
