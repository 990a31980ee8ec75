"""With data: compensation and descent never cost more than they start from, and find what is best where that is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from intaglio.graph.layer import Floats
from intaglio.passes.binarize.algorithms.binarizer import BINARIZERS, BitRule, Problem
from intaglio.passes.binarize.algorithms.codes import SIGN, Code
from intaglio.passes.binarize.algorithms.descent import cheapest_rows, compensate_columns, descend


def problem(columns: int = 48, groups: int = 1, block: int = 0, seed: int = 0) -> Problem:
    """Inputs that depend on each other, some far larger than others, one that is always nought."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, 400, columns)) @ rng.normal(size=(columns, columns)) / 7
    x *= np.exp(rng.normal(size=columns))
    x[..., 3] = 0
    return Problem(rng.laplace(size=(groups, 6, columns)), x.transpose(0, 2, 1) @ x / 400, block)


@pytest.mark.parametrize("block", [0, 16])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", list(BINARIZERS))
def test_data_make_every_layer_better(name: str, groups: int, block: int) -> None:
    if BINARIZERS[name].block is None:
        block = 0
    asked = problem(groups=groups, block=block)
    _, blind = BitRule(name, block).solve(asked.wanted, None)
    _, found = BitRule(name, block).solve(asked.wanted, asked.hessian)
    assert asked.cost(found.floats()).sum() < 0.8 * asked.cost(blind.floats()).sum()


@pytest.mark.parametrize("name", list(BINARIZERS))
def test_neither_descent_nor_the_choice_of_rows_raises_a_cost(name: str) -> None:
    asked = problem(block=16 if BINARIZERS[name].block is not None else 0)
    start = BINARIZERS[name].solve(Problem(asked.wanted, None, asked.block))
    ways = [start, compensate_columns(asked, start), descend(asked, start)]
    slack = 1 + 1e-9
    assert asked.cost(ways[2].floats()).sum() <= asked.cost(start.floats()).sum() * slack
    best = asked.cost(cheapest_rows(asked, ways).floats())
    assert (best <= np.min([asked.cost(one.floats()) for one in ways], axis=0) * slack).all()


def test_what_descends_is_what_is_told() -> None:
    """The values that are kept up to date on the way are those of the numbers and scales in the end."""
    asked = problem(block=16)
    for name in BINARIZERS:
        start = BINARIZERS[name].solve(Problem(asked.wanted, None, 0 if name == "onebit" else 16))
        once = descend(asked, start, sweeps=1)
        assert asked.cost(once.floats()).sum() <= asked.cost(start.floats()).sum() * (1 + 1e-9), name


def test_few_signs_are_nearly_as_good_as_the_best_of_all() -> None:
    asked = problem(columns=9)
    asked = Problem(asked.wanted[:, :3], asked.hessian)
    _, found = BitRule("xnor").solve(asked.wanted, asked.hessian)
    best = np.full((1, 3), np.inf)
    for signs in product((1, -1), repeat=9):
        levels = np.broadcast_to((1 - np.array(signs)) // 2, asked.wanted.shape).astype(np.uint8)
        best = np.minimum(best, least(asked, Code(SIGN, levels, np.ones((1, 1, 3, 1)))))
    assert asked.cost(found.floats()).sum() <= 1.3 * best.sum()


def least(asked: Problem, code: Code) -> Floats:
    """The cost with the best scale of each row."""
    assert asked.hessian is not None
    signs = code.floats()
    turned = signs @ asked.hessian
    scale = np.einsum("goc,goc->go", turned, asked.wanted) / np.einsum("goc,goc->go", turned, signs)
    return asked.cost(signs * scale[..., None])


def test_columns_that_are_nought_change_nothing() -> None:
    asked = problem()
    assert asked.hessian is not None
    wild = asked.wanted.copy()
    wild[..., 3] = 1e6
    for name in ("xnor", "planes"):
        _, found = BitRule(name).solve(wild, asked.hessian)
        assert np.isfinite(found.floats()).all()
