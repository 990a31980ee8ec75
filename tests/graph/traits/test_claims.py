"""What is claimed of operators, against what ONNX Runtime makes of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intaglio.graph.io.load import from_proto
from intaglio.graph.shapes import infer_shapes
from intaglio.graph.traits import OPERATORS, Trait, has, operator

from .examples import CHECKED, EXAMPLES, UNRUN, Example

Function = Callable[[np.ndarray], np.ndarray]


def claiming(trait: Trait) -> pytest.MarkDecorator:
    """Every example of an operator with the trait."""
    return trying([e for e in EXAMPLES if has(e.op, trait)])


def trying(examples: Sequence[Example]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", examples, ids=[f"{e.op}-{e.name or 'plain'}" for e in examples])


def changed(example: Example, operands: Sequence[Any], function: Function) -> list[Any]:
    """The operands with a function applied to the data."""
    return [function(v) if v is not None and i in example.data else v for i, v in enumerate(operands)]


def both(example: Example, function: Function) -> tuple[np.ndarray, np.ndarray]:
    """The function of what the operator makes, and what the operator makes of the function's values."""
    operands = example.draw(0)
    dtype = operands[example.data[0]].dtype

    def of(v: np.ndarray) -> np.ndarray:
        return np.asarray(function(v)).astype(dtype)

    return of(example.run(operands)), example.run(changed(example, operands, of))


def larger(example: Example) -> tuple[np.ndarray, np.ndarray]:
    """What comes of some numbers, and of numbers that are nowhere smaller."""
    low, other = example.draw(1), example.draw(2)
    high = [
        np.maximum(v, w) if v is not None and i in example.data else v
        for i, (v, w) in enumerate(zip(low, other, strict=True))
    ]
    return example.run(low), example.run(high)


def neighbours(example: Example) -> tuple[np.ndarray, np.ndarray]:
    """What comes of some numbers, and of the next larger ones."""
    low = example.draw(3)
    return example.run(low), example.run(changed(example, low, lambda v: np.nextafter(v, np.float32(np.inf))))


def test_every_claim_that_running_can_show_has_an_example() -> None:
    claimed = {op for op, row in OPERATORS.items() if row.bounds or any(t in row.traits for t in CHECKED)}
    tried = {e.op for e in EXAMPLES}
    left = {op for op in claimed - tried if op.rpartition(":")[2] not in UNRUN and not has(op, Trait.ON_BITS)}
    assert not left
    assert not {op for op in UNRUN if op in tried}


@claiming(Trait.ELEMENTWISE)
def test_a_number_depends_on_the_numbers_in_its_place_alone(example: Example) -> None:
    operands = example.draw(0)
    before = example.run(operands)
    rng = np.random.default_rng(1)
    place = tuple(rng.integers(0, n) for n in before.shape)
    other = example.draw(5)
    for i in example.data:
        assert before.shape == operands[i].shape
        operands[i][place] = other[i][place]
    after = example.run(operands)
    after[place] = before[place]
    np.testing.assert_array_equal(after, before)


@claiming(Trait.ELEMENTWISE)
def test_the_function_is_the_same_in_all_places(example: Example) -> None:
    operands = example.draw(0)
    turned = [np.roll(v, 1, axis=-1) if v is not None and v.shape == example.shape else v for v in operands]
    if example.op != "PRelu":  # whose slopes stand on an axis that stays
        assert (
            all(v.shape == example.shape or not v.ndim for v in operands if v is not None) or example.op == "CastLike"
        )
    np.testing.assert_array_equal(example.run(turned), np.roll(example.run(operands), 1, axis=-1))


@claiming(Trait.PER_CHANNEL)
def test_a_number_depends_on_its_place_and_its_channel(example: Example) -> None:
    operands = example.draw(0)
    before = example.run(operands)
    operands[0][1, 2, 3, 4] += 1
    for k in range(1, 5):
        operands[k][2] += 1
    after = example.run(operands)
    changes = np.argwhere(after != before)
    assert set(changes[:, 1]) == {2}


@claiming(Trait.BROADCASTS)
def test_operands_stretch_as_in_numpy(example: Example) -> None:
    operands = example.draw(0)
    last = max(k for k, v in enumerate(operands) if v is not None and v.ndim == 4) or 0
    narrow = list(operands)
    narrow[last] = operands[last][:1, :, :1, :1] if last else operands[last]
    wide = [np.broadcast_to(v, example.shape).copy() for v in narrow]
    np.testing.assert_array_equal(example.run(narrow), example.run(wide))


@claiming(Trait.SAME_SHAPE)
def test_shape_and_element_type_are_those_of_the_first_operand(example: Example) -> None:
    operands = example.draw(0)
    made = example.run(operands)
    assert (made.shape, made.dtype) == (operands[0].shape, operands[0].dtype)


@claiming(Trait.SHAPE_ONLY)
def test_only_the_shape_counts(example: Example) -> None:
    operands = example.draw(0)
    made = example.run(operands)
    np.testing.assert_array_equal(made, example.run([operands[0].astype(np.int32) * 0]))
    assert not np.array_equal(made, example.run([operands[0][:, :1]]))


@claiming(Trait.MOVES)
def test_numbers_are_moved(example: Example) -> None:
    np.testing.assert_array_equal(*both(example, lambda v: np.sin(5 * v) + 0.75 * np.cos(v)))


@claiming(Trait.FILLS)
def test_numbers_are_moved_and_a_constant_stands_between(example: Example) -> None:
    np.testing.assert_array_equal(*both(example, lambda v: np.sin(5 * v)))
    assert not np.array_equal(*both(example, np.cos)) or example.settings.get("mode") == "reflect"


@claiming(Trait.SELECTS)
def test_numbers_are_compared_and_some_handed_on(example: Example) -> None:
    np.testing.assert_array_equal(*both(example, lambda v: v * abs(v) - 1))
    assert not np.array_equal(*both(example, lambda v: np.sin(5 * v)))


@claiming(Trait.SAMPLES)
def test_samples_are_moved_where_the_nearest_is_taken(example: Example) -> None:
    found = np.array_equal(*both(example, lambda v: np.sin(5 * v)))
    assert found == (example.settings["mode"] == "nearest")


@claiming(Trait.IDLE)
def test_nothing_is_done(example: Example) -> None:
    operands = example.draw(0)
    np.testing.assert_array_equal(example.run(operands), operands[0])


@claiming(Trait.HOMOGENEOUS)
def test_a_factor_goes_through(example: Example) -> None:
    np.testing.assert_allclose(*both(example, lambda v: 0.7 * v), rtol=1e-4, atol=1e-5)


@claiming(Trait.POLYNOMIAL)
def test_polynomials_of_one_degree_take_a_power_of_any_factor(example: Example) -> None:
    operands = example.draw(0)
    made = example.run(operands)
    doubled, turned = (example.run(changed(example, operands, lambda v, t=t: t * v)) for t in (2, -1))  # type: ignore[misc]
    degrees = [k for k in range(64) if np.allclose(doubled, 2.0**k * made, rtol=1e-4)]
    assert len(degrees) == 1
    np.testing.assert_allclose(turned, (-1) ** degrees[0] * made, rtol=1e-5)


@claiming(Trait.SHIFTS)
def test_a_shift_goes_through(example: Example) -> None:
    np.testing.assert_allclose(*both(example, lambda v: v + 1.5), rtol=1e-4, atol=1e-5)


@claiming(Trait.RISING)
def test_larger_numbers_give_larger_ones(example: Example) -> None:
    low, high = larger(example)
    assert np.all((low <= high + 1e-5) | np.isnan(low) | np.isnan(high))
    assert np.any(low < high)


@claiming(Trait.FALLING)
def test_larger_numbers_give_smaller_ones(example: Example) -> None:
    low, high = larger(example)
    assert np.all((low >= high - 1e-5) | np.isnan(low) | np.isnan(high))
    assert np.any(low > high)


@claiming(Trait.IN_ORDER)
def test_rounding_keeps_order(example: Example) -> None:
    for low, high in (larger(example), neighbours(example)):
        assert np.all(low >= high if has(example.op, Trait.FALLING) else low <= high)


@claiming(Trait.RECTIFIES)
def test_numbers_between_two_limits_stay(example: Example) -> None:
    operands = example.draw(0)
    ends = [example.run([np.full_like(operands[0], end), *operands[1:]]).reshape(-1)[0] for end in (-1e30, 1e30)]
    np.testing.assert_array_equal(example.run(operands), np.clip(operands[0], *ends))


@claiming(Trait.SUMS)
def test_indices_that_hold_zeros_may_go(example: Example) -> None:
    operands = example.draw(0)
    axis = 2 if example.name == "dropped" else 1
    np.moveaxis(operands[0], axis, 0)[2] = 0
    with_zeros = example.run(operands)
    without = example.run([np.delete(operands[0], 2, axis), *operands[1:]])
    if example.op == "CumSum":  # which has an entry there
        with_zeros = np.delete(with_zeros, 2, axis)
    np.testing.assert_allclose(with_zeros, without, rtol=1e-5)


@claiming(Trait.NORMALIZES)
def test_scale_and_shift_lie_along_the_channels(example: Example) -> None:
    operands = example.draw(0)
    plain = [operands[0], *(np.full_like(v, 1 if k == 0 else 0) for k, v in enumerate(operands[1:]))]
    axis = operator(example.op).channels
    parts = [v.reshape(-1, 1, 1) if axis == 1 else v for v in operands[1:]]
    expected = example.run(plain) * parts[0] + (parts[1] if parts[1:] else 0)
    np.testing.assert_allclose(example.run(operands), expected, rtol=1e-4, atol=1e-5)


@claiming(Trait.STANDARDIZES)
def test_scale_and_shift_tell_deviation_and_mean(example: Example) -> None:
    rng = np.random.default_rng(0)
    operands = example.draw(0)
    x = rng.standard_normal((64, 4, 16, 16)).astype(np.float32)
    if example.op == "BatchNormalization":  # it was trained on such channels
        x = operands[3].reshape(-1, 1, 1) + x * np.sqrt(operands[4]).reshape(-1, 1, 1)
    made = example.run([x, *operands[1:]])
    np.testing.assert_allclose(made.mean(axis=(0, 2, 3)), operands[2], atol=0.05)
    np.testing.assert_allclose(made.std(axis=(0, 2, 3)), abs(operands[1]), rtol=0.02)


@claiming(Trait.RANDOM)
def test_two_runs_differ(example: Example) -> None:
    operands = example.draw(0)
    if example.op == "Bernoulli":
        operands[0] = np.full_like(operands[0], 0.5)
    one, two = example.runs(operands, 2)
    assert not np.array_equal(one, two)


@trying([e for e in EXAMPLES if operator(e.op).bounds])
def test_outputs_keep_within_the_bounds(example: Example) -> None:
    bounds = operator(example.op).bounds
    assert bounds is not None
    operands = example.draw(0)
    wide = example.op not in ("Acos", "Asin", "Bernoulli")
    for scale in (1, 30) if wide else (1,):
        made = example.run([v if i or v is None else v * np.float32(scale) for i, v in enumerate(operands)])
        assert np.nanmin(made) >= bounds[0] - 1e-6
        assert np.nanmax(made) <= bounds[1] + 1e-6


COUNTED = ("Compress",)
"""How long their output is follows from values, even of constants."""


@trying(EXAMPLES)
def test_shapes_are_those_that_onnx_runtime_makes(example: Example) -> None:
    """Operands are constants, and attributes left out in turn, of which the definition says what they are then."""
    tried = 0
    for left_out in (None, *example.settings):
        one = replace(example, settings={key: value for key, value in example.settings.items() if key != left_out})
        try:
            made = one.run(one.draw(0))
        except Exception:  # the attribute must be there
            assert left_out is not None
            continue
        shapes = infer_shapes(from_proto(one.constant()[0]))
        tried += 1
        assert shapes.dims.get("y") == (None if one.op in COUNTED else made.shape), left_out
    assert tried
