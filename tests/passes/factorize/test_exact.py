"""At full rank every scheme computes what the layer computed, however it slides, pads, groups and transposes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.cost import cost
from intaglio.graph.model import Model
from intaglio.passes.factorize.schemes.scheme import SCHEMES

from .layers import factored, gap, layer, moments_of, outputs, the_unit

EXACT = 2.0**-23 * 256
"""Of the largest number: two products in single precision, of up to 108 and 20 terms, each factor rounded before."""
FITTED = 1e-4
"""What the pass itself proves: least squares under moments that hardly tell some columns apart lose digits."""


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Model, dict[str, np.ndarray]]:
    """A convolution of one to three axes with any stride, dilation, padding and groups, and an input for it."""
    rank = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outs = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 5))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    strides = [draw(st.integers(1, 2)) for _ in range(rank)]
    attributes: dict[str, Any] = {"strides": strides, "group": groups}
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    else:
        attributes["auto_pad"] = auto
    if auto in ("NOTSET", "VALID"):
        attributes["dilations"] = [draw(st.integers(1, 2)) for _ in range(rank)]
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    size = [draw(st.integers(5, 7)) for _ in range(rank)]
    weights = {"w": rng.standard_normal((outs, inputs // groups, *kernel)).astype(np.float32)}
    order = ["x", "w"]
    if draw(st.booleans()):
        weights["b"] = rng.standard_normal(outs).astype(np.float32)
        order.append("b")
    free = draw(st.booleans())
    model = layer("Conv", {"x": ["N" if free else 2, inputs, *size]}, weights, order, **attributes)
    return model, {"x": rng.standard_normal((2, inputs, *size)).astype(np.float32)}


@settings(max_examples=50, deadline=None)
@given(convolutions(), st.booleans())
def test_every_scheme_of_convolutions_is_exact_at_full_rank(
    given_: tuple[Model, dict[str, np.ndarray]], with_moments: bool
) -> None:
    model, feed = given_
    unit = the_unit(model)
    expected = outputs(model, feed)
    tried = 0
    for name in SCHEMES:
        scheme = SCHEMES[name]
        if scheme.obstacle(unit.site):
            continue
        moments = moments_of(unit.site.columns, unit.site.groups) if with_moments else None
        small = factored(model, unit, name, scheme.largest(unit.site), moments)
        assert gap(expected, outputs(small, feed)) < (FITTED if with_moments else EXACT), name
        tried += 1
    assert tried


@settings(max_examples=25, deadline=None)
@given(convolutions(), st.integers(1, 3))
def test_costs_are_predicted_to_the_last_multiplication(given_: tuple[Model, dict[str, np.ndarray]], rank: int) -> None:
    model, _ = given_
    unit = the_unit(model)
    site = unit.site
    for name in SCHEMES:
        scheme = SCHEMES[name]
        if scheme.obstacle(site):
            continue
        rank = min(rank, scheme.largest(site))
        small = factored(model, unit, name, rank)
        found, bias = cost(small), site.groups * site.outputs if "b" in model.weights else 0
        assert (scheme.macs(site, rank), scheme.params(site, rank) + bias) == (found.macs, found.params), name


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("other", [0, 1])
@pytest.mark.parametrize("constant", ["left", "right"])
@pytest.mark.parametrize("scale", [{}, {"alpha": 0.5, "beta": 2.0}])
def test_gemm_is_exact_with_every_transpose(trans: int, other: int, constant: str, scale: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    m, k, n = 4, 6, 5
    w = rng.standard_normal({"right": (k, n), "left": (m, k)}[constant]).astype(np.float32)
    x = rng.standard_normal({"right": (m, k), "left": (k, n)}[constant]).astype(np.float32)
    w, x = (np.ascontiguousarray(a.T) if t else a for a, t in ((w, trans), (x, other)))
    names = {"right": ("transB", "transA"), "left": ("transA", "transB")}[constant]
    weights = {"w": w, "b": rng.standard_normal(n).astype(np.float32)}
    order = ["x", "w", "b"] if constant == "right" else ["w", "x", "b"]
    model = layer("Gemm", {"x": x.shape}, weights, order, **{names[0]: trans, names[1]: other}, **scale)
    unit = the_unit(model)
    assert unit.site.columns == k
    small = factored(model, unit, "svd", SCHEMES["svd"].largest(unit.site))
    assert len(small.graph.node) == 2
    assert gap(outputs(model, {"x": x}), outputs(small, {"x": x})) < EXACT


@pytest.mark.parametrize("shape", [(3, 6), (2, 3, 6), (2, 2, 3, 6), (6,)])
@pytest.mark.parametrize("constant", ["left", "right"])
def test_matmul_is_exact_with_the_constant_on_either_side(shape: tuple[int, ...], constant: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(np.float32)
    if constant == "left" and x.ndim > 1:
        x = np.ascontiguousarray(np.swapaxes(x, -1, -2))
    w = rng.standard_normal((6, 4) if constant == "right" else (4, 6)).astype(np.float32)
    model = layer("MatMul", {"x": x.shape}, {"w": w}, ["x", "w"] if constant == "right" else ["w", "x"])
    unit = the_unit(model)
    for moments in (None, moments_of(6)):
        small = factored(model, unit, "svd", 4, moments)
        assert gap(outputs(model, {"x": x}), outputs(small, {"x": x})) < EXACT
    assert cost(small).macs == SCHEMES["svd"].macs(unit.site, 4)


@pytest.mark.parametrize("ids", [(3,), (2, 3), ()])
def test_a_table_is_exact_at_full_rank(ids: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    table = rng.standard_normal((9, 4)).astype(np.float32)
    model = layer("Gather", {"ids": list(ids)}, {"w": table}, ["w", "ids"])
    feed = {"ids": rng.integers(0, 9, ids)}
    unit = the_unit(model)
    small = factored(model, unit, "embedding", 4)
    assert gap(outputs(model, feed), outputs(small, feed)) < EXACT
    assert cost(small).macs == SCHEMES["embedding"].macs(unit.site, 4)


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_the_spectrum_is_that_of_the_unfolded_matrix(name: str) -> None:
    """What training methods project on low rank, and read singular values off."""
    rng = np.random.default_rng(3)
    if name in ("svd", "embedding"):
        op, shape, order = ("MatMul", (6, 4), ["x", "w"]) if name == "svd" else ("Gather", (6, 4), ["w", "ids"])
        inputs: dict[str, Any] = {"x": [2, 6]} if name == "svd" else {"ids": [2]}
        model = layer(op, inputs, {"w": rng.standard_normal(shape).astype(np.float32)}, order)
    else:
        weights = {"w": rng.standard_normal((6, 2, 3, 2)).astype(np.float32)}
        model = layer("Conv", {"x": [1, 4, 5, 5]}, weights, ["x", "w"], group=2)
    site, scheme = the_unit(model).site, SCHEMES[name]
    matrices = site.folded(model.weights["w"].astype(np.float64))
    unfolded = scheme.unfold(site, matrices)
    np.testing.assert_array_equal(site.unfolded(matrices, model.weights["w"].shape), model.weights["w"])
    spectrum = sum(np.linalg.svd(m, compute_uv=False) ** 2 for m in unfolded)
    np.testing.assert_allclose(scheme.spectrum(site, matrices), spectrum, atol=1e-8)
