"""Methods that are there in a thin form: hashed attention, trees of filters, rescaling at initialization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("torch", reason="torch is not installed: nothing is trained")

import torch

from intaglio import load
from intaglio.graph.errors import NothingChanged
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.measure.bit_order import spanning_tree
from intaglio.measure.data.source import open_data
from intaglio.measure.run.session import open_session
from intaglio.measure.run.session import run as run_session
from intaglio.passes.train.engine.student import Student
from intaglio.passes.train.methods.bits.hashed import HashedOptions, fit
from intaglio.passes.train.methods.method import METHODS
from intaglio.passes.train.weights import weights_to_train

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS, VIT, TEST = (EXAMPLES / name for name in ("digits.onnx", "vit_digits.onnx", "digits_test.npz"))


def started(spec: str, model: Model) -> tuple[object, Student]:
    method = METHODS[spec]()
    prepared = method.prepared(model, open_data(str(TEST), model))
    return method, Student(prepared, weights_to_train(prepared), statistics=False, method=method)


def test_codes_hold_pairs_that_attend_for_alike() -> None:
    """Also of tokens that they were not fitted to: far more so than signs of random projections of the same number."""
    draw = np.random.default_rng(0)
    basis = draw.normal(size=(3, 12))
    tokens = (draw.normal(size=(60, 20, 3)) @ basis + 0.3 * draw.normal(size=(60, 20, 12))).astype(np.float32)
    hashed = fit(tokens[:40], tokens[:40], HashedOptions())
    unit = tokens[40:] / np.linalg.norm(tokens[40:], axis=-1, keepdims=True)
    near = np.exp((unit @ hashed.anchors - 1) * hashed.narrow) - hashed.usual

    def apart(codes: np.ndarray) -> float:
        """How much more alike codes of the most similar pairs are than those of the least, in parts of all bits."""
        alike, found = unit @ unit.swapaxes(1, 2), codes @ codes.swapaxes(1, 2) / codes.shape[-1]
        order = alike.argsort(-1)
        most, least = (np.take_along_axis(found, at, -1).mean() for at in (order[..., -6:], order[..., :6]))
        return float(most - least)

    random = np.sign(unit @ draw.normal(size=(12, 16)))
    assert apart(np.where(near @ hashed.matrix < 0, -1, 1)) > max(0.8, apart(random))


def test_attention_by_codes_is_what_the_formula_says() -> None:
    model = load(VIT)
    _, student = started("ecoformer:bits=8", model)
    images = np.load(TEST)["image"][:8]
    with torch.no_grad():
        wanted = student({"image": images})["logits"].numpy()
    written = student.written(student.state())
    assert "Softmax" not in {node.op_type for node in written.graph.node}
    divisions = [n for n in written.graph.node if n.op_type == "Div" and n.output[0] in
                 {m.output[0] for m in model.graph.node if m.op_type == "MatMul"}]  # fmt: skip
    makers = {out: node for node in written.graph.node for out in node.output}

    def back(name: str, *path: int) -> str:
        for k in path:
            name = makers[name].input[k]
        return name

    for node in divisions:
        queries = back(node.input[0], 0, 0)
        shares = back(node.input[0], 0, 1)
        turned, values = back(shares, 0, 0), back(shares, 0, 1)
        names = [queries, turned, values, node.output[0]]
        q, k, v, y = run_session(open_session(written, outputs=names), {"image": images}, names).values()
        assert set(np.unique(q)) <= {-1.0, 1.0}
        weights = q @ k + 9
        np.testing.assert_allclose(y, weights @ v / weights.sum(-1, keepdims=True), rtol=1e-4, atol=1e-5)
    assert len(divisions) >= 2
    (found,) = run_session(open_session(written), {"image": images}).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    with pytest.raises(NothingChanged, match="no attention"):
        started("ecoformer", load(DIGITS))


def test_filters_beside_each_other_on_the_tree_come_nearer() -> None:
    method, student = started("mst:every=1", load(DIGITS))
    names = method.in_trees(student)  # type: ignore[attr-defined]
    with torch.no_grad():
        for name in names:
            student.moving[name].copy_(torch.where(student.moving[name] < 0, -10.0, 10.0))

    def cost() -> float:
        rows = [method.rows(student, name).detach().numpy() for name in names]  # type: ignore[attr-defined]
        trees = [(spanning_tree(np.where(x < 0, -1, 1).astype(np.float32)), x) for x in rows]
        return float(np.mean([tree.cost / ((len(x) - 1) * x.shape[1]) for tree, x in trees]))

    method.before_step(student, 1, 10)  # type: ignore[attr-defined]
    assert method.distance(student).item() == pytest.approx(cost(), abs=1e-5)  # type: ignore[attr-defined]
    with torch.no_grad():
        for name in names:
            student.moving[name].mul_(0.01)
    before = cost()
    for step in range(1, 11):
        method.before_step(student, step, 10)  # type: ignore[attr-defined]
        for tensor, moved in zip([student.moving[n] for n in names], torch.autograd.grad(method.distance(student), [student.moving[n] for n in names]), strict=True):  # type: ignore[attr-defined] # fmt: skip
            tensor.data -= 0.02 * moved.sign()
    assert cost() < 0.8 * before


def deep(width: int, layers: int) -> Model:
    weights = ", ".join(f"float[{width}, {width}] w{k}" for k in range(layers))
    nodes = " ".join(f"m{k} = MatMul (h{k}, w{k}) h{k + 1} = Relu (m{k})" for k in range(layers))
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, {width}] x) => (float[N, {width}] y) <{weights}> '
        f"{{ h0 = Identity (x) {nodes} y = Identity (h{layers}) }}"
    )
    draw, proto = np.random.default_rng(0), onnx.parser.parse_model(text)
    for k in range(layers):
        value = draw.normal(size=(width, width)) * np.sqrt(2 / width)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), f"w{k}"))
    return from_proto(proto)


@pytest.mark.parametrize("told", [True, False])
def test_signals_keep_their_size_in_a_network_pruned_before_training(told: bool, tmp_path: Path) -> None:
    model = deep(64, 8)
    (tmp_path / "init.onnx").write_bytes(to_bytes(model))
    pruned, x = model.copy(), np.random.default_rng(1).normal(size=(256, 64)).astype(np.float32)
    for name, value in model.weights.items():
        limit = np.quantile(abs(value), 0.8)
        pruned.put(name, np.where(abs(value) > limit, value, 0).astype(np.float32))
    method = METHODS["rescaled:init=" + str(tmp_path / "init.onnx") if told else "rescaled"]()
    student = Student(pruned, weights_to_train(pruned), statistics=False, method=method)
    size = {
        what: float(np.square(run_session(open_session(one), {"x": x})["y"]).mean())
        for what, one in (("before", model), ("pruned", pruned), ("rescaled", student.written(student.state())))
    }
    assert size["pruned"] < 0.2 * size["before"]
    assert 0.5 * size["before"] < size["rescaled"] < 2 * size["before"]
    for name, value in pruned.weights.items():
        found = student.moving[name].detach().numpy()
        assert np.array_equal(found != 0, value != 0)
        wanted = float(np.square(model.weights[name]).sum()) if told else 2.0 * 64
        assert float(np.square(found).sum()) == pytest.approx(wanted, rel=1e-4)
