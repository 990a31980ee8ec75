"""Sessions compute operators on bits natively where the library of kernels was built, and as well without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import intaglio
from intaglio.graph.errors import BadModel
from intaglio.graph.io.save import save
from intaglio.graph.model import Model
from intaglio.kernels import loader
from intaglio.kernels.loader import KernelsAbsent
from intaglio.kernels.operators import DOMAIN
from intaglio.measure.run.native import holds_bits, kernels
from intaglio.measure.run.session import open_session, run

from ...kernels.packed import two_layers
from ..conftest import MakeModel

X = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)
BUILT = pytest.mark.skipif(not loader.available(), reason=f"no library of kernels: {loader.why_absent()}")
ABSENT = "the kernels were not built: install a C compiler"


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
    monkeypatch.setattr(loader, "_load", lambda: ABSENT)
    assert DOMAIN not in operators(model, tmp_path, native=True)
    got = run(open_session(model), {"x": X})
    np.testing.assert_array_equal(got["z"], wanted["z"])
    np.testing.assert_allclose(got["y"], wanted["y"], rtol=1e-5, atol=1e-5)


def test_asking_for_a_library_that_is_absent_says_why_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    monkeypatch.setattr(loader, "_load", lambda: ABSENT)
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
    monkeypatch.setattr(loader, "_load", fail)
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
    for content in (b"", b"no model", bytes(range(256)), b"\xff" * 99):
        (tmp_path / "broken.onnx").write_bytes(content)
        assert not holds_bits(tmp_path / "broken.onnx")


def test_bits_are_found_in_the_format_of_onnx_runtime(tmp_path: Path) -> None:
    for native in (True, False) if loader.available() else (False,):
        saved = tmp_path / "model.ort"
        open_session(two_layers(), optimized=saved, native=native)
        assert saved.read_bytes()[4:8] == b"ORTM"
        assert holds_bits(saved) or not native
        fed = run(open_session(saved), {"x": X})
        np.testing.assert_array_equal(fed["z"], run(open_session(two_layers()), {"x": X})["z"])


def test_the_instruction_set_in_force_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if loader.available():
        assert kernels().isa == loader.isa()
        assert kernels().isa in kernels().present
        monkeypatch.setenv("INTAGLIO_KERNELS", "mmx")
        assert kernels().isa is None
        assert kernels().why.startswith("INTAGLIO_KERNELS: no instruction set has that name")
    monkeypatch.setattr(loader, "_load", lambda: ABSENT)
    assert (kernels().isa, kernels().present, kernels().why) == (None, (), ABSENT)
