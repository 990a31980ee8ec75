"""A result of fewer bits is run at every kind of size that the original takes."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.graph.errors import ProofFailed
from intaglio.graph.model import Model
from intaglio.passes.precision.attempt import check
from tests.passes.parsed import parsed


def reshaped(target: list[int]) -> Model:
    text = "c = MatMul(x, w) y = Reshape(c, s)"
    declared = f"float[6, 4] w, int64[{len(target)}] s"
    return parsed("float[B, T, 6] x", "float[m, n] y", declared, text, s=np.array(target))


def test_a_shape_that_holds_at_one_size_alone_is_refuted() -> None:
    check(reshaped([-1, 4]), reshaped([-1, 4]), None, "quantized")
    with pytest.raises(ProofFailed, match=r"does not run as the original does on x \(\d+, \d+, 6\)"):
        check(reshaped([-1, 4]), reshaped([16, 4]), None, "quantized")  # batches of 2, lengths of 8


def test_a_dimension_in_the_wrong_place_is_refuted() -> None:
    with pytest.raises(ProofFailed, match="shape"):
        check(reshaped([0, -1]), reshaped([2, -1]), None, "quantized")
