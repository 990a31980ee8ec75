"""The pass as a whole: schemes, budgets, limits on accuracy, what is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from intaglio.graph.cost import cost
from intaglio.graph.errors import NothingChanged, TargetUnreachable, UsageError
from intaglio.graph.io.fit import Fit
from intaglio.graph.io.save import file_bytes, to_bytes
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.graph.nodes import attribute
from intaglio.passes import Context
from intaglio.passes.quantize import Quantize
from intaglio.passes.quantize.scheme import SCHEMES
from tests.passes.parsed import data_for, parsed, run_plainly
from tests.passes.quantize.networks import NETWORKS
from tests.passes.quantize.transformers import encoder, tokens

WEIGHTS = ("w8", "w4", "w3", "w2")


def wide() -> Model:
    """Layers of different sizes, whose weights are most of the file."""
    return parsed(
        "float[N, 4, 6, 6] x",
        "float[N, 10] y",
        "float[48, 4, 3, 3] w1, float[48] b1, float[64, 48, 3, 3] w2, float[64] b2, float[10, 64] w3, float[10] b3",
        "a = Conv(x, w1, b1) r = Relu(a) b = Conv(r, w2, b2) s = Relu(b) p = GlobalAveragePool(s) f = Flatten(p) "
        "y = Gemm <transB = 1> (f, w3, b3)",
    )


def wide_context(count: int = 96) -> Context:
    x = np.random.default_rng(0).standard_normal((count, 4, 6, 6)).astype(np.float32)
    return Context(data=data_for(wide(), x=x))


@pytest.mark.parametrize(
    ("scheme", "target", "opset"),
    [
        ("w8", "x86", 13),
        ("w4", "x86", 13),
        ("w3", "x86", 21),
        ("w2", "x86", 13),
        ("w4", "generic", 21),
        ("w2", "generic", 17),
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_alone_in_few_bits(name: str, scheme: str, target: str, opset: int) -> None:
    network = NETWORKS[name]
    model = network.model(opset)
    done = Quantize(scheme=scheme, target=target).run(model, network.context(model))
    least = {"w8": 35, "w4": 15, "w3": 9, "w2": 2}[scheme]
    assert done.details["sqnr_db"]["y"] > least, done.details["sqnr_db"]
    assert cost(done.model).macs == cost(model).macs


@pytest.mark.parametrize("scheme", WEIGHTS)
def test_files_shrink_as_bits_do(scheme: str) -> None:
    model = wide()
    done = Quantize(scheme=scheme).run(model, Context())
    bits = {"w8": 8, "w4": 4, "w3": 4, "w2": 2}[scheme]
    assert file_bytes(done.model) < file_bytes(model) * bits / 32 + 6000
    assert done.after.params == pytest.approx(done.before.params, rel=0.02)


@pytest.mark.parametrize("scheme", ["int8", "dynamic", "w8", "w4", "fp16", "bf16"])
@pytest.mark.parametrize("opset", [13, 17, 21])
def test_a_transformer_in_every_form(scheme: str, opset: int) -> None:
    model = encoder(opset, width=64)
    context = Context(data=data_for(model, x=tokens(64, width=64)))
    done = Quantize(scheme=scheme).run(model, context)
    least = {"int8": 18, "dynamic": 18, "w8": 27, "w4": 12, "fp16": 45, "bf16": 30}[scheme]
    assert done.details["sqnr_db"]["y"] > least
    if scheme in ("int8", "dynamic"):
        assert sum(done.details["runtime"]["integer"].values()) >= 10, done.details["runtime"]
    if scheme in ("w8", "w4"):
        assert "MatMulNBits" not in done.details["runtime"]["integer"]  # floats that lie in a near cache are faster


def test_smoothing_helps_where_channels_stick_out() -> None:
    model = encoder(17, width=64)
    context = Context(data=data_for(model, x=tokens(64, width=64)))
    rough, smooth = (Quantize(scheme="int8", smooth=a).run(model, context).details["sqnr_db"]["y"] for a in (None, 0.5))
    assert smooth > rough + 2


def test_an_average_of_bits_is_kept_and_used() -> None:
    model = wide()
    for bits in (2.5, 3.0, 5.0):
        done = Quantize(scheme="mixed", bits=bits).run(model, wide_context())
        sizes = {"a": 48 * 36, "b": 64 * 432, "y": 640}
        chosen = {one["name"]: int(one["weights"].removeprefix("int")) for one in done.layers}
        average = sum(sizes[n] * chosen[n] for n in sizes) / sum(sizes.values())
        assert bits - 1 < average <= bits


@pytest.mark.parametrize("allocator", ["dp", "greedy", "ompq"])
def test_a_limit_of_bytes_is_kept(allocator: str) -> None:
    model = wide()
    done = Quantize(scheme="mixed", size=0.18, allocator=allocator).run(model, wide_context())
    assert done.after.size <= 0.18 * done.before.size
    assert done.after.size > 0.08 * done.before.size


def test_a_limit_that_no_bits_meet_is_told() -> None:
    with pytest.raises(TargetUnreachable):
        Quantize(scheme="mixed", size=0.01).run(wide(), wide_context())


def test_budgets_are_for_mixed_precision() -> None:
    with pytest.raises(UsageError, match="gives every layer 4 bits"):
        Quantize(scheme="w4", bits=3).run(wide(), wide_context())
    with pytest.raises(UsageError, match="needs a limit"):
        Quantize(scheme="mixed").run(wide(), wide_context())
    with pytest.raises(UsageError, match="calibration data is missing"):
        Quantize(scheme="mixed", bits=3).run(wide(), Context())


@pytest.mark.parametrize("scheme", ["w2", "int8"])
def test_layers_that_hurt_are_spared_until_accuracy_holds(scheme: str) -> None:
    model = wide()
    x = np.random.default_rng(5).standard_normal((200, 4, 6, 6)).astype(np.float32)
    truth = run_plainly(model, {"x": x}, ["y"])["y"]

    def evaluate(candidate: Model) -> float:
        near = run_plainly(candidate, {"x": x}, ["y"])["y"]
        return 1 - float(np.square(near - truth).mean() / truth.var())

    limit = {"w2": 2.0, "int8": 0.009}[scheme]
    free = Quantize(scheme=scheme).run(model, wide_context())
    assert 100 * (1 - evaluate(free.model)) > limit
    done = Quantize(scheme=scheme, max_drop=limit).run(model, replace(wide_context(), evaluate=evaluate))
    assert 100 * (1 - evaluate(done.model)) <= limit
    assert 0 < len(done.details["higher_precision"]) < len(free.layers)
    with pytest.raises(UsageError, match="needs labelled data"):
        Quantize(scheme=scheme, max_drop=1).run(model, wide_context())


def test_a_limit_that_only_the_original_meets_changes_nothing_and_says_so() -> None:
    model = wide()

    def evaluate(candidate: Model) -> float:
        return float(candidate is model)

    with pytest.raises(NothingChanged, match="only with nothing quantized"):
        Quantize(max_drop=1).run(model, replace(wide_context(), evaluate=evaluate))


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s not in ("wXaY", "mixed")])
def test_the_same_input_gives_the_same_bytes(scheme: str) -> None:
    model = encoder(17, width=64, depth=1)
    context = Context(data=data_for(model, x=tokens(32, width=64)))
    one, two = (Quantize(scheme=scheme).run(model, context).model for _ in range(2))
    assert to_bytes(one) == to_bytes(two)


def test_what_is_told_is_what_is_there() -> None:
    network = NETWORKS["plain"]
    model = network.model()
    done = Quantize().run(model, network.context(model))
    told = done.as_dict()
    assert [one["name"] for one in told["layers"]] == ["a", "b", "y"]
    assert all(one["sqnr_db"] > 20 for one in told["layers"])
    assert told["runtime"]["integer"]["QLinearConv"] == 2
    assert len(told["worst"]) == 3
    assert told["worst"][0]["sqnr_db"] == min(one["sqnr_db"] for one in told["layers"])
    assert set(told["ranges"]) == {"x", "r", "s", "p"}


def test_names_that_stand_for_nothing_list_near_ones() -> None:
    for option, wrong in (("scheme", "int9"), ("target", "x87"), ("ranges", "mes"), ("method", "gtpq")):
        with pytest.raises(UsageError, match=r"there is no \w+ "):
            Quantize(**{option: wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(("bits", "release"), [(2, (1, 24)), (4, (1, 19)), (8, (1, 22))])
def test_large_products_read_integers_where_the_oldest_runtime_can(bits: int, release: tuple[int, int]) -> None:
    side = 1024 if bits == 2 else 512
    weights = ", ".join(f"float[{side},{side}] {name}" for name in "uvw")
    ends = f"float[N,{side}] x", f"float[N,{side}] y"
    model = parsed(*ends, weights, "a = MatMul(x, u) b = MatMul(a, v) y = MatMul(b, w)")
    older = (1, release[1] - 1)
    for asked, found in ((release, True), (older, False)):
        made = Quantize(scheme=f"w{bits}", method="nearest").run(model, Context(fit=Fit(release=asked))).model
        used = [attribute(n, "bits") for n in made.graph.node if n.op_type == "MatMulNBits"]
        assert (bits in used) == found


@pytest.mark.parametrize("scheme", ["w2", "w3", "w4"])
def test_weights_in_few_bits_are_not_rounded_again(scheme: str) -> None:
    network = NETWORKS["plain"]
    model = network.model()
    small = Quantize(scheme=scheme, method="nearest").run(model, Context()).model
    assert not list(Layers(small).weighted)
    assert all("quantized or binarized before" in one.reason for one in Layers(small).unused if one.kind == "integer")
    with pytest.raises(NothingChanged):
        Quantize(scheme="w8", method="nearest").run(small, Context())
