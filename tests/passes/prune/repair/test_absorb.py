"""Absorbed means: exact where removed channels are constant, proved everywhere, and closer to the original on real images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from intaglio.graph.coupling import Removal, analyse, remove
from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.prune import REPAIRS, PruneChannels
from intaglio.passes.prune.proof import prove
from intaglio.passes.prune.repair.absorb import Edits
from intaglio.passes.prune.repair.repair import RepairImpossible, with_weights
from tests import zoo
from tests.passes.parsed import parsed

DATA_FREE = ["absorb", "renormalize", "udfc"]
IMAGE = "float[N, 3, 8, 8] x"
BN = "float[8] g, float[8] b, float[8] m, float[8] v"
HEAD = "a = Conv(x, w) n = BatchNormalization(a, g, b, m, v) r = Relu(n) "
END = " p = GlobalAveragePool(c) f = Flatten(p) y = Gemm(f, head)"
GONE = np.array([1, 4, 5])
NORMS = "float[6] g2, float[6] b2, float[6] m2, float[6] v2"
READERS: dict[str, tuple[str, str]] = {
    "bias": ("float[6, 8, 3, 3] k, float[6] o, float[6, 5] head", "c = Conv(r, k, o)" + END),
    "normalized": (
        f"float[6, 8, 3, 3] k, {NORMS}, float[6, 5] head",
        "d = Conv(r, k) c = BatchNormalization(d, g2, b2, m2, v2)" + END,
    ),
    "strided": (
        f"float[6, 8, 2, 2] k, {NORMS}, float[6, 5] head",
        "d = Conv <strides = [2, 2]> (r, k) c = BatchNormalization(d, g2, b2, m2, v2)" + END,
    ),
    "matrix": ("float[8, 5] k, float[5] o", "p = GlobalAveragePool(r) f = Flatten(p) y = Gemm(f, k, o)"),
    "scaled matrix": (
        "float[5, 8] k, float[1, 5] o",
        "p = GlobalAveragePool(r) f = Flatten(p) y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (f, k, o)",
    ),
    "matrix and sum": (
        "float[8, 5] k, float[5] o",
        "p = GlobalAveragePool(r) f = Flatten(p) u = MatMul(f, k) y = Add(o, u)",
    ),
    "pixels": ("float[288, 5] k, float[5] o", "f = Flatten(r) u = MatMul(f, k) y = Add(u, o)"),
    "sum of branches": (
        f"float[6, 8, 3, 3] k, float[6, 8, 3, 3] l, {NORMS}, float[6, 5] head",
        "d = Conv(r, k) e = Conv(r, l) s = Add(d, e) c = BatchNormalization(s, g2, b2, m2, v2)" + END,
    ),
    "concatenation": (
        "float[3, 8, 3, 3] k, float[3, 8, 3, 3] l, " + NORMS + ", float[6, 5] head",
        "d = Conv(r, k) e = Conv(r, l) s = Concat <axis = 1> (d, e) "
        "t = AveragePool <kernel_shape = [2, 2]> (s) c = BatchNormalization(t, g2, b2, m2, v2)" + END,
    ),
    "groups": (
        f"float[6, 4, 3, 3] k, {NORMS}, float[6, 5] head",
        "d = Conv <group = 2> (r, k) c = BatchNormalization(d, g2, b2, m2, v2)" + END,
    ),
    "two": (
        "float[6, 8, 3, 3] k, float[6, 8, 3, 3] l, float[6] o, float[6, 5] head",
        "d = Conv(r, k, o) e = Conv(r, l, o) s = Mul(d, e) c = Relu(s)" + END,
    ),
}
"""What reads the channels: constants and nodes."""


def constant_channels(reader: str) -> Model:
    """A network of which channels ``GONE`` are the same everywhere; in two groups as many go from each."""
    weights, nodes = READERS[reader]
    gone = np.array([1, 3, 5, 7]) if reader == "groups" else GONE
    rng = np.random.default_rng(2)
    values = {"g": rng.uniform(0.5, 2, 8), "b": rng.standard_normal(8) + 1, "m": rng.standard_normal(8)}
    values |= {"g2": rng.uniform(-2, 2, 6), "b2": rng.standard_normal(6), "m2": rng.standard_normal(6)}
    values |= {"v": rng.uniform(0.5, 2, 8), "v2": rng.uniform(0.5, 2, 6), "o": rng.standard_normal(6)}
    values["g"][gone] = 0
    typed = {name: v.astype(np.float32) for name, v in values.items() if f"] {name}," in f"{BN}, {weights},"}
    if "float[6] o" not in weights:
        typed.pop("o", None)
    return parsed(IMAGE, "float[N, 5] y", f"float[8, 3, 3, 3] w, {BN}, {weights}", HEAD + nodes, **typed)


def removal_of(model: Model, reader: str) -> Removal:
    """The constant channels of the first convolution."""
    coupling = analyse(model)
    gone = np.array([1, 3, 5, 7]) if reader == "groups" else GONE
    axis = coupling.axes("w")[0]
    assert isinstance(axis, np.ndarray)
    atoms, classes = coupling.solution.atoms, coupling.solution.classes[axis[gone]]
    removed = coupling.nothing()
    members = [set(atoms.indices[atoms.indptr[k] : atoms.indptr[k + 1]].tolist()) for k in classes]
    if reader == "groups":  # a channel of a group is the group and a place in it: only the place goes, from both
        members = [members[k] & members[k + 2] for k in (0, 1)]
    removed[sorted(set.union(*members))] = True
    return Removal(coupling, removed)


def outputs(model: Model, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((4, 3, 8, 8)).astype(np.float32)
    return np.asarray(run(open_session(model, optimize=False), {"x": x})["y"], dtype=np.float64)


@pytest.mark.parametrize("repair", DATA_FREE)
@pytest.mark.parametrize("reader", READERS)
def test_constant_channels_go_without_a_trace(reader: str, repair: str) -> None:
    model = constant_channels(reader)
    before = outputs(model)
    removal = removal_of(model, reader)
    found = REPAIRS[repair](removal, Context())
    assert found.details["absorbed"] == found.details["layers"] > 0
    assert found.notes == []
    repaired = with_weights(removal, found.weights)
    small = remove(repaired)
    assert small.weights["w"].shape[0] == (4 if reader == "groups" else 5)
    np.testing.assert_allclose(outputs(small), before, rtol=2e-4, atol=2e-4 * np.abs(before).max())
    assert np.abs(outputs(remove(removal)) - before).max() > 0.01 * np.abs(before).max()
    assert prove(repaired, small, [], 0).passed


def test_nothing_of_the_model_given_changes() -> None:
    model = constant_channels("normalized")
    before = {name: w.copy() for name, w in model.weights.items()}
    removal = removal_of(model, "normalized")
    with_weights(removal, REPAIRS["udfc"](removal, Context()).weights)
    for name, weight in before.items():
        np.testing.assert_array_equal(model.weights[name], weight)


def test_no_repair_changes_nothing() -> None:
    removal = removal_of(constant_channels("bias"), "bias")
    assert REPAIRS["none"](removal, Context()).weights == {}


BLOCKED = {
    "rectified before a bias": "d = Conv(r, k) c = Relu(d)" + END,
    "a graph output": "c = Conv(r, k) z = Identity(c)" + END,
}


@pytest.mark.parametrize("name", BLOCKED)
def test_where_no_bias_follows_it_is_said(name: str) -> None:
    out = "float[N, 5] y" + (", float[N, 6, 4, 4] z" if "z =" in BLOCKED[name] else "")
    model = parsed(
        IMAGE, out, f"float[8, 3, 3, 3] w, {BN}, float[6, 8, 3, 3] k, float[6, 5] head", HEAD + BLOCKED[name]
    )
    model.weights["v"] = np.abs(model.weights["v"]) + 1
    found = REPAIRS["absorb"](removal_of(model, name), Context())
    assert found.details == {"layers": 1, "absorbed": 0}
    assert found.weights == {}
    assert "no bias can take up what is lost in" in found.notes[0]


def test_a_constant_that_others_read_is_left_alone() -> None:
    """A table too large to be parted before the analysis, added by two layers, one of which loses nothing."""
    model = constant_channels("matrix and sum")
    edits = Edits(analyse(model))
    assert edits.owns("o")
    shared = parsed("float[N, 4] x", "float[N, 4] y", "float[4] o", "a = Add(x, o) y = Mul(a, o)")
    coupling = analyse(shared)
    coupling.prepared.model.graph.node[1].input[1] = coupling.prepared.model.graph.node[0].input[1]
    assert not Edits(coupling).owns(coupling.prepared.model.graph.node[0].input[1])


def test_folded_models_are_told_what_is_impossible_and_what_to_do(shared_data: Path) -> None:
    model = load(shared_data / "resnet20.onnx")
    for repair in DATA_FREE:
        with pytest.raises(RepairImpossible, match=f"{repair} is not possible") as error:
            PruneChannels(criterion="l2", repair=repair, keep=0.8).run(model, Context())
        assert "folded into other layers before import" in error.value.why
        assert "--criterion obspa --data" in error.value.fix


def test_partly_known_models_say_where_nothing_is_known() -> None:
    nodes = "a = Conv(x, w) r = Relu(a) d = Conv(r, k) n = BatchNormalization(d, g, b, m, v) c = Conv(n, l, o)" + END
    weights = f"float[6, 3, 3, 3] w, float[8, 6, 3, 3] k, {BN}, float[6, 8, 1, 1] l, float[6] o, float[6, 5] head"
    model = parsed(IMAGE, "float[N, 5] y", weights, nodes, v=np.ones(8, dtype=np.float32))
    pruned = PruneChannels(criterion="l2", target="channels", repair="absorb", keep=0.5).run(model, Context())
    assert any("nothing is known of the input of d" in note for note in pruned.notes)
    assert any("no bias can take up what is lost in y" in note for note in pruned.notes)
    assert pruned.details["repair"] == {"layers": 3, "absorbed": 1}


def logits(model: Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(run(open_session(model), {"input": x})["logits"], dtype=np.float64)


def images(folder: Path, count: int) -> np.ndarray:
    x = np.load(folder / "cifar10_test_first2000.npz")["x"][:count].transpose(0, 3, 1, 2).astype(np.float32) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((x - mean[:, None, None]) / deviation[:, None, None]).astype(np.float32)


@pytest.mark.parametrize(("keep", "gain"), [(0.9, 1.3), (0.75, 1.15)])
def test_each_repair_comes_nearer_to_the_original_on_real_images(shared_data: Path, keep: float, gain: float) -> None:
    model, x = load(shared_data / "resnet20-bn.onnx"), images(shared_data, 200)
    whole = logits(model, x)
    errors = {}
    for repair in ("none", *DATA_FREE):
        pruned = PruneChannels(criterion="l2", scope="group", repair=repair, keep=keep, verify=repair == "udfc")
        errors[repair] = float(np.square(logits(pruned.run(model, Context()).model, x) - whole).mean())
    assert errors["absorb"] < errors["none"] / gain
    assert errors["renormalize"] < errors["absorb"]
    assert errors["udfc"] < errors["renormalize"] / 1.1


NETWORKS = [
    "densenet",
    "efficientnet_v2",
    "mobilenet_v2",
    "preact_resnet",
    "resnext",
    "shufflenet_grouped",
    "unet",
    "bifpn",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_repaired_networks_prune_with_proof(zoo_folder: Path, name: str) -> None:
    model = load(zoo.build(name, zoo.entry(name).exporter, zoo_folder))
    for repair in DATA_FREE:
        options: Mapping[str, object] = {"criterion": "random", "target": "channels", "keep": 0.5, "repair": repair}
        pruned = PruneChannels.model_validate(options).run(model, Context())
        assert pruned.proof is not None
        assert pruned.proof.passed
        assert pruned.details["repair"]["absorbed"] > 0
