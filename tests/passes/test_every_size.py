"""Original against result at many sizes: random networks with shape arithmetic, If, Loop and Scan, for every family.

Faults put in on purpose, with the passes' own proofs off, made it fail: operands of Concat coupled in the wrong order, a
Slice coupled one index off, numbers that saturate taken for constants (with no reading where they turn), and the bias of a
factorized Gemm lost. So did scales along the wrong axis of integer weights, and a body put back in the other branch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from intaglio import Binarize, Factorize, PruneChannels, Quantize
from intaglio.graph.errors import BadModel, NothingChanged, TargetUnreachable
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context, Pass
from intaglio.passes.bodies import run_with_bodies
from tests.graph.coupling.drawn import Drawn, profile

from .sized import WIDTH, network

SIZES = [(1, 1), (1, 2), (2, 1), (2, 8), (3, 7), (1, 37), (37, 3), (2, 101), (5, 1009), (0, 4), (2, 0)]


def outputs(model: Model, b: int, t: int) -> np.ndarray | None:
    """None where the model does not run at these sizes."""
    x = np.random.default_rng(b + t).standard_normal((b, t, WIDTH)).astype(np.float32)
    if not x.size and any(node.op_type == "Scan" for node in model.graph.node):
        return None  # ONNX Runtime divides by zero, which ends the process
    try:
        return np.asarray(run(open_session(model), {"x": x})["y"])
    except BadModel:
        return None


def with_weights_of(original: Model, other: Model) -> Model:
    """The original with the floats that its weights became, where they have kept their names."""
    changed = original.copy()
    changed.weights.update({n: w for n, w in other.weights.items() if n in changed.weights})
    return changed


def by_masking(one: Pass) -> Callable[[Model], tuple[Model, Model]]:
    def pair(model: Model) -> tuple[Model, Model]:
        change = run_with_bodies(one, model, Context())
        assert change.reference is not None
        return change.reference(), change.model

    return pair


def by_bits(model: Model) -> tuple[Model, Model]:
    made = [
        Binarize(scheme="planes", include_first_last=True, form=form).run(model).model for form in ("dense", "packed")
    ]
    return with_weights_of(model, made[0]), made[1]


def near(scheme: str) -> Callable[[Model], tuple[Model, Model]]:
    def pair(model: Model) -> tuple[Model, Model]:
        return model, run_with_bodies(Quantize(scheme=scheme), model, Context()).model

    return pair


FAMILIES: dict[str, tuple[Callable[[Model], tuple[Model, Model]], float]] = {
    "prune": (by_masking(PruneChannels(target="channels", keep=0.5)), 1e-4),
    "factorize": (by_masking(Factorize(target="params", keep=0.4, measure=False, align=1)), 1e-4),
    "w8": (near("w8"), 0.05),
    "fp16": (near("fp16"), 0.02),
    "planes": (by_bits, 1e-3),
}
"""What a result must equal, the result, and how far it may lie off, relative to the largest value."""


@pytest.mark.parametrize("family", FAMILIES)
@profile(8)
@given(st.data())
def test_results_are_right_at_every_size(family: str, data: st.DataObject) -> None:
    model = from_proto(network(Drawn(data)))
    assume(outputs(model, 2, 8) is not None)
    make, tolerance = FAMILIES[family]
    try:
        reference, result = make(model)
    except (NothingChanged, TargetUnreachable):
        return
    for b, t in SIZES:
        wanted = outputs(model, b, t)
        if wanted is None:
            continue
        expected, found = outputs(reference, b, t), outputs(result, b, t)
        assert expected is not None, f"what it must equal does not run at {b, t}"
        assert found is not None, f"does not run at {b, t}"
        assert found.shape == wanted.shape, f"at {b, t}"
        gap = np.abs(found - expected).max(initial=0.0)
        assert gap <= tolerance * np.abs(expected).max(initial=1e-3), f"off by {gap} at {b, t}"


def test_networks_have_every_kind_of_body() -> None:
    class Each:
        def __init__(self, kind: int) -> None:
            self.kind = kind

        def integer(self, low: int, high: int) -> int:
            return min(high, max(low, self.kind))

    kinds: set[str] = set()
    for kind in range(6):
        model = from_proto(network(Each(kind)))
        assert outputs(model, 2, 8) is not None
        kinds |= {node.op_type for node in model.graph.node}
    assert kinds >= {"If", "Loop", "Scan", "Reshape", "MatMul"}
