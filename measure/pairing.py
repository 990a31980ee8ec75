"""Two models side by side: whose input is whose, and how far their outputs lie apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..graph.errors import BadModel
from .difference import Difference, add_outputs
from .ports import Port
from .session import run


def pair_ports(a: Sequence[Port], b: Sequence[Port], kind: str) -> dict[str, str]:
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


def inputs_for_b(
    inputs: Mapping[str, np.ndarray], pairs: Mapping[str, str], b: Sequence[Port]
) -> dict[str, np.ndarray]:
    """A's inputs under B's names and in B's types (a model in half precision takes half-precision inputs)."""
    types = {p.name: p.dtype for p in b}
    return {pairs[name]: value.astype(types[pairs[name]], copy=False) for name, value in inputs.items()}


def output_differences(
    sessions: tuple[Any, Any],
    runs: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray], int | None]],
    pairs: Mapping[str, str],
) -> dict[str, Difference]:
    """Run both on each (A's inputs, B's inputs, real rows or None for all) and take in every output.

    Raises:
        BadModel: one of them fails; says which.
        BadData: outputs differ in shape.
    """
    found: dict[str, Difference] = {}
    for a_inputs, b_inputs, rows in runs:
        a = _run(sessions[0], a_inputs, list(pairs), "A")
        b = _run(sessions[1], b_inputs, list(pairs.values()), "B")
        add_outputs(found, _cut(a, rows), _cut(b, rows))
    return found


def _run(session: Any, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], which: str) -> dict[str, Any]:
    try:
        return run(session, inputs, outputs)
    except BadModel as error:
        raise BadModel(f"{which}: {error.what}", why=error.why, fix=error.fix) from error


def _cut(outputs: dict[str, Any], rows: int | None) -> dict[str, Any]:
    if rows is None:
        return outputs
    return {n: v[:rows] if isinstance(v, np.ndarray) and v.ndim else v for n, v in outputs.items()}


def _told(ports: Sequence[Port]) -> str:
    return ", ".join(f"{p.name} {p.describe()}" for p in ports)
