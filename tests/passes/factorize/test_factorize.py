"""The pass: what it reaches, what it says of layers that stay whole, and that it is proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio import load
from intaglio.graph.cost import cost
from intaglio.graph.errors import NothingChanged, ProofFailed, TargetUnreachable, UsageError
from intaglio.graph.io.save import file_bytes, to_bytes
from intaglio.graph.model import Model
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Change, Context
from intaglio.passes.calibration.noise import noise_source
from intaglio.passes.factorize import Factorize, Site
from intaglio.passes.factorize.candidates import Option
from intaglio.passes.factorize.losses import _hopeless
from intaglio.passes.factorize.proof import prove
from intaglio.passes.factorize.ready import ready
from intaglio.passes.factorize.sites import find
from intaglio.passes.simplify import fold_batch_norm
from tests.passes.parsed import data_for, parsed

from .layers import gap

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS = EXAMPLES / "digits.onnx"


def digits(samples: int = 80) -> tuple[Model, DataSource]:
    model = load(DIGITS)
    return model, open_data(str(EXAMPLES / "digits_calib.npz"), model, samples=samples)


def factorize(model: Model, data: DataSource | None = None, **options: Any) -> Change:
    chosen = Factorize.model_validate({"measure": False, "align": 4, **options})
    return chosen.run(model, Context(data=data))


def reference(done: Change) -> Model:
    assert done.reference is not None
    return done.reference()


def transformer(width: int = 32, words: int = 60) -> Model:
    """Two layers of attention and a feed-forward network, as exporters write them."""
    nodes, weights = ["x0 = Gather(table, ids)"], [f"float[{words},{width}] table", "int64[4] heads", "int64[3] flat"]
    for k in range(2):
        for name in ("q", "k", "v"):
            nodes += [
                f"{name}{k} = MatMul(x{k}, w{name}{k})",
                f"{name}{k}b = Add({name}{k}, b{name}{k})",
                f"{name}{k}s = Reshape({name}{k}b, heads)",
            ]
            weights += [f"float[{width},{width}] w{name}{k}", f"float[{width}] b{name}{k}"]
        nodes += [
            f"q{k}t = Transpose<perm=[0,2,1,3]>(q{k}s)",
            f"k{k}t = Transpose<perm=[0,2,3,1]>(k{k}s)",
            f"v{k}t = Transpose<perm=[0,2,1,3]>(v{k}s)",
            f"s{k} = MatMul(q{k}t, k{k}t)",
            f"p{k} = Softmax<axis=-1>(s{k})",
            f"c{k} = MatMul(p{k}, v{k}t)",
            f"c{k}t = Transpose<perm=[0,2,1,3]>(c{k})",
            f"c{k}f = Reshape(c{k}t, flat)",
            f"o{k} = MatMul(c{k}f, wo{k})",
            f"r{k} = Add(x{k}, o{k})",
            f"u{k} = MatMul(r{k}, wu{k})",
            f"u{k}b = Add(u{k}, bu{k})",
            f"g{k} = Relu(u{k}b)",
            f"d{k} = MatMul(g{k}, wd{k})",
            f"x{k + 1} = Add(r{k}, d{k})",
        ]
        weights += [f"float[{width},{width}] wo{k}", f"float[{width},{4 * width}] wu{k}", f"float[{4 * width}] bu{k}"]
        weights.append(f"float[{4 * width},{width}] wd{k}")
    values = {"heads": np.array([0, 0, 4, width // 4]), "flat": np.array([0, 0, width])}
    body = "\n".join(nodes).replace("x2 = Add", "y = Add")
    return parsed("int64[N, 12] ids", f"float[N, 12, {width}] y", ", ".join(weights), body, **values)


def sentences(count: int = 64, words: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, words, (count, 12))


@pytest.mark.parametrize("target", ["macs", "params", "size"])
def test_a_target_is_met_with_data_and_the_accuracy_stays(target: str) -> None:
    model, data = digits()
    done = factorize(model, data, target=target, keep=0.5)
    left = {"macs": cost(done.model).macs / cost(model).macs, "params": cost(done.model).params / cost(model).params}
    left["size"] = file_bytes(done.model) / file_bytes(model)
    assert 0.4 < left[target] <= 0.5
    test = open_data(str(EXAMPLES / "digits_test.npz"), model)
    assert evaluate_model(done.model, test).values["top1"] > 0.975
    assert done.proof is not None
    assert done.proof.max_rel_diff < 1e-4


def test_data_keep_more_than_weights_alone() -> None:
    model, data = digits()
    test = open_data(str(EXAMPLES / "digits_test.npz"), model)
    aware, blind = (factorize(model, d, keep=0.4) for d in (data, None))
    found = [evaluate_model(done.model, test).values["top1"] for done in (aware, blind)]
    assert found[0] > found[1] + 0.01


def test_every_layer_is_in_the_report_once_and_whole_ones_say_why() -> None:
    model, data = digits(32)
    done = factorize(model, data, keep=0.6, exclude=("Gemm",))
    names = [layer["name"] for layer in done.layers]
    layers = [n.name for n in model.graph.node if n.op_type in ("Conv", "Gemm")]
    assert sorted(names) == sorted(layers)
    assert all(bool(layer["scheme"]) != bool(layer["reason"]) for layer in done.layers)
    why = {layer["name"]: layer["reason"] for layer in done.layers}
    assert "--exclude" in why["/head/Gemm"]
    assert "no rank pays" in why["/depthwise/depthwise.0/Conv"]


def test_the_same_input_and_options_give_the_same_bytes() -> None:
    model, data = digits(48)
    first, second = (to_bytes(factorize(model, data, keep=0.5).model) for _ in range(2))
    assert first == second


def test_the_original_stays_as_it_was() -> None:
    model, data = digits(48)
    before = to_bytes(model)
    factorize(model, data, keep=0.5)
    assert to_bytes(model) == before


def test_a_target_below_what_is_reachable_names_the_lowest() -> None:
    model, _ = digits()
    with pytest.raises(TargetUnreachable, match=r"lowest reachable is 0\.\d+") as caught:
        factorize(model, None, keep=0.02)
    lowest = float(str(caught.value).split("lowest reachable is ")[1].split()[0])
    assert factorize(model, None, keep=lowest + 0.01).after.macs / cost(model).macs == pytest.approx(lowest, abs=0.02)


def test_where_nothing_pays_nothing_is_changed_and_every_reason_told() -> None:
    model = parsed("float[N, 4] x", "float[N, 4] y", "float[4, 4] w", "y = MatMul(x, w)")
    with pytest.raises(NothingChanged, match="no rank pays"):
        factorize(model, None, target="energy", keep=0.9)


def test_a_named_rank_is_used_and_nothing_else_is_split() -> None:
    model, data = digits(48)
    done = factorize(model, data, target="rank", ranks=(("/wide/wide.0/Conv", 5),), schemes=("spatial",))
    split = [layer for layer in done.layers if layer["scheme"]]
    assert [(layer["name"], layer["scheme"], layer["rank"]) for layer in split] == [
        ("/wide/wide.0/Conv", "spatial", (5,))
    ]


def test_layers_with_named_ranks_are_split_each_in_the_way_that_is_named_for_it() -> None:
    ways = {"/wide/wide.0/Conv": "channel", "/second/second.2/second.2.0/Conv": "spatial"}
    asked: dict[str, Any] = {
        "ranks": tuple((name, 8) for name in ways),
        "scheme_of": [f"{name}={way}" for name, way in ways.items()],
    }
    done = factorize(*digits(48), target="rank", **asked)
    assert {layer["name"]: layer["scheme"] for layer in done.layers if layer["scheme"]} == ways
    with pytest.raises(UsageError, match="spatal"):
        factorize(*digits(48), target="rank", **{**asked, "scheme_of": ["/wide/wide.0/Conv=spatal"]})


@pytest.mark.parametrize(("name", "rank"), [("nothing", 4), ("/wide/wide.0/Conv", 100000), ("/wide/wide.0/Conv", 0)])
def test_a_rank_that_cannot_be_is_an_error(name: str, rank: int) -> None:
    with pytest.raises(UsageError):
        factorize(load(DIGITS), None, target="rank", ranks=((name, rank),))


def test_energy_keeps_at_least_so_much_of_every_layer() -> None:
    model, _ = digits()
    kept = [factorize(model, None, target="energy", keep=e).after.macs for e in (0.8, 0.95)]
    assert kept[0] < kept[1] < cost(model).macs


def test_evbmf_finds_the_rank_of_a_noisy_layer() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 6)) @ rng.standard_normal((6, 64)) + 0.05 * rng.standard_normal((64, 64))
    model = parsed("float[N, 64] x", "float[N, 64] y", "float[64, 64] w", "y = MatMul(x, w)", w=w.astype(np.float32))
    done = factorize(model, None, target="evbmf", align=1)
    assert [layer["rank"] for layer in done.layers] == [(6,)]


def test_the_smallest_model_whose_accuracy_stays_is_looked_for() -> None:
    model, data = digits()
    test = open_data(str(EXAMPLES / "digits_test.npz"), model, samples=300)
    chosen = Factorize(target="drop", keep=1.0, measure=False, align=4)
    done = chosen.run(model, Context(data=data, eval_data=test))
    before, after = (evaluate_model(m, test).values["top1"] for m in (model, done.model))
    assert after >= before - 0.01 - 1e-9
    assert done.after.macs < 0.5 * done.before.macs
    with pytest.raises(UsageError, match="labelled"):
        chosen.run(model, Context(data=data))


@pytest.mark.parametrize("with_data", [True, False])
def test_a_transformer_is_split_by_parameters(with_data: bool) -> None:
    model = transformer()
    data = data_for(model, ids=sentences()) if with_data else None
    done = factorize(model, data, target="params", keep=0.6)
    assert done.after.params <= 0.6 * done.before.params
    assert done.proof is not None
    assert done.proof.max_rel_diff < 1e-4
    for batch in (1, 3):
        feed = {"ids": sentences(batch)}
        a, b = (run(open_session(m), feed)["y"] for m in (reference(done), done.model))
        assert gap(a, b) < 1e-4


def test_a_table_is_judged_by_its_size_and_costs_no_less_arithmetic() -> None:
    model = transformer()
    done = factorize(model, None, target="rank", ranks=(("table", 8),))
    (layer,) = [layer for layer in done.layers if layer["scheme"]]
    assert (layer["op"], layer["scheme"]) == ("Gather", "embedding")
    assert done.after.params < done.before.params
    assert done.after.macs > done.before.macs


def test_layers_keep_the_bias_they_had_and_get_none_that_they_do_not_need() -> None:
    model = parsed(
        "float[N, 3, 8, 8] x",
        "float[N, 16, 8, 8] y",
        "float[16, 3, 3, 3] w, float[16, 16, 3, 3] v",
        "h = Conv<pads=[1,1,1,1]>(x, w)\nr = Relu(h)\ny = Conv<pads=[1,1,1,1]>(r, v)",
    )
    data = data_for(model, x=np.random.default_rng(0).standard_normal((32, 3, 8, 8)).astype(np.float32))
    done = factorize(model, data, target="rank", ranks=(("v", 4),), schemes=("spatial",), mirror=False)
    operands = {n.name or n.output[0]: len(n.input) for n in done.model.graph.node if n.op_type == "Conv"}
    assert list(operands.values()) == [2, 2, 3]


def test_a_shared_bias_takes_the_means_of_each_layer_apart() -> None:
    model = parsed(
        "float[N, 8, 6, 6] x",
        "float[N, 8, 6, 6] y",
        "float[8, 8, 3, 3] w, float[8, 8, 3, 3] v, float[8] b",
        "h = Conv<pads=[1,1,1,1]>(x, w, b)\nr = Relu(h)\ny = Conv<pads=[1,1,1,1]>(r, v, b)",
    )
    equal, _, _ = ready(model, biases=True)
    assert len({n.input[2] for n in equal.graph.node if n.op_type == "Conv"}) == 2


def test_a_wrong_result_is_found_and_its_layer_named() -> None:
    model, data = digits(48)
    done = factorize(model, data, target="rank", ranks=(("/wide/wide.0/Conv", 5),))
    wrong = done.model.copy()
    (name,) = [n.input[1] for n in wrong.graph.node if n.name == "/wide/wide.0/Conv/1"]
    wrong.weights[name] = wrong.weights[name] * np.float32(1.01)
    units = [u for u in find(ready(model, biases=True)[0])[0] if u.name == "/wide/wide.0/Conv"]
    assert isinstance(units[0].site, Site)

    class Made:
        unit = units[0]

    with pytest.raises(ProofFailed, match="wide"):
        prove(reference(done), wrong, [Made()], [], 0)  # type: ignore[list-item]


def test_what_is_reported_is_plain_data() -> None:
    model, data = digits(48)
    told = factorize(model, data, keep=0.6).as_dict()
    assert {"before", "after", "kept", "layers", "verified", "samples", "fitted"} <= told.keys()


def test_activations_in_files_give_the_same_model(tmp_path: Path) -> None:
    model, data = digits(512)
    whole = to_bytes(factorize(model, data, keep=0.5).model)
    chosen = Factorize(keep=0.5, measure=False, align=4)
    assert to_bytes(chosen.run(model, Context(data=data, folder=tmp_path, memory=5_300_000)).model) == whole
    assert list(tmp_path.iterdir()) == []


def test_where_one_weight_is_read_twice_both_nodes_read_its_factors() -> None:
    model = parsed(
        "float[N, 16] x",
        "float[N, 16] y",
        "float[16, 16] w, float[16] b, float[16] c",
        "h = Gemm(x, w, b)\nr = Relu(h)\ny = Gemm(r, w, c)",
    )
    data = data_for(model, x=np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32))
    done = factorize(model, data, target="macs", keep=0.6)
    assert [n.op_type for n in done.model.graph.node] == ["Gemm", "Gemm", "Relu", "Gemm", "Gemm"]
    assert done.after.params == pytest.approx(0.5 * 256 + 32, abs=64)


def test_half_precision_is_split_in_half_precision() -> None:
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((32, 4)) @ rng.standard_normal((4, 32)) / 8).astype(np.float16)
    model = parsed("float16[N, 32] x", "float16[N, 32] y", "float16[32, 32] w", "y = MatMul(x, w)", w=w)
    done = factorize(model, None, target="macs", keep=0.5)
    assert {weight.dtype for weight in done.model.weights.values()} == {np.dtype(np.float16)}


def test_a_fixed_batch_is_kept() -> None:
    model = parsed("float[4, 32] x", "float[4, 32] y", "float[32, 32] w", "y = MatMul(x, w)")
    done = factorize(model, None, target="macs", keep=0.5)
    feed = {"x": np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)}
    a, b = (run(open_session(m), feed)["y"] for m in (reference(done), done.model))
    assert gap(a, b) < 1e-5


def test_noise_keeps_more_than_weights_alone_and_needs_normalization() -> None:
    model = load(DIGITS)
    test = open_data(str(EXAMPLES / "digits_test.npz"), model)
    done = factorize(model, noise_source(model, samples=128), dialect="noise", keep=0.4)
    found = [evaluate_model(m, test).values["top1"] for m in (done.model, factorize(model, None, keep=0.4).model)]
    assert found[0] > found[1] + 0.01
    assert done.details["dialect"] == "noise"
    folded, _ = fold_batch_norm(model)
    with pytest.raises(UsageError, match="noise cannot stand in"):
        factorize(folded, noise_source(folded, samples=16), dialect="noise", keep=0.4)


def test_a_scheme_that_loses_more_is_left_out_only_where_the_other_is_as_cheap() -> None:
    def tried(scheme: str, macs: tuple[int, ...], losses: tuple[float, ...]) -> Any:
        return [(Option(scheme, m, m, m, 1.0), np.zeros(1), loss) for m, loss in zip(macs, losses, strict=True)]

    good = tried("spatial", (100, 200), (0.1, 0.01))
    assert _hopeless("channel", {"spatial": good, "channel": tried("channel", (120, 180), (0.9, 0.8))})
    assert not _hopeless("channel", {"spatial": good, "channel": tried("channel", (50, 180), (0.9, 0.8))})
    assert not _hopeless("channel", {"spatial": good, "channel": tried("channel", (120, 180), (0.11, 0.02))})
    assert not _hopeless("spatial", {"spatial": good})


@pytest.mark.parametrize("kept", [0, 1])
def test_a_mean_over_the_samples_is_no_sample(kept: int) -> None:
    model = parsed(
        "float[N, 16] x",
        "float[N, 20] y",
        "float[16, 32] w, float[32, 24] w2, float[24, 20] w3, float[24, 20] w5",
        f"a = MatMul(x, w) r = Relu(a) h = MatMul(r, w2) s = ReduceMean <axes = [0], keepdims = {kept}> (h) "
        "t = MatMul(s, w5) u = MatMul(h, w3) y = Add(u, t)",
    )
    x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    options = {"keep": 0.7, "align": 1, "min_gain": 1.01, "measure": False}
    done = Factorize(**options).run(model, Context(data=data_for(model, x=x)))  # type: ignore[arg-type]
    assert done.proof is not None
    assert any(layer["scheme"] for layer in done.layers)


def test_new_times_are_told_and_remembered_ones_are_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path))
    model = parsed("float[N, 16] x", "float[N, 16] y", "float[16, 16] w", "y = MatMul(x, w)")
    first, second = (factorize(model, keep=0.5, measure=True, min_speedup=0.01) for _ in range(2))
    assert any("timed here" in note for note in first.notes)
    assert not any("timed here" in note for note in second.notes)
