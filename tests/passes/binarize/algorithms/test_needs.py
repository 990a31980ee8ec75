"""What a binarizer declares that it needs is there for every layer."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.graph.errors import IntaglioError
from intaglio.passes.binarize.algorithms.binarizer import BINARIZERS, BitRule, Problem, binarizer
from intaglio.passes.binarize.algorithms.codes import Code
from intaglio.passes.binarize.algorithms.xnor import signs


def test_where_second_moments_are_not_measured_all_columns_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BINARIZERS, "_found", dict(BINARIZERS._found))
    seen: list[Problem] = []

    @binarizer("by-cost", (0.0, 0.0), needs=("second_moments",))
    def by_cost(problem: Problem) -> Code:
        seen.append(problem)
        return signs(problem, problem.means(np.abs(problem.wanted)))

    wanted = np.random.default_rng(0).normal(size=(2, 3, 8))
    BitRule("by-cost").solve(wanted, None)
    (problem,) = seen
    assert problem.hessian is not None
    np.testing.assert_allclose(problem.cost(np.zeros_like(wanted)), np.square(wanted).sum(axis=-1))
    with pytest.raises(IntaglioError, match="gradients, and did not say that it needs them"):
        _ = problem.gradients
