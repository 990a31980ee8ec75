"""A model with weights in bits counts the weights it had, whatever the bits stand in, and less memory for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from intaglio.graph.cost import cost
from intaglio.graph.io.load import load
from intaglio.passes.base import Context
from intaglio.passes.binarize import Binarize

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.onnx"
SCHEMES = ("billm", "dbllm", "onebit", "pb", "planes", "residual", "tbt", "twn", "xnor")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bits_count_as_the_floats_they_stand_for(scheme: str) -> None:
    original = load(DIGITS)
    forms: tuple[Literal["packed", "standard"], ...] = ("packed", "standard")
    options: dict[str, Any] = {"scheme": scheme, "force": True, "verify": False}
    floats = cost(Binarize(form="dense", **options).run(original, Context()).model)
    for form in forms:
        done = Binarize(form=form, **options).run(original, Context())
        found = cost(done.model)
        assert (found.params, found.macs, found.bops) == (floats.params, floats.macs, 0)
        assert found.bit_params == sum(one["weights"] for one in done.layers)
        assert found.weight_bytes < floats.weight_bytes


def test_the_report_tells_what_it_saves_in_theory() -> None:
    original = load(DIGITS)
    done = Binarize(verify=False).run(original, Context())
    before, after = cost(original), cost(done.model)
    figures = done.details["bibench"]
    assert figures["speedup"] == 1  # the activations are floats
    assert figures["storage"] == before.weight_bytes / after.weight_bytes
