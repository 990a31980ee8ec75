"""Made-up inputs are such that loops soon end, or that is the error."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

from intaglio.graph.errors import BadModel
from intaglio.graph.model import Model
from intaglio.measure.run import inputs
from intaglio.measure.run.inputs import runnable_inputs
from intaglio.measure.run.session import TooSlow, open_session, run
from intaglio.passes.proof import at_other_sizes
from tests.passes.parsed import parsed


def looping(turns: str) -> Model:
    """As often as the tensor ``n`` says."""
    body = "l = Identity (k) r = Tanh (h)"
    loop = f"y = Loop (n, go, x) <body = b (int64 i, bool k, float[B, T] h) => (bool l, float[B, T] r) {{ {body} }}>"
    return parsed(
        "float[B, T] x",
        "float[B, T] y",
        "bool go, int64[1] six",
        f"{turns} {loop}",
        go=np.array(True),
        six=np.array([6]),
    )


OF_SIZES = "s = Shape <start = 1> (x) m = Pow (s, six) n = Squeeze (m)"
OF_VALUES = "a = Abs (x) m = ReduceMax <keepdims = 0> (a) f = Constant <value_float = 1e12> () e = Add (m, f) n = Cast <to = 7> (e)"


def test_sizes_are_those_at_which_loops_soon_end() -> None:
    """At 8, the first that is tried, it turns 262,144 times."""
    model = looping(OF_SIZES)
    assert runnable_inputs(model)["x"].shape == (2, 4)
    others = [feed["x"].shape for feed in at_other_sizes(model, {"x": np.zeros((2, 4), np.float32)}, 0)]
    assert {(1, 1), (2, 2), (1, 4)} <= set(others)
    assert max(length for _, length in others) == 5, "8 is twice 4, as other sizes are"


def test_a_loop_without_end_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_SECONDS", 0.2)
    before = time.monotonic()
    with pytest.raises(BadModel, match="made-up") as caught:
        runnable_inputs(looping(OF_VALUES))
    assert "without end" in caught.value.why
    assert time.monotonic() - before < 10, "larger inputs were tried, too"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_loop_without_end_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is run in a fork first, as it may end the process, was too slow there."""
    monkeypatch.setattr(inputs, "_SECONDS", 0.2)
    here: list[object] = []

    def counted(*args: Any, **options: Any) -> dict[str, Any]:
        here.append(args)
        return run(*args, **options)

    monkeypatch.setattr(inputs, "run", counted)
    with pytest.raises(BadModel, match="made-up"):
        runnable_inputs(looping(OF_VALUES))
    assert not here


def test_sizes_at_which_it_fails_are_not_tried_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes some ten times as long as the one before, and the widths never fit."""
    monkeypatch.setattr(inputs, "_SECONDS", 0.3)
    text = "t = Transpose (x) a = MatMul (x, t) b = MatMul (a, x) s = Sin (b) y = MatMul (s, w)"
    model = parsed("float[M, N] x", "float[M, 5] y", "float[3001, 5] w", text)
    before = time.monotonic()
    with pytest.raises(BadModel, match="made-up") as caught:
        runnable_inputs(model)
    assert "MatMul 'y'" in caught.value.why
    assert time.monotonic() - before < 30


@pytest.mark.parametrize("same", [True, False])
def test_what_fails_for_one_reason_at_all_sizes_is_given_up_sooner(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_SAME_SECONDS", 0.05)
    reasons: list[str] = []

    def fails(feed: dict[str, np.ndarray]) -> None:
        time.sleep(0.02)
        reasons.append("" if same else str(feed["x"].shape))
        raise BadModel("it fails", why=reasons[-1])

    with pytest.raises(BadModel, match="made-up") as caught:
        inputs.tried_inputs(looping(OF_SIZES), fails, seconds=60)
    assert caught.value.why == reasons[0]
    assert (len(reasons) < 8) == same, reasons


def test_a_run_ends_in_time_or_as_without_a_limit() -> None:
    model = looping(OF_SIZES)
    session, feed = open_session(model), {"x": np.ones((1, 3), np.float32)}
    np.testing.assert_array_equal(run(session, feed, seconds=60)["y"], run(session, feed)["y"])
    with pytest.raises(TooSlow, match="fails"):
        run(session, {"x": np.ones((1, 100), np.float32)}, seconds=0.2)
    with pytest.raises(BadModel) as caught:
        run(session, {"x": np.ones((1, 3, 1), np.float32)}, seconds=60)
    assert not isinstance(caught.value, TooSlow)
