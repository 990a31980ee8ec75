"""The transformers that other tests quantize are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.measure.run.session import open_session, run
from tests.passes.parsed import run_plainly
from tests.passes.quantize.transformers import OUTLIERS, encoder, tokens


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_all_forms_of_the_encoder_compute_the_same_for_any_batch(opset: int) -> None:
    x = tokens(3)
    expected = run(open_session(encoder(17)), {"x": x})["y"]
    session = open_session(encoder(opset))
    found = np.concatenate([run(session, {"x": part})["y"] for part in (x[:1], x[1:])])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.1


def test_outlier_channels_stick_out() -> None:
    model = encoder(17)
    norms = [n.output[0] for n in model.graph.node if n.op_type == "LayerNormalization"]
    for value in run_plainly(model, {"x": tokens(4)}, norms).values():
        peak = np.abs(value).reshape(-1, value.shape[-1]).max(0)
        assert peak[list(OUTLIERS)].min() > 4 * np.median(peak)
