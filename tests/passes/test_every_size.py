"""Original against result at many sizes: random networks with shape arithmetic, If, Loop and Scan, for every family.

The truth has the original's nodes, and the weights that the result multiplies by. Faults put in on purpose, with the passes'
own proofs off, made it fail: operands of Concat coupled in the wrong order, a Slice coupled one index off, numbers that
saturate taken for constants (with no reading where they turn), the bias of a factorized Gemm lost, scales along the wrong
axis of integer weights, a body put back in the other branch, and branches swapped in a factorized result and its reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from intaglio import Binarize, Factorize, PruneChannels, Quantize, Simplify
from intaglio.graph.errors import BadModel, NothingChanged, TargetUnreachable
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context, Pass
from intaglio.passes.bodies import run_with_bodies
from intaglio.passes.change import Change
from tests.graph.coupling.drawn import Drawn, profile
from tests.hostile_models import Dice

from .parsed import data_for
from .sized import WIDTH, network
from .unrounded import with_decoded, without_rounding

SIZES = [(1, 1), (1, 2), (2, 1), (2, 8), (3, 7), (1, 37), (37, 3), (2, 101), (5, 1009), (0, 4), (2, 0)]


def width_of(model: Model) -> int:
    return int(model.graph.input[0].type.tensor_type.shape.dim[2].dim_value)


def opened(model: Model, optimize: bool = True) -> Callable[[int, int], np.ndarray | None]:
    """The output at sizes (batch, length); None where the model does not run at these."""
    session, width = open_session(model, optimize=optimize), width_of(model)
    scans = any(node.op_type == "Scan" for node in model.graph.node)

    def outputs(b: int, t: int) -> np.ndarray | None:
        x = np.random.default_rng(b + t).standard_normal((b, t, width)).astype(np.float32)
        if not x.size and scans:
            return None  # ONNX Runtime divides by zero, which ends the process
        try:
            return np.asarray(run(session, {"x": x})["y"])
        except BadModel:
            return None

    return outputs


Pair = tuple[Model, Model]


def changed(one: Pass, model: Model, data: bool = False) -> Change:
    x = np.random.default_rng(0).standard_normal((16, 8, width_of(model))).astype(np.float32)
    return run_with_bodies(one, model, Context(data=data_for(model, x=x) if data else None))


def by_masking(model: Model) -> Pair:
    """The original's nodes with the weights of the masked one."""
    change = changed(PruneChannels(target="channels", keep=0.5), model)
    assert change.reference is not None
    return with_decoded(model, change.reference()), change.model


def by_factors(model: Model) -> Pair:
    """The original's nodes with the products of the factors."""
    result = changed(Factorize(target="params", keep=0.8, measure=False, align=1), model).model
    return with_decoded(model, result), result


def by_bits(model: Model) -> Pair:
    made = [
        changed(Binarize(scheme="planes", include_first_last=True, form=form), model).model
        for form in ("dense", "packed")
    ]
    return with_decoded(model, made[0]), made[1]


def near(one: Pass) -> Callable[[Model], Pair]:
    return lambda model: (model, changed(one, model).model)


def decoded(**options: Any) -> Callable[[Model], Pair]:
    """The original's nodes with the weights that the integers stand for."""

    def pair(model: Model) -> Pair:
        result = changed(Quantize(**options), model, data=True).model
        return with_decoded(model, result), result

    return pair


def in_integers(model: Model) -> Pair:
    """The same, and activations that are not rounded: how far those go depends on the data that were seen."""
    result = without_rounding(changed(Quantize(scheme="int8"), model, data=True).model)
    return with_decoded(model, result), result


@dataclass(frozen=True)
class Family:
    """How to get what a result must equal, and the result; how far it may lie off that, and off the original.

    Relative to the largest value. Smaller layers than of this ``width`` may be left as they are. ONNX Runtime's optimizer
    rounds what comes in where weights are integers; without ``optimize`` it does not.
    """

    make: Callable[[Model], Pair]
    off: float
    noise: float = np.inf
    width: int = WIDTH
    optimize: bool = True


FAMILIES = {
    "prune": Family(by_masking, 1e-4),
    "factorize": Family(by_factors, 1e-4),
    "simplify": Family(near(Simplify()), 1e-4),
    "w8": Family(decoded(scheme="w8"), 1e-4, noise=0.1),
    "w4": Family(decoded(scheme="w4"), 1e-4, noise=0.7),
    "mixed": Family(decoded(scheme="mixed", size=0.6), 1e-4),
    "int8": Family(in_integers, 1e-4, noise=0.1, optimize=False),
    "dynamic": Family(near(Quantize(scheme="dynamic")), 0.1, width=64),
    "fp16": Family(near(Quantize(scheme="fp16")), 0.02),
    "planes": Family(by_bits, 1e-3),
}


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max(initial=0.0) / np.abs(expected).max(initial=1e-3))


@pytest.mark.parametrize("family", FAMILIES)
@profile(6)
@given(st.data())
def test_results_are_right_at_every_size(family: str, data: st.DataObject) -> None:
    about = FAMILIES[family]
    model = from_proto(network(Drawn(data), about.width))
    original = opened(model)
    assume(original(2, 8) is not None)
    try:
        reference, result = about.make(model)
    except (NothingChanged, TargetUnreachable):
        return
    right, made = opened(reference), opened(result, about.optimize)
    for b, t in SIZES:
        given = original(b, t)
        if given is None:
            continue
        expected, found = right(b, t), made(b, t)
        assert expected is not None, f"what it must equal does not run at {b, t}"
        assert found is not None, f"does not run at {b, t}"
        assert found.shape == given.shape, f"at {b, t}"
        assert apart(found, expected) <= about.off, f"at {b, t}"
        assert apart(found, given) <= about.noise, f"at {b, t}"


class Each:
    """The same decision every time."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def integer(self, low: int, high: int) -> int:
        return min(high, max(low, self.kind))


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"simplify", "mixed"}))
def test_every_family_changes_branches(family: str) -> None:
    about = FAMILIES[family]
    model = from_proto(network(Each(2), about.width))
    before, after = (
        {n.output[0]: n.SerializeToString() for n in one.graph.node if n.op_type == "If"}
        for one in (model, about.make(model)[1])
    )
    assert before
    assert any(after.get(name) != node for name, node in before.items())


@pytest.mark.parametrize(("seed", "b", "t"), [(3, 1, 2), (3, 1, 37), (12, 5, 64), (9, 5, 64)])
def test_integers_are_right_on_inputs_like_their_data(seed: int, b: int, t: int) -> None:
    """The network of these sizes, of which some behave unlike any other: ranges do not hold for what was not seen."""
    model = from_proto(network(Dice(seed)), shapes={"x": [b, t, WIDTH]})
    x = np.random.default_rng(1).standard_normal((8 * b, t, WIDTH)).astype(np.float32)
    result = run_with_bodies(Quantize(scheme="int8"), model, Context(data=data_for(model, x=x))).model
    given, found = (run(open_session(one), {"x": x[:b]})["y"] for one in (model, result))
    assert apart(found, given) < 0.08


def test_networks_have_every_kind_of_body() -> None:
    kinds: set[str] = set()
    for kind in range(6):
        model = from_proto(network(Each(kind)))
        assert opened(model)(2, 8) is not None
        kinds |= {node.op_type for node in model.graph.node}
    assert kinds >= {"If", "Loop", "Scan", "Reshape", "MatMul"}
