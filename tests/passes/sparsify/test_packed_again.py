"""Passes take weights whose zeros are stored as bits: they work on the numbers, keep the zeros, and store them small again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.graph.errors import UsageError
from intaglio.graph.io.load import load
from intaglio.graph.io.save import file_bytes
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.bodies import run_with_bodies
from intaglio.passes.derived import seen_through
from intaglio.passes.masks import masks
from intaglio.passes.prune import PruneChannels
from intaglio.passes.quantize import Quantize
from intaglio.passes.sparsify import Sparsify

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.onnx"
PASSES: dict[str, Any] = {
    "quantize": Quantize(scheme="w8", verify=False),
    "prune": PruneChannels(target="macs", keep=0.6, criterion="l2", verify=False),
}


def sparse(form: str) -> Model:
    return Sparsify.model_validate({"density": 0.2, "form": form, "verify": False}).run(load(DIGITS), Context()).model


@pytest.mark.parametrize("name", sorted(PASSES))
def test_the_result_is_that_of_the_dense_form_and_stored_small(name: str) -> None:
    dense, packed = (run_with_bodies(PASSES[name], sparse(form), Context()).model for form in ("dense", "packed"))
    x = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    (feed,) = [v.name for v in dense.graph.input]
    wanted, found = (next(iter(run(open_session(one), {feed: x}).values())) for one in (dense, packed))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert file_bytes(packed) < 0.75 * file_bytes(dense)
    assert masks(packed) == masks(dense) != {}


def test_zeros_stay_zeros_in_integers() -> None:
    before = seen_through(sparse("packed"))
    made = run_with_bodies(PASSES["quantize"], sparse("packed"), Context()).model
    assert before is not None
    outputs = _weights(made, [n for n in before.made if n in masks(made)])
    for name, value in outputs.items():
        assert (value[before.made[name] == 0] == 0).all()
        assert (value != 0).any()


def _weights(model: Model, names: list[str]) -> dict[str, np.ndarray]:
    """What readers of these get, computed by the runtime."""
    shown = model.copy()
    there = {output for node in shown.graph.node for output in node.output}
    for name in names:
        if name in there:
            shown.graph.output.add(name=name).type.tensor_type.elem_type = 1
    x = np.zeros((1, 1, 8, 8), np.float32)
    found = run(open_session(shown), {shown.graph.input[0].name: x})
    return {name: found[name] for name in names if name in found}


def test_bytes_are_no_target_where_zeros_are_packed() -> None:
    with pytest.raises(UsageError, match="zeros are packed"):
        run_with_bodies(PruneChannels(target="size", keep=0.5), sparse("packed"), Context())


def test_a_dense_form_that_is_asked_for_stays_dense() -> None:
    made = run_with_bodies(Sparsify(density=0.1, form="dense", verify=False), sparse("packed"), Context()).model
    assert seen_through(made) is None
