"""Layers of signs are found in any spelling, and what is packed computes the same numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings

from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.binarize.trained.lower import lower
from intaglio.passes.binarize.trained.proof import prove
from intaglio.passes.binarize.trained.recognize import recognize

from ..binary_graphs import Net, nets


def outputs(model: Model, x: np.ndarray) -> list[np.ndarray]:
    return list(run(open_session(model, optimize=False), {"x": x}).values())


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(nets())
def test_a_packed_network_gives_the_same_numbers(net: Net) -> None:
    found = recognize(net.model)
    assert sum(layer.bits is not None for layer in found.layers.values()) == net.layers, found
    for form in ("packed", "dense"):
        lowered = lower(found, form)
        prove(found, lowered, [{"x": net.x}])
        for made, expected in zip(outputs(lowered.model, net.x), outputs(net.model, net.x), strict=True):
            np.testing.assert_array_equal(made, expected)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(nets(plain=False))
def test_any_floats_give_the_same_signs_and_sums_to_rounding(net: Net) -> None:
    found = recognize(net.model)
    assert sum(layer.bits is not None for layer in found.layers.values()) == net.layers, found
    proof = prove(found, lower(found), [{"x": net.x}])
    assert proof.signs > 0
