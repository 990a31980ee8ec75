"""Inputs made from statistics that BatchNormalization kept, for passes that have no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from intaglio import Factorize, PruneChannels, Quantize, load, run
from intaglio.graph.errors import UsageError
from intaglio.passes.calibration.noise import noise_source

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions, each with a normalization whose statistics are far from those of noise."""
    random = np.random.default_rng(5)
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, 12, 12] x) => (float[N, 4] y) '
        "<float[16, 3, 3, 3] a, float[16, 16, 3, 3] b, float[16, 4] w, "
        "float[16] s, float[16] o, float[16] m1, float[16] v1, float[16] m2, float[16] v2> { "
        "c1 = Conv <pads = [1, 1, 1, 1]> (x, a) n1 = BatchNormalization (c1, s, o, m1, v1) r1 = Relu (n1) "
        "c2 = Conv <pads = [1, 1, 1, 1]> (r1, b) n2 = BatchNormalization (c2, s, o, m2, v2) r2 = Relu (n2) "
        "p = GlobalAveragePool (r2) f = Flatten (p) y = MatMul (f, w) }"
    )
    proto = onnx.parser.parse_model(text)
    shapes = {"a": (16, 3, 3, 3), "b": (16, 16, 3, 3), "w": (16, 4), **dict.fromkeys(("s", "o", "m1", "m2"), (16,))}
    weights = {name: random.normal(size=shape).astype(np.float32) * 0.3 for name, shape in shapes.items()}
    weights |= {"s": np.ones(16, np.float32), "v1": np.full(16, 4, np.float32), "v2": np.full(16, 3, np.float32)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in weights.items())
    path = tmp_path_factory.mktemp("normalized") / "m.onnx"
    onnx.save(proto, path)
    return path


def test_statistics_come_near() -> None:
    pytest.importorskip("torch", reason="torch is not installed: nothing is distilled")
    from intaglio.measure.autograd.distilled import distill_inputs

    model = load(EXAMPLES / "digits.onnx")
    (batch,) = noise_source(model, samples=16).batches(16)
    found, first, last = distill_inputs(model, batch.inputs)
    assert last < first / 50
    again, _, _ = distill_inputs(model, batch.inputs)
    assert np.array_equal(found["image"], again["image"])
    assert found["image"].shape == batch.inputs["image"].shape


@pytest.mark.parametrize("one", [PruneChannels, Factorize], ids=["prune", "factorize"])
def test_passes_run_on_distilled_inputs(one: type, normalized: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: nothing is distilled")
    done = run(normalized, one(keep=0.7, dialect="distilled"), out=tmp_path / "o.onnx", samples=32, measure=False)
    assert done.as_dict()["dialect"] == "distilled"


@pytest.mark.parametrize("dialect", ["noise", "distilled"])
def test_bits_are_divided_without_data(dialect: Any, normalized: Path, tmp_path: Path) -> None:
    """What makes calibration data up needs none from the user."""
    if dialect == "distilled":
        pytest.importorskip("torch", reason="torch is not installed: nothing is distilled")
    out = tmp_path / "o.onnx"
    run(normalized, Quantize(bits=4, scheme="mixed", dialect=dialect), out=out, samples=32, measure=False, force=True)
    assert load(out).weights.keys() != load(normalized).weights.keys()
    with pytest.raises(UsageError, match="calibration data"):
        run(normalized, Quantize(bits=4, scheme="mixed"), out=tmp_path / "n.onnx", measure=False, force=True)


def test_without_normalization_nothing_is_distilled(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: nothing is distilled")
    with pytest.raises(UsageError, match="no BatchNormalization"):
        run(EXAMPLES / "vit_digits.onnx", Quantize(scheme="w4", dialect="distilled"), samples=8, measure=False)
    with pytest.raises(UsageError, match="without data"):
        run(EXAMPLES / "digits.onnx", Quantize(dialect="noise"), data=str(EXAMPLES / "digits_calib.npz"), measure=False)


@pytest.mark.parametrize("measure", ["outputs", "divergence", "layer"])
def test_layers_that_lose_more_get_more_bits(measure: str) -> None:
    """By whatever is measured, losses fall with bits."""
    from intaglio.graph.layers import Layers
    from intaglio.passes.base import Context
    from intaglio.passes.calibration.activation_cache import Inputs, Store
    from intaglio.passes.precision.grid import Grid
    from intaglio.passes.precision.sensitivity import sensitivity
    from intaglio.passes.quantize.rounding.rounding import Spec

    model = load(EXAMPLES / "digits.onnx")
    nodes = [one.node for one in Layers(model) if one.weight][:3]
    rules = {node: [Spec(Grid(bits), ("nearest",), 0) for bits in (2, 4, 8)] for node in nodes}
    images = {"image": np.load(EXAMPLES / "digits_test.npz")["image"][:32].astype(np.float32)}
    with Store.of(Context()) as store:
        found = sensitivity(model, Inputs([images], store), rules, measure=measure)
    assert all((np.diff(losses) < 0).all() and losses[-1] >= 0 for losses in found.values())
