"""Large models: what is worked on few rows at a time, kept in files and checked part by part is what it always was."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

import intaglio.graph.io.spill as spill
import intaglio.graph.layer as layer
import intaglio.passes.binarize.algorithms.fit as fit
import intaglio.passes.by_parts as by_parts
import intaglio.passes.prune.weights as prune_weights
from intaglio.graph.errors import ProofFailed
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import save, to_bytes
from intaglio.graph.io.spill import Weights, is_mapped, spilled
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.passes import Context
from intaglio.passes.base import Pass
from intaglio.passes.binarize import Binarize
from intaglio.passes.binarize.algorithms.binarizer import BINARIZERS, BitRule
from intaglio.passes.calibration.walk import solve_plainly
from intaglio.passes.factorize import Factorize
from intaglio.passes.precision.check import check_by_parts
from intaglio.passes.precision.grid import Grid
from intaglio.passes.precision.result import LayerNote, Result
from intaglio.passes.prune import PruneChannels
from intaglio.passes.quantize import Quantize
from intaglio.passes.quantize.rounding.rounding import BLIND, Spec

WIDTH, HIDDEN, VOCABULARY = 64, 96, 80


def network(seed: int = 0) -> Model:
    """A table, blocks with a residual sum, a Gemm and a head."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def weight(name: str, *shape: int) -> str:
        weights[name] = (rng.standard_t(4, shape) / np.sqrt(shape[0])).astype(np.float32)
        return name

    nodes, x = [make_node("Gather", [weight("table", VOCABULARY, WIDTH), "ids"], ["x0"], "x0")], "x0"
    for k in range(2):
        steps = [
            ("MatMul", [x, weight(f"up{k}", WIDTH, HIDDEN)]),
            ("Add", [f"a{k}", weight(f"upb{k}", HIDDEN)]),
            ("Relu", [f"b{k}"]),
            ("MatMul", [f"c{k}", weight(f"down{k}", HIDDEN, WIDTH)]),
            ("Add", [x, f"d{k}"]),
        ]
        nodes += [make_node(op, i, [f"{n}{k}"], f"{n}{k}") for (op, i), n in zip(steps, "abcde", strict=True)]
        x = f"e{k}"
    weights["flat"] = np.array([-1, WIDTH])
    nodes.append(make_node("Reshape", [x, "flat"], ["rows"], "rows"))
    nodes.append(make_node("Gemm", ["rows", weight("w", HIDDEN, WIDTH), weight("wb", HIDDEN)], ["g"], "g", transB=1))
    nodes.append(make_node("MatMul", ["g", weight("head", HIDDEN, VOCABULARY)], ["y"], "y"))
    ends = [make_tensor_value_info("ids", 7, ["n", 5])], [make_tensor_value_info("y", 1, ["m", VOCABULARY])]
    proto = make_model(make_graph(nodes, "g", *ends), opset_imports=[make_opsetid("", 17)], ir_version=8)
    return from_proto(proto_with(proto, weights))


def proto_with(proto: onnx.ModelProto, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    return proto


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes everything happen three rows at a time, in files, and part by part."""

    def begin() -> None:
        for module in (layer, prune_weights):
            monkeypatch.setattr(module, "AT_ONCE", 3 * HIDDEN)
        monkeypatch.setattr(spill, "LEAST", 1)
        monkeypatch.setattr(spill, "_FILE", 4096)
        monkeypatch.setattr(spill, "_PIECE", 256)
        monkeypatch.setattr(spill, "_AT_ONCE", 64)
        monkeypatch.setattr(by_parts, "PART", 1)

    return begin


PASSES: dict[str, Pass] = {
    **{f"quantize {s}": Quantize(scheme=s) for s in ("w8", "w4", "w3", "w2", "fp16", "bf16", "dynamic")},
    "quantize for all runtimes": Quantize(scheme="w4", target="generic", group_size=16),
    **{f"binarize {s}": Binarize(scheme=s, include_first_last=True) for s in BINARIZERS.builtin if s != "onebit"},
    "factorize": Factorize(target="params", keep=0.6, align=1, measure=False),
    "prune l1": PruneChannels(target="params", keep=0.6, criterion="l1"),
    "prune heads of both directions": PruneChannels(target="params", keep=0.5, axis="both"),
    "prune dfpc": PruneChannels(target="macs", keep=0.6, criterion="dfpc"),
}


@pytest.mark.parametrize("name", list(PASSES))
def test_a_pass_in_little_memory_gives_the_same_bytes(
    name: str, streaming: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "_AT_ONCE", 3 * HIDDEN)
    whole = PASSES[name].run(network())
    streaming()
    parts = PASSES[name].run(network(), Context(memory=1))
    assert whole.changed
    assert to_bytes(parts.model) == to_bytes(whole.model)
    assert any(is_mapped(value) for value in parts.model.weights.values())
    if "verified" in whole.as_dict():
        assert parts.proof.passed
        assert parts.proof.tensors == whole.proof.tensors


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block", [0, 16, 40])
def test_rows_are_rounded_alike_however_many_there_are_at_once(
    bits: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(bits)
    for one in Layers(model):
        weight = model.weights[one.weight]
        whole = solve_plainly(Spec(Grid(bits), BLIND, block), one, weight)
        with monkeypatch.context() as patch:
            patch.setattr(layer, "AT_ONCE", 2 * one.columns)
            parts = solve_plainly(Spec(Grid(bits), BLIND, block), one, weight)
        assert parts[0] == whole[0]
        np.testing.assert_array_equal(parts[1].integers, whole[1].integers)
        np.testing.assert_array_equal(parts[1].scale, whole[1].scale)
        assert parts[1].integers.dtype == np.int8


@pytest.mark.parametrize("name", BINARIZERS.builtin)
def test_rows_become_bits_alike_however_many_there_are_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, block = network(1), BINARIZERS[name].block and 32
    one = next(one for one in Layers(model) if one.weight == "head")
    monkeypatch.setattr(fit, "_AT_ONCE", 2 * one.columns)
    whole = solve_plainly(BitRule(name, block or 0), one, model.weights["head"])[1]
    monkeypatch.setattr(layer, "AT_ONCE", 2 * one.columns)
    parts = solve_plainly(BitRule(name, block or 0), one, model.weights["head"])[1]
    np.testing.assert_array_equal(parts.levels, whole.levels)
    np.testing.assert_allclose(parts.floats(), whole.floats(), rtol=1e-6)


def test_of_equal_weights_the_first_are_salient_in_parts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    weight = np.tile(np.array([1.0, -1.0, 0.5, 0.25], np.float32), (HIDDEN, VOCABULARY // 4))
    one = next(one for one in Layers(model) if one.weight == "head")
    whole = solve_plainly(BitRule("pb"), one, weight)[1]
    monkeypatch.setattr(layer, "AT_ONCE", 7 * one.columns)
    parts = solve_plainly(BitRule("pb"), one, weight)[1]
    assert whole.salient is not None
    assert parts.salient is not None
    np.testing.assert_array_equal(parts.salient.mask, whole.salient.mask)


def test_weights_that_are_put_into_a_model_lie_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "_FILE", 1 << 18)
    rng, weights = np.random.default_rng(0), Weights()
    given: list[np.ndarray] = [
        rng.standard_normal((100, 300)).astype(np.float32)[:, ::step] for step in (1, 1, 2, 1, 3, 1)
    ]
    given += [np.asfortranarray(rng.standard_normal((300, 400))), np.ones(3)]
    weights.update({str(k): value for k, value in enumerate(given)})
    for k, value in enumerate(given):
        np.testing.assert_array_equal(weights[str(k)], value)
        assert is_mapped(weights[str(k)]) == (value.nbytes >= spill.LEAST)
    assert not weights["0"].flags.writeable
    assert spilled(weights["0"]) is weights["0"]


def test_without_room_on_the_disk_weights_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(size: int) -> Any:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(spill, "_file_for", full)
    value = np.ones(1 << 16)
    assert spilled(value) is value


def wrong(model: Model) -> Iterator[tuple[str, Model]]:
    changed = model.copy()
    changed.weights["down1"] = -model.weights["down1"]
    yield "does not resemble", changed
    changed = model.copy()
    changed.weights["up1"] = np.full_like(model.weights["up1"], np.inf)
    yield "is not finite", changed
    changed = model.copy()
    next(n for n in changed.graph.node if n.output[0] == "d1").op_type = "NoSuchOperator"
    yield "does not run", changed


def test_a_check_part_by_part_finds_a_layer_that_is_wrong() -> None:
    model = network()
    notes = [LayerNote(one.name, one.node, one.x, "int4") for one in Layers(model)]
    check_by_parts(model, Result(model, reference=model, layers=notes), None, 1, "quantized")
    for why, changed in wrong(model):
        with pytest.raises(ProofFailed, match=why):
            check_by_parts(model, Result(changed, reference=model, layers=notes), None, 1, "quantized")


def peak_mb(*words: str) -> float:
    """Largest anonymous memory of a command, in megabytes."""
    child = Popen([sys.executable, "-m", "intaglio", *words], env={**os.environ, "OMP_NUM_THREADS": "1"})
    peak = 0
    while child.poll() is None:
        try:
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        except OSError:
            break
        peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
        time.sleep(0.005)
    assert child.wait() == 0
    return peak / 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="anonymous memory is told by Linux")
@pytest.mark.parametrize("words", [["quantize", "--scheme", "fp16"], ["prune", "--params", "0.7"]])
def test_memory_does_not_grow_with_the_model(words: list[str], tmp_path: Path) -> None:
    """Without files and parts it is 400 MB and more."""
    rng, width, count = np.random.default_rng(0), 2048, 12
    pool = rng.standard_normal((width, width), np.float32) / np.float32(np.sqrt(width))
    nodes = [make_node("MatMul", [f"x{k}", f"w{k}"], [f"x{k + 1}"], f"x{k + 1}") for k in range(count)]
    ends = [
        make_tensor_value_info("x0", 1, ["n", width]),
        make_tensor_value_info(f"x{count}", 1, ["n", width]),
    ]
    proto = make_model(make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[make_opsetid("", 17)], ir_version=8)
    model = Model(proto, {f"w{k}": pool for k in range(count)})
    save(model, tmp_path / "m.onnx", external_data=True)
    out = tmp_path / "o.onnx"
    assert (
        peak_mb(words[0], str(tmp_path / "m.onnx"), "-o", str(out), *words[1:], "--no-measure", "--memory", "64MB")
        < 330
    )
