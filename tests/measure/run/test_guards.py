"""What would end the process fails, or computes what it stands for."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest

from intaglio.graph.errors import BadModel
from intaglio.graph.io.load import load
from intaglio.measure.run.guards import guarded, may_end
from intaglio.measure.run.session import as_file, open_session, run
from tests.passes.parsed import parsed

AXES = tuple(itertools.product((0, 1, 2, -1, -2), (0, 1, 2, -1)))


def scanning(taken: int, given: int) -> onnx.ModelProto:
    """Sums along one axis, stacked along another; numbers are of what the body sees and of the whole."""
    body = "after = Add(before, part) out = Identity(after)"
    ends = "(float[P,Q] before, float[P,Q] part) => (float[P,Q] after, float[P,Q] out)"
    scan = f"<num_scan_inputs=1, scan_input_axes=[{taken}], scan_output_axes=[{given}], body = b {ends} {{ {body} }}>"
    text = f"g (float[M,N] s, float[A,B,C] x) => (float[D,E] last, float[F,G,H] y) {{ last, y = Scan {scan} (s, x) }}"
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def summed(s: np.ndarray, x: np.ndarray, taken: int, given: int) -> np.ndarray:
    return np.moveaxis(s + np.cumsum(np.moveaxis(x, taken, 0), axis=0), 0, given)


@pytest.mark.parametrize(("taken", "given"), AXES)
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 1), (0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_a_scan_along_any_axis_computes_what_it_says_also_of_nothing(
    tmp_path: Path, taken: int, given: int, shape: tuple[int, ...]
) -> None:
    onnx.save(scanning(taken, given), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    s = np.ones(np.moveaxis(x, taken, 0).shape[1:], np.float32)
    assert may_end(model) == bool(taken or given)
    for opened in (model, as_file(tmp_path / "m.onnx", model)):
        session = open_session(opened)
        if not x.shape[taken]:
            with pytest.raises(BadModel):
                run(session, {"s": s, "x": x})
            continue
        made = run(session, {"s": s, "x": x})
        np.testing.assert_allclose(made["y"], summed(s, x, taken, given), rtol=1e-5)
        assert made["y"].shape == summed(s, x, taken, given).shape


def test_a_model_is_left_alone() -> None:
    model = parsed("float[2, 3] x", "float[2, 3] y", "", "y = Relu (x)")
    assert guarded(model) is model
