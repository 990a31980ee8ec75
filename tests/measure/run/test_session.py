"""Sessions run what they are given, whatever its size, and name the operator that fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import intaglio.measure.run.session as session_module
from intaglio.graph.errors import BadModel
from intaglio.graph.io.save import save
from intaglio.measure.run.session import open_session, run

from ..conftest import MakeModel

X = np.array([[-1.0, 2.0]], np.float32)


def test_any_tensor_can_be_asked_for(make_model: MakeModel) -> None:
    model = make_model("float[N,2] x", "float[N,2] y", "h = Neg(x) y = Relu(h)")
    got = run(open_session(model, outputs=["h", "y"], optimize=False), {"x": X})
    assert (got["h"].tolist(), got["y"].tolist()) == ([[1, -2]], [[1, 0]])
    assert list(run(open_session(model), {"x": X})) == ["y"]


def test_a_path_and_a_model_give_the_same(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("float[N,2] x", "float[N,2] y", "y = Relu(x)")
    save(model, tmp_path / "m.onnx")
    np.testing.assert_array_equal(
        run(open_session(tmp_path / "m.onnx"), {"x": X})["y"], run(open_session(model), {"x": X})["y"]
    )
    assert run(open_session(tmp_path / "m.onnx", outputs=["y", "x"]), {"x": X})["x"].tolist() == X.tolist()


def test_a_model_too_large_for_memory_goes_through_a_file(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_IN_MEMORY_BYTES", 0)
    weights = f"float[2,600] w = {{{', '.join(['0.25'] * 1200)}}}"
    model = make_model("float[N,2] x", "float[N,600] y", "y = MatMul(x, w)", weights)
    np.testing.assert_array_equal(run(open_session(model), {"x": X})["y"], np.full((1, 600), 0.25))


def test_an_unknown_operator_is_named(make_model: MakeModel) -> None:
    model = make_model("float[N,2] x", "float[N,2] y", "y = Relu(x)")
    model.graph.node[0].op_type = "Unheard"
    with pytest.raises(BadModel) as caught:
        open_session(model)
    assert "Unheard" in caught.value.why


def test_an_operator_that_fails_is_named_first(make_model: MakeModel) -> None:
    model = make_model("float[N,2] x", "float[1,5] y", "y = Reshape(x, s)", "int64[2] s = {1, 5}")
    model.graph.node[0].name = "reshape_me"
    with pytest.raises(BadModel) as caught:
        run(open_session(model), {"x": X})
    assert caught.value.why.startswith("Reshape 'reshape_me': ")
    assert "onnxruntime" not in caught.value.why


def test_inputs_of_the_wrong_type_are_an_error_not_a_crash(make_model: MakeModel) -> None:
    session = open_session(make_model("float[N,2] x", "float[N,2] y", "y = Relu(x)"))
    for wrong in ({"x": X.astype(np.int64)}, {"z": X}, {}):
        with pytest.raises(BadModel):
            run(session, wrong)


def test_nothing_is_written_to_the_terminal(make_model: MakeModel, capfd: pytest.CaptureFixture[str]) -> None:
    model = make_model("float[N,2] x", "float[1,5] y", "y = Reshape(x, s)", "int64[2] s = {1, 5}")
    with pytest.raises(BadModel):
        run(open_session(model), {"x": X})
    assert capfd.readouterr() == ("", "")
