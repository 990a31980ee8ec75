"""Keys and values that decoders keep: what comes back to a model changes with the model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from intaglio.graph.coupling import analyse
from intaglio.graph.coupling.caches import caches
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.base import PASSES
from intaglio.passes.change import Change
from tests.passes.parsed import data_for, parsed_in

WIDTH, HEAD, HEADS, SHARED = 12, 16, 4, 2
RUNTIME = '"" : 17, "com.microsoft" : 1'


def joined() -> Model:
    """Attention in single nodes, as PyTorch exports it: what is new is joined behind the cache."""
    return parsed_in(
        '"" : 17',
        "float[N, S, 12] x, float[N, 4, P, 16] past_k, float[N, 4, P, 16] past_v",
        "float[N, S, 12] y, float[N, 4, T, 16] present_k, float[N, 4, T, 16] present_v",
        "float[12, 64] wq, float[12, 64] wk, float[12, 64] wv, float[64, 12] wo",
        """
        shape = Constant <value_ints = [0, 0, 4, 16]> ()
        merged = Constant <value_ints = [0, 0, -1]> ()
        q = MatMul (x, wq)  qs = Reshape (q, shape)  qh = Transpose <perm = [0, 2, 1, 3]> (qs)
        k = MatMul (x, wk)  ks = Reshape (k, shape)  kh = Transpose <perm = [0, 2, 1, 3]> (ks)
        v = MatMul (x, wv)  vs = Reshape (v, shape)  vh = Transpose <perm = [0, 2, 1, 3]> (vs)
        present_k = Concat <axis = 2> (past_k, kh)
        present_v = Concat <axis = 2> (past_v, vh)
        kt = Transpose <perm = [0, 1, 3, 2]> (present_k)
        scores = MatMul (qh, kt)
        weights = Softmax (scores)
        seen = MatMul (weights, present_v)
        back = Transpose <perm = [0, 2, 1, 3]> (seen)
        flat = Reshape (back, merged)
        y = MatMul (flat, wo)
        """,
    )


def multi_head() -> Model:
    return parsed_in(
        RUNTIME,
        "float[N, S, 12] x, float[N, 4, P, 16] past_k, float[N, 4, P, 16] past_v",
        "float[N, S, 12] y, float[N, 4, T, 16] present_k, float[N, 4, T, 16] present_v",
        "float[12, 64] wq, float[12, 64] wk, float[12, 64] wv, float[64, 12] wo",
        """
        q = MatMul (x, wq)  k = MatMul (x, wk)  v = MatMul (x, wv)
        seen, present_k, present_v =
            com.microsoft.MultiHeadAttention <num_heads = 4> (q, k, v, , , , past_k, past_v)
        y = MatMul (seen, wo)
        """,
    )


def standard() -> Model:
    return parsed_in(
        '"" : 23',
        "float[N, S, 12] x, float[N, 2, P, 16] past_k, float[N, 2, P, 16] past_v",
        "float[N, S, 12] y, float[N, 2, T, 16] present_k, float[N, 2, T, 16] present_v",
        "float[12, 64] wq, float[12, 32] wk, float[12, 32] wv, float[64, 12] wo",
        """
        q = MatMul (x, wq)  k = MatMul (x, wk)  v = MatMul (x, wv)
        seen, present_k, present_v = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v, , past_k, past_v)
        y = MatMul (seen, wo)
        """,
    )


GROUPED = """
    one = Constant <value = int32 {1}> ()
    ones = Constant <value_ints = [1]> ()
    axis = Constant <value_int = 1> ()
    whole = Shape (mask)
    length = Gather <axis = 0> (whole, axis)
    total = Cast <to = 6> (length)
    counted = ReduceSum <keepdims = 0> (mask, ones)
    counts = Cast <to = 6> (counted)
    ends = Sub (counts, one)
    seen, present_k, present_v =
        com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2, do_rotary = 1>
        (OPERANDS, past_k, past_v, ends, total, cos, sin)
    y = MatMul (seen, wo)
"""
ANGLES = np.outer(np.arange(64), 0.5 ** np.arange(8))
TABLES = {"cos": np.cos(ANGLES).astype(np.float32), "sin": np.sin(ANGLES).astype(np.float32)}


def grouped(packed: bool = False) -> Model:
    """As exporters for ONNX Runtime write it: rotation and the cache are inside."""
    weights = "float[12, 128] w" if packed else "float[12, 64] wq, float[12, 32] wk, float[12, 32] wv"
    products = "q = MatMul (x, w)" if packed else "q = MatMul (x, wq)  k = MatMul (x, wk)  v = MatMul (x, wv)"
    return parsed_in(
        RUNTIME,
        "float[N, S, 12] x, int64[N, T] mask, float[N, 2, P, 16] past_k, float[N, 2, P, 16] past_v",
        "float[N, S, 12] y, float[N, 2, T, 16] present_k, float[N, 2, T, 16] present_v",
        f"{weights}, float[64, 12] wo, float[64, 8] cos, float[64, 8] sin",
        products + GROUPED.replace("OPERANDS", "q, , " if packed else "q, k, v"),
        **TABLES,
    )


def packed() -> Model:
    return grouped(packed=True)


FORMS = (joined, multi_head, standard, grouped, packed)


def pruned(model: Model, axis: str) -> Change:
    return PASSES["prune"].model_validate({"target": "channels", "keep": 0.5, "axis": axis}).run(model)


@pytest.mark.parametrize("form", FORMS)
def test_keys_and_values_come_back_as_the_outputs_that_hold_them(form: Callable[[], Model]) -> None:
    assert caches(form()) == {"past_k": "present_k", "past_v": "present_v"}


@pytest.mark.parametrize("form", FORMS)
def test_caches_lose_the_heads_that_go(form: Callable[[], Model]) -> None:
    done = pruned(form(), "heads")
    assert done.proof is not None
    assert done.proof.exact
    heads = {"joined": 2, "multi_head": 2}.get(form.__name__, 1)
    graph = done.model.graph
    for value in (*graph.input, *graph.output):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.name.startswith(("past", "present")):
            assert shape[1::2] == [heads, HEAD], value.name


@pytest.mark.parametrize("form", [joined, multi_head, standard])
def test_caches_lose_the_width_that_goes(form: Callable[[], Model]) -> None:
    done = pruned(form(), "width")
    assert done.proof is not None
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in done.model.graph.input}
    assert shapes["past_k"][3] == shapes["past_v"][3] == HEAD // 2


@pytest.mark.parametrize("form", FORMS)
def test_a_narrower_decoder_goes_on_from_what_it_kept(form: Callable[[], Model]) -> None:
    """Token by token it gives what it gives for all tokens at once."""
    model = pruned(form(), "heads").model
    session, rng = open_session(model), np.random.default_rng(0)
    x = rng.standard_normal((2, 5, WIDTH)).astype(np.float32)
    heads = model.graph.input[-1].type.tensor_type.shape.dim[1].dim_value
    kept = {name: np.zeros((2, heads, 0, HEAD), np.float32) for name in ("past_k", "past_v")}
    masked = any(value.name == "mask" for value in model.graph.input)

    def step(part: np.ndarray, before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        length = before["past_k"].shape[2] + part.shape[1]
        mask = {"mask": np.ones((2, length), np.int64)} if masked else {}
        return run(session, {"x": part, **mask, **before})

    whole = step(x, kept)
    for at in range(5):
        made = step(x[:, at : at + 1], kept)
        kept = {"past_k": made["present_k"], "past_v": made["present_v"]}
    np.testing.assert_allclose(kept["past_k"], whole["present_k"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made["y"][:, 0], whole["y"][:, -1], rtol=1e-4, atol=1e-5)


def test_an_input_that_does_not_come_back_keeps_its_channels() -> None:
    """Put behind a constant, turned, or given back as it was, an input is the caller's as before."""
    model = parsed_in(
        '"" : 17',
        "float[N, 6, T] x, float[N, 6, T] z",
        "float[N, 6, U] y, float[N, T, 6] turned, float[N, 8, T] w",
        "float[1, 6, 2] start, float[8, 6, 1] kernel",
        """
        y = Concat <axis = 2> (start, x)
        turned = Transpose <perm = [0, 2, 1]> (z)
        w = Conv (x, kernel)
        """,
    )
    assert caches(model) == {}
    assert not any(group.prunable for group in analyse(model).groups)


@pytest.mark.parametrize("form", [joined, standard])
def test_caches_that_the_data_lacks_start_empty_before_and_after(form: Callable[[], Model]) -> None:
    model = form()
    x = np.random.default_rng(0).standard_normal((3, 5, WIDTH)).astype(np.float32)
    data = data_for(model, x=x)
    assert "caches start empty" in data.notes[-1]
    small = pruned(model, "heads").model
    for one in (model, small):
        (batch,) = data.batches(3)
        made = run(open_session(one), batch.inputs)
        assert made["y"].shape == x.shape
        assert made["present_k"].shape[2] == 5
