"""Would the proof notice if a rule forgot an equation? Drop one at a time, and see."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.graph.coupling import Removal, analyse, remove
from intaglio.graph.coupling.labels import Ledger
from intaglio.graph.coupling.solve import solve
from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from tests import zoo

from .equality import Values, choose, every_tensor, first_difference
from .ledgers import assert_respected

NETWORKS = [
    "hand_attention_3d",
    "hand_channel_norms",
    "hand_channels_last",
    "hand_convolutions",
    "hand_einsum",
    "hand_element_wise",
    "hand_expand_tile",
    "hand_gather",
    "hand_lstm_full",
    "hand_reshape",
    "hand_slice",
    "hand_split",
]
EACH = int(os.environ.get("INTAGLIO_FUZZ", "1")) * 5
"""Equations dropped of every network."""
NOTICED = 0.9


def without(ledger: Ledger, place: int) -> Ledger:
    """The same ledger but for one equation: that labels are equal, a product, or frozen."""
    fewer = copy(ledger)
    fewer.equal, fewer.products, fewer.frozen = list(ledger.equal), list(ledger.products), list(ledger.frozen)
    kinds: tuple[list[Any], ...] = (fewer.equal, fewer.products, fewer.frozen)
    for equations in kinds:
        if place < len(equations):
            del equations[place]
            break
        place -= len(equations)
    return fewer


def wrong_removals(model: Model, count: int, patch: pytest.MonkeyPatch) -> Iterator[Removal]:
    """Removals by analyses that each miss one equation, and that go against that equation."""
    ledger = analyse(model).trace.ledger
    total = len(ledger.equal) + len(ledger.products) + len(ledger.frozen)
    rng = np.random.default_rng(0)
    for place in rng.permutation(total)[: 6 * count].tolist():
        with patch.context() as context:
            forgetful = lambda whole, place=place: solve(without(whole, place))  # noqa: E731
            context.setattr(sys.modules[analyse.__module__], "solve", forgetful)
            mutant = analyse(model)
        removal = choose(mutant, lambda low, high: int(rng.integers(low, high + 1)), most=True)
        try:
            assert_respected(mutant.trace.ledger, mutant.solution, removal.removed)
        except AssertionError:
            yield removal
            count -= 1
        if not count:
            return


def is_noticed(removal: Removal, feeds: Values) -> bool:
    """Whether the pruned model fails to run, or gives another tensor than the masked original."""
    try:
        pruned = remove(removal)
        different = first_difference(removal, pruned, feeds) is not None
        return different or _shapes(pruned, feeds) != _shapes(removal.coupling.original, feeds)
    except Exception:  # whatever the surgery or ONNX Runtime raises at a graph that does not fit
        return True


def _shapes(model: Model, feeds: Values) -> list[tuple[int, ...]]:
    found = every_tensor(model, feeds)
    return [np.shape(found[o.name]) for o in model.graph.output]


def test_most_forgotten_equations_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """98 % of 424 were, when this was written: here, and in transformers and convolutional networks of the zoo."""
    noticed = []
    for name in NETWORKS:
        path = zoo.build(name, "onnx", tmp_path)
        feeds = zoo.random_inputs(path, seed=0)
        noticed += [is_noticed(removal, feeds) for removal in wrong_removals(load(path), EACH, monkeypatch)]
    assert len(noticed) >= 3 * len(NETWORKS)
    assert np.mean(noticed) >= NOTICED
