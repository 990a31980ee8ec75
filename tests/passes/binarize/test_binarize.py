"""The pass on small networks: which layers, which errors, what data and limits do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import onnx
import pytest

from intaglio.graph.errors import BadModel, NothingChanged, TargetUnreachable, UsageError
from intaglio.graph.io.save import file_bytes, to_bytes
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.binarize import Binarize
from intaglio.passes.binarize.algorithms.binarizer import BINARIZERS
from intaglio.passes.binarize.eligible import choose_layers
from intaglio.passes.prune import PruneChannels
from intaglio.passes.quantize import Quantize
from tests.passes.parsed import data_for, parsed


def network(batch: str = "N", **values: np.ndarray) -> Model:
    """Five layers one after the other, of which three may become bits."""
    return parsed(
        f"float[{batch},3,8,8] x",
        f"float[{batch},5] y",
        "float[32,3,3,3] w1, float[32] b1, float[32,32,3,3] w2, float[32] b2, float[32,16,3,3] w3, float[32] b3, "
        "float[64,32,1,1] w4, float[64] b4, float[5,64] w5, float[5] b5",
        "a = Conv <pads=[1,1,1,1]> (x, w1, b1) r = Relu(a) b = Conv <pads=[1,1,1,1]> (r, w2, b2) s = Relu(b) "
        "c = Conv <pads=[1,1,1,1], group=2> (s, w3, b3) t = Relu(c) d = Conv(t, w4, b4) u = Relu(d) p = GlobalAveragePool(u) "
        "f = Flatten(p) y = Gemm <transB=1> (f, w5, b5)",
        **values,
    )


def samples(count: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


def context(model: Model, count: int = 256) -> Context:
    return Context(data=data_for(model, x=samples(count)))


def off(model: Model, other: Model) -> float:
    """Squared error of the outputs on fresh inputs, relative to their variance."""
    x = {"x": samples(64, seed=9)}
    exact, near = (run(open_session(m), x)["y"] for m in (model, other))
    return float(np.square(exact - near).sum() / np.square(exact - exact.mean(axis=0)).sum())


def test_middle_layers_become_bits_and_the_others_say_why_not() -> None:
    done = Binarize(scheme="planes").run(network(), Context())
    assert [one["name"] for one in done.layers] == ["b", "c", "d"]
    assert done.details["skipped"] == {
        "a": "the first layer, which sees the input",
        "y": "the last layer, which makes the output",
    }
    assert done.details["bits"] is not None
    assert 2 < done.details["bits"] < 2.7
    assert done.after.size < 0.35 * done.before.size


def test_the_input_stays_as_it_was_and_results_repeat() -> None:
    model = network()
    before = to_bytes(model)
    files = {to_bytes(Binarize(scheme="pb").run(model, context(model, 64)).model) for _ in range(2)}
    assert len(files) == 1
    assert to_bytes(model) == before


@pytest.mark.parametrize("name", list(BINARIZERS))
def test_data_make_outputs_better(name: str) -> None:
    model = network()
    blind = Binarize(scheme=name).run(model, Context())
    seen = Binarize(scheme=name).run(model, context(model))
    assert off(model, seen.model) < 0.8 * off(model, blind.model)
    assert all(one["output_error"] is not None for one in seen.layers)
    assert seen.details["bits"] == pytest.approx(blind.details["bits"], abs=0.15)


def test_what_is_told_of_a_layer_is_what_became_of_it() -> None:
    model = network()
    done = Binarize(scheme="planes", form="dense").run(model, Context())
    for one, name in zip(done.layers, ("w2", "w3", "w4"), strict=True):
        old, new = (np.asarray(m.weights[name], float) for m in (model, done.model))
        assert one["weight_error"] == pytest.approx(np.square(old - new).sum() / np.square(old).sum(), rel=1e-5)
        assert one["expected_error"] == pytest.approx(one["weight_error"], rel=0.35)
        assert one["weights"] == old.size


@pytest.mark.parametrize("form", ["packed", "standard"])
def test_every_form_is_the_same_network(form: str) -> None:
    model = network()
    dense = Binarize(scheme="billm", form="dense", block=32).run(model).model
    other = Binarize(scheme="billm", form=form, block=32).run(model).model  # type: ignore[arg-type]
    x = {"x": samples(8)}
    np.testing.assert_allclose(run(open_session(other), x)["y"], run(open_session(dense), x)["y"], atol=1e-5)
    assert file_bytes(other) < 0.55 * file_bytes(dense)


def test_a_limit_of_bytes_takes_the_layers_that_lose_least() -> None:
    model = network()
    whole = Binarize(scheme="planes").run(model, context(model))
    half = Binarize(scheme="planes", size=0.6).run(model, context(model))
    assert half.after.size <= 0.6 * half.before.size
    assert 0 < len(half.layers) < len(whole.layers)
    assert off(model, half.model) < off(model, whole.model)
    assert "stays in float: --size is reached without it" in half.details["skipped"].values()


def test_limits_that_cannot_be_met_or_need_nothing() -> None:
    model = network()
    with pytest.raises(TargetUnreachable, match=r"lowest reachable is 0\.\d+"):
        Binarize(scheme="planes", size=0.01).run(model, context(model))
    with pytest.raises(NothingChanged) as caught:
        Binarize(scheme="planes", size=1.0).run(model, context(model))
    assert "--size is reached without it" in caught.value.why
    with pytest.raises(UsageError, match="takes inputs to measure"):
        Binarize(scheme="planes", size=0.5).run(model)


def test_layers_are_spared_until_accuracy_stays() -> None:
    """Accuracy here is the part of the outputs' variance that is kept."""
    model = network()

    def evaluate(candidate: Model) -> float:
        return max(0.0, 1 - off(model, candidate))

    all_bits = evaluate(Binarize(scheme="planes").run(model, context(model)).model)
    limit = 100 * (1 - all_bits) / 2
    work = Binarize(scheme="planes", max_drop=limit)
    done = work.run(model, replace(context(model), evaluate=evaluate))
    assert evaluate(done.model) >= 1 - limit / 100
    assert done.details["higher_precision"]
    assert set(done.details["higher_precision"]) < {"b", "c", "d"}
    with pytest.raises(NothingChanged, match="only with nothing binarized"):
        Binarize(scheme="planes", max_drop=0.0).run(model, Context(evaluate=evaluate))
    with pytest.raises(UsageError, match="labelled data"):
        work.run(model)


def test_patterns_choose_layers() -> None:
    model = network()
    assert [one["name"] for one in Binarize(scheme="xnor", include=("w3",)).run(model, Context()).layers] == ["c"]
    some = Binarize(scheme="xnor", exclude=("re:^[cd]$",)).run(model, Context())
    assert [one["name"] for one in some.layers] == ["b"]
    assert some.details["skipped"]["c"] == "left out by --include or --exclude"
    with pytest.raises(UsageError, match="matches no"):
        Binarize(scheme="xnor", include=("nobody",)).run(model)
    every = Binarize(scheme="xnor", include_first_last=True).run(model, Context())
    assert every.details["skipped"] == {
        "a": "tiny: fewer than 1024 weights",
        "y": "tiny: fewer than 1024 weights",
    }


def test_models_without_layers_that_fit_change_nothing() -> None:
    model = parsed("float[N,8] x", "float[N,8] y", "float[8,8] w", "a = MatMul(x, w) y = Relu(a)")
    with pytest.raises(NothingChanged, match="nothing was binarized") as caught:
        Binarize(scheme="planes").run(model)
    assert "the last layer" in caught.value.why or "the first layer" in caught.value.why
    bare = parsed("float[N,8] x", "float[N,8] y", "float[8] w", "y = Mul(x, w)")
    with pytest.raises(NothingChanged):
        Binarize(scheme="planes").run(bare)


def test_weights_that_are_no_numbers_are_an_error() -> None:
    weight = np.random.default_rng(0).normal(size=(32, 32, 3, 3)).astype(np.float32)
    weight[0, 0, 0, 0] = np.nan
    model = network(w2=weight)
    with pytest.raises(BadModel, match="NaN or infinite") as caught:
        Binarize(scheme="planes").run(model)
    assert "w2" in caught.value.why


def test_dead_filters_and_dead_inputs_do_no_harm() -> None:
    weight = np.random.default_rng(0).normal(size=(32, 32, 3, 3)).astype(np.float32) / 17
    weight[::2] = 0
    model = network(w2=weight, w1=np.zeros((32, 3, 3, 3), np.float32))
    for name in ("planes", "onebit", "pb", "billm"):
        made = Binarize(scheme=name).run(model, context(model, 64)).model
        assert np.isfinite(run(open_session(made), {"x": samples(4)})["y"]).all(), name


def test_one_sample_at_a_time() -> None:
    model = network("1")
    done = Binarize(scheme="planes").run(model, context(model, 128))
    assert len(done.layers) == 3
    assert off_one(model, done.model) < 0.8 * off_one(model, Binarize(scheme="planes").run(model).model)


def off_one(model: Model, other: Model) -> float:
    x = samples(16, seed=9)
    pairs = [[run(open_session(m), {"x": one[None]})["y"] for one in x] for m in (model, other)]
    exact, near = (np.concatenate(p) for p in pairs)
    return float(np.square(exact - near).sum() / np.square(exact - exact.mean(axis=0)).sum())


def test_depthwise_transposed_recurrent_and_integer_layers() -> None:
    rng = np.random.default_rng(0)
    model = parsed(
        "float[N,32,8,8] x",
        "float[N,32,9,9] y",
        "float[32,32,3,3] w1, float[32,1,3,3] w2, float[32,32,2,2] w3, int8[32,32,1,1] q, float s, float[32,32,1,1] w5",
        "a = Conv <pads=[1,1,1,1]> (x, w1) b = Conv <group=32, pads=[1,1,1,1]> (a, w2) c = ConvTranspose(b, w3) "
        "w4 = DequantizeLinear(q, s) d = Conv(c, w4) y = Conv(d, w5)",
        q=rng.integers(-127, 127, (32, 32, 1, 1)).astype(np.int8),
        s=np.array(0.001, np.float32),
    )
    done = Binarize(scheme="planes").run(model, Context())
    assert [one["name"] for one in done.layers] == ["c"]
    skipped = done.details["skipped"]
    assert skipped["b"].startswith("depthwise")
    assert "quantized or binarized before" in skipped["d"]


def test_weights_that_two_layers_share_are_the_same_bits() -> None:
    model = parsed(
        "float[N,40] x",
        "float[N,40] y",
        "float[40,40] v, float[40,40] w, float[40,40] u",
        "a = MatMul(x, v) r = Relu(a) b = MatMul(r, w) s = Relu(b) c = MatMul(s, w) y = MatMul(c, u)",
    )
    x = np.random.default_rng(0).normal(size=(128, 40)).astype(np.float32)
    done = Binarize(scheme="planes").run(model, Context(data=data_for(model, x=x)))
    assert [one["name"] for one in done.layers] == ["b", "c"]
    assert sum(name.startswith("w/planes") for name in done.model.weights) == 1


def test_what_is_binarized_is_not_changed_again() -> None:
    model = network()
    made = Binarize(scheme="planes").run(model).model
    with pytest.raises(NothingChanged) as caught:
        Binarize(scheme="planes", include_first_last=True).run(made)
    assert "quantized or binarized before" in caught.value.why
    ints = Quantize(scheme="w8").run(made, Context())
    assert not {"b", "c", "d"} & set(ints.details["nodes"])
    for other in (ints.model, PruneChannels(keep=0.9, target="params").run(made).model):
        assert run(open_session(other), {"x": samples(2)})["y"].shape == (2, 5)


def test_schemes_that_ruin_models_want_to_be_forced() -> None:
    model = network()
    with pytest.raises(BadModel, match="not trained for activations of one bit") as caught:
        Binarize(scheme="w1a1").run(model)
    assert "--force" in caught.value.fix
    with pytest.raises(UsageError, match="leave out --block"):
        Binarize(scheme="onebit", block=16).run(model)


def signs_in(model: Model) -> Mapping[str, np.ndarray]:
    return {n: w for n, w in model.weights.items() if w.size > 1000 and set(np.unique(w)) == {-1.0, 1.0}}


@pytest.mark.parametrize("with_data", [False, True])
def test_a_forced_network_of_signs_is_in_canonical_form(with_data: bool) -> None:
    model = network()
    done = Binarize(scheme="w1a1", force=True, form="dense").run(model, context(model) if with_data else Context())
    assert len(signs_in(done.model)) == 3
    ops = [node.op_type for node in done.model.graph.node]
    assert ops.count("Where") == ops.count("GreaterOrEqual") == 3
    if with_data:  # centred, so that rectified inputs do not all have one sign
        assert ops.count("Sub") == 3
    assert {one["activations"] for one in done.layers} == {"sign"}


def test_scales_and_offsets_of_signs_are_the_best_line() -> None:
    model = network()
    made = Binarize(scheme="w1a1", force=True, form="dense", include=("b",)).run(model, context(model)).model
    x = {"x": samples()}
    exact = run(open_session(model, outputs=["b"]), x)["b"]
    near = run(open_session(made, outputs=["b"]), x)["b"]
    gap = (exact - near).transpose(1, 0, 2, 3).reshape(32, -1)
    np.testing.assert_allclose(gap.mean(axis=1), 0, atol=1e-4)
    found = near.transpose(1, 0, 2, 3).reshape(32, -1)
    along = ((found - found.mean(axis=1, keepdims=True)) * gap).mean(axis=1) / found.var(axis=1)
    np.testing.assert_allclose(along, 0, atol=1e-3)


def test_first_and_last_are_told_by_the_graph_not_by_order() -> None:
    """Two branches from the input: both begin with a first layer."""
    model = parsed(
        "float[N,64] x, float[N,64] z",
        "float[N,64] y",
        "float[64,64] a, float[64,64] b, float[64,64] c, float[64,64] d",
        "p = MatMul(x, a) q = MatMul(z, b) s = Add(p, q) r = Relu(s) t = MatMul(r, c) y = MatMul(t, d)",
    )
    found = choose_layers(model, Binarize(), frozenset())
    assert list(found.layers) == ["t"]
    assert [found.skipped[n][:8] for n in ("p", "q", "y")] == ["the firs", "the firs", "the last"]
    assert isinstance(onnx.load_from_string(to_bytes(model)), onnx.ModelProto)


def wide(rows: str = "N") -> Model:
    """A product of 1,048,576 weights between two small ones."""
    rng = np.random.default_rng(5)
    return parsed(
        f"float[{rows},16] x",
        f"float[{rows},4] y",
        "float[16,1024] w1, float[1024,1024] w2, float[1024,4] w3",
        "a = MatMul(x, w1) r = Relu(a) b = MatMul(r, w2) s = Relu(b) y = MatMul(s, w3)",
        w1=(rng.normal(size=(16, 1024)) / 4).astype(np.float32),
        w2=(rng.normal(size=(1024, 1024)) / 32).astype(np.float32),
        w3=(rng.normal(size=(1024, 4)) / 32).astype(np.float32),
    )


@pytest.mark.parametrize(
    ("rows", "activations", "operator"),
    [("N", "float", "MatMul1Bit"), ("64", "float", "UnpackWeight"), ("64", "int8", "MatMul1BitInt8")],
)
def test_products_are_computed_in_bits_where_that_is_faster(
    rows: str, activations: Literal["float", "int8"], operator: str
) -> None:
    model = wide(rows)
    done = Binarize(scheme="planes", activations=activations).run(model, Context())
    assert [n.op_type for n in done.model.graph.node if n.domain == "intaglio"] == [operator]
    assert [one["activations"] for one in done.layers] == ["int8" if activations == "int8" else "float32"]
    x = {"x": np.random.default_rng(6).normal(size=(64, 16)).astype(np.float32)}
    dense = Binarize(scheme="planes", form="dense").run(model, Context()).model
    exact, native, defined = (
        run(open_session(m, native=ours), x)["y"]
        for m, ours in ((dense, False), (done.model, True), (done.model, False))
    )
    size = np.abs(exact).max()
    assert np.abs(native - defined).max() <= 1024 * 2.0**-24 * size  # sums of 1,024 floats in another order
    # each of 1,024 activations moves by half a step of 1/127 of the largest at most, and at random
    assert np.abs(native - exact).max() <= (0.02 if activations == "int8" else 1e-3) * size


def test_rounded_activations_need_weights_in_bits_and_large_products() -> None:
    with pytest.raises(UsageError, match="not with scheme w1a1"):
        Binarize(scheme="w1a1", activations="int8", force=True).run(network(), Context())
    with pytest.raises(UsageError, match="not with --form dense"):
        Binarize(scheme="planes", activations="int8", form="dense").run(network(), Context())
    done = Binarize(scheme="planes", activations="int8").run(network(), Context())
    assert any("no layer is a product with so many weights" in note for note in done.notes)
