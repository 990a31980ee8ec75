"""Why nothing is changed is told alike by every command, and is true."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import Binarize, Factorize, PruneChannels, Quantize
from intaglio.graph.errors import NothingChanged
from intaglio.graph.model import Model
from intaglio.passes import Context
from tests.passes.parsed import parsed

PASSES = {
    "w4": Quantize(scheme="w4"),
    "dynamic": Quantize(scheme="dynamic"),
    "binarize": Binarize(),
    "factorize": Factorize(target="params", keep=0.6),
    "prune": PruneChannels(target="params", keep=0.6),
}


def refused(name: str, model: Model) -> str:
    with pytest.raises(NothingChanged) as caught:
        PASSES[name].run(model, Context())
    return caught.value.why


@pytest.mark.parametrize("name", PASSES)
def test_layers_inside_branches_are_told(name: str) -> None:
    model = parsed(
        "bool c, float[N,64] x",
        "float[N,64] y",
        "float[64,64] w, float[64,64] v",
        "y = If (c) <then_branch = a () => (float[N,64] t) { t = MatMul(x, w) }, "
        "else_branch = b () => (float[N,64] e) { e = MatMul(x, v) }>",
    )
    assert "inside If 'y'" in refused(name, model)


@pytest.mark.parametrize("name", sorted(PASSES.keys() - {"prune"}))
def test_a_cast_before_the_weight_is_told(name: str) -> None:
    half = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float16)
    model = parsed("float[N,64] x", "float[N,64] y", "float16[64,64] w", "v = Cast <to=1> (w) y = MatMul(x, v)", w=half)
    assert "its weight is computed by Cast 'v' from constants" in refused(name, model)
