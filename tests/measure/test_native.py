"""Sessions compute operators on bits natively where the library of kernels was built, and as well without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import intaglio
from intaglio.graph.errors import BadModel
from intaglio.graph.load import from_proto
from intaglio.graph.model import Model
from intaglio.graph.save import save
from intaglio.kernels import library
from intaglio.kernels.library import KernelsAbsent
from intaglio.kernels.operators import DOMAIN, attach
from intaglio.kernels.packing import pack
from intaglio.measure.session import holds_bits, open_session, run

from .conftest import MakeModel

X = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)
BUILT = pytest.mark.skipif(not library.available(), reason=f"no library of kernels: {library.why_absent()}")
ABSENT = "the kernels were not built: install a C compiler"


def two_layers() -> Model:
    """Weights of one bit: once on real activations, once on signs."""
    rng = np.random.default_rng(1)
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "{DOMAIN}" : 1]> net (float[N,40] x) => (float[N,9] y, float[N,7] z)
        <uint8[1,9,5] W, float[1,9,1] scale, float[1] zero, uint8[1,7,5] V, float[7] one>
        {{
            y = {DOMAIN}.MatMul1Bit <channels = 40, block = 40> (x, W, scale)
            b = {DOMAIN}.BitPack <perm = [0, 1]> (x, zero)
            z = {DOMAIN}.BGemm <channels = 40> (b, V, one, one)
        }}"""
    )
    held = {
        "W": pack(rng.standard_normal((1, 9, 40))),
        "scale": np.ones((1, 9, 1), np.float32),
        "zero": np.zeros(1, np.float32),
        "V": pack(rng.standard_normal((1, 7, 40))),
        "one": np.ones(7, np.float32),
    }
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in held.items())
    attach(proto)
    return from_proto(proto)


def operators(model: Model | Path, folder: Path, *, native: bool) -> set[str]:
    """Domains of the nodes that ONNX Runtime makes of a model."""
    made = folder / f"made-{native}.onnx"
    open_session(model, optimized=made, native=native)
    return {node.domain for node in onnx.load(made).graph.node}


@BUILT
def test_models_and_files_run_natively_unless_told_otherwise(tmp_path: Path) -> None:
    model, file = two_layers(), tmp_path / "model.onnx"
    save(model, file)
    for source in (model, file):
        assert DOMAIN in operators(source, tmp_path, native=True)
        assert DOMAIN not in operators(source, tmp_path, native=False)
        fast, plain = (run(open_session(source, native=native), {"x": X}) for native in (True, False))
        np.testing.assert_array_equal(fast["z"], plain["z"])
        np.testing.assert_allclose(fast["y"], plain["y"], rtol=1e-5, atol=1e-5)


@BUILT
def test_what_the_library_refuses_is_told_with_its_node() -> None:
    model = two_layers()
    next(a for a in model.graph.node[0].attribute if a.name == "block").i = -1
    model.graph.node[0].name = "first"
    with pytest.raises(BadModel) as refused:
        open_session(model)
    assert refused.value.why == "MatMul1Bit 'first': attribute block holds -1, outside 1 to 2147483647"


def test_without_the_library_models_run_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = two_layers()
    wanted = run(open_session(model), {"x": X})
    monkeypatch.setattr(library, "_load", lambda: ABSENT)
    assert DOMAIN not in operators(model, tmp_path, native=True)
    got = run(open_session(model), {"x": X})
    np.testing.assert_array_equal(got["z"], wanted["z"])
    np.testing.assert_allclose(got["y"], wanted["y"], rtol=1e-5, atol=1e-5)


def test_asking_for_a_library_that_is_absent_says_why_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    monkeypatch.setattr(library, "_load", lambda: ABSENT)
    with pytest.raises(KernelsAbsent, match="not built: install a C compiler"):
        intaglio.ops_library()
    with pytest.raises(KernelsAbsent, match="not built: install a C compiler"):
        intaglio.register(ort.SessionOptions())


def test_models_without_bits_do_not_touch_the_library(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> str:
        raise AssertionError("the library was looked for")

    model, file = make_model("float[N,2] x", "float[N,2] y", "y = Relu(x)"), tmp_path / "model.onnx"
    save(model, file)
    monkeypatch.setattr(library, "_load", fail)
    for source in (model, file, str(file)):
        assert not holds_bits(source)
        run(open_session(source), {"x": X[:, :2]})


def test_bits_are_found_wherever_a_model_comes_from(tmp_path: Path) -> None:
    model, file = two_layers(), tmp_path / "model.onnx"
    save(model, file)
    assert holds_bits(model)
    assert holds_bits(file)
    assert holds_bits(str(file))
    assert not holds_bits(tmp_path / "absent.onnx")
    (tmp_path / "empty.onnx").touch()
    assert not holds_bits(tmp_path / "empty.onnx")
