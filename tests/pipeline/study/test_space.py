"""Spaces: parameters, templates, recipes with ranges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio import load
from intaglio.graph.errors import UsageError
from intaglio.pipeline.recipe.recipe import pass_of
from intaglio.pipeline.study.space import Parameter, opened
from intaglio.pipeline.study.spaces import named_space

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.onnx"
PARAMETERS = [
    Parameter("choice", ("a", "b", "c")),
    Parameter("bits", (2, 3, 4, None)),
    Parameter("even", (), 2, 10, step=2, whole=True),
    Parameter("share", (), 0.3, 1.0),
    Parameter("rate", (), 1e-4, 1.0, log=True),
]


@pytest.mark.parametrize("one", PARAMETERS, ids=lambda one: one.name)
def test_values_stand_where_they_are_found(one: Parameter) -> None:
    for place in np.linspace(0, 1, 41):
        value = one.at(place)
        assert one.at(one.place(value)) == pytest.approx(value) if value is not None else one.values[-1] is None
    found = {one.at(place) for place in np.linspace(0, 1, 1001)}
    assert len(found) == (one.levels or 1001)


def test_the_ends_of_a_range_are_in_it() -> None:
    assert [PARAMETERS[2].at(place) for place in (0.0, 1.0)] == [2, 10]
    assert [PARAMETERS[4].at(place) for place in (0.0, 1.0)] == [1e-4, pytest.approx(1.0)]
    assert [one.ordered for one in PARAMETERS[:2]] == [False, True]


def test_a_recipe_leaves_options_open() -> None:
    space = opened(
        [
            {"pass": "prune", "target": "macs", "keep": {"from": 0.3, "to": 1.0}},
            {"pass": "quantize", "scheme": {"of": ["w4", "w8"]}},
        ]
    )
    assert [one.name for one in space.parameters] == ["passes[0].keep", "passes[1].scheme"]
    passes = space.passes(space.values(np.array([0.0, 0.9])))
    assert passes == [{"pass": "prune", "target": "macs", "keep": 0.3}, {"pass": "quantize", "scheme": "w8"}]
    assert list(space.places(space.values(np.array([0.5, 0.9])))) == [pytest.approx(0.5), 0.75]


@pytest.mark.parametrize(
    ("passes", "what"),
    [
        (["quantize:scheme=w4"], "leaves nothing open"),
        ([{"pass": "prune", "keep": {"from": 0.5}}], "passes[0].keep: this is no range"),
        ([{"pass": "prune", "keep": {"from": 0.5, "to": "much"}}], "passes[0].keep: this is no range"),
        ([{"pass": "prune", "keep": {"from": 0.5, "to": 0.5}}], "this range is empty"),
        ([{"pass": "prune", "keep": {"from": 0.0, "to": 1.0, "log": True}}], "this range is empty"),
        ([{"pass": "prune", "keep": {"of": []}}], "this is no range"),
    ],
)
def test_what_is_no_range_is_told(passes: list[Any], what: str) -> None:
    with pytest.raises(UsageError) as raised:
        opened(passes)
    assert what in raised.value.what


@pytest.mark.parametrize("word", ["widths", "ranks", "bits", "macs", "precision"])
def test_every_word_makes_recipes_that_can_be_read(word: str) -> None:
    space = named_space([word], load(DIGITS))
    assert space.parameters
    for place in (0.0, 0.4, 1.0):
        for one in space.passes(space.values(np.full(len(space.parameters), place))):
            assert pass_of(one).name == one["pass"]


def test_layers_that_are_split_get_no_bits_of_their_own() -> None:
    space = named_space(["ranks", "bits"], load(DIGITS))
    values = space.values(np.full(len(space.parameters), 1.0))
    whole = space.passes(values)
    assert [one["pass"] for one in whole] == ["quantize"]  # none is split
    name = next(one for one in values if one.startswith("rank "))
    factored, bits = space.passes({**values, name: 2})
    layer = name.removeprefix("rank ")
    assert factored["ranks"] == [[layer, 2]]
    assert layer not in dict(bits["layer_bits"])
    assert layer in dict(whole[0]["layer_bits"])


def test_a_word_that_is_none_is_told() -> None:
    with pytest.raises(UsageError, match="no space 'width'"):
        named_space(["width"], load(DIGITS))
