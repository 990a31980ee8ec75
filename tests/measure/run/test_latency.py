"""Times are taken fairly and told without more certainty than they have."""

from __future__ import annotations

import os

import numpy as np
import pytest

from intaglio.measure.run.latency import LEAST_RUNS, Timing, crowd, machine, time_sessions
from intaglio.measure.run.session import open_session

from ..conftest import MakeModel

NOISY = np.random.default_rng(0).lognormal(0, 0.2, (2, 200))


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "same"), (1.01, "same"), (2.0, "slower"), (0.5, "faster")])
def test_only_a_difference_that_stands_out_of_the_noise_is_told(factor: float, verdict: str) -> None:
    timing = Timing(NOISY * [[1.0], [factor]], 1, "")
    assert timing.verdict(1) == verdict
    assert timing.speedup(1) == pytest.approx(1 / factor, rel=0.1)


def test_a_drift_of_the_machine_does_not_look_like_a_difference() -> None:
    drift = np.linspace(1, 10, 200)
    assert Timing(np.stack([drift, drift * 1.001]), 1, "").verdict(1) == "same"


def test_statistics_are_those_of_the_times() -> None:
    (latency,) = Timing(np.arange(1.0, 12.0)[None], 1, "").latencies
    assert (latency.median_ms, latency.p90_ms, latency.min_ms, latency.runs) == (6, 10, 1, 11)


def test_every_model_runs_in_every_round(make_model: MakeModel) -> None:
    model = make_model("float[N,8] x", "float[N,8] y", "y = Relu(x)")
    sessions, x = [open_session(model) for _ in range(3)], {"x": np.ones((1, 8), np.float32)}
    timing = time_sessions(sessions, [x] * 3, threads=1, runs=7)
    assert timing.times_ms.shape == (3, 7)
    assert (timing.times_ms > 0).all()
    assert time_sessions(sessions[:1], [x], threads=1, seconds=0).times_ms.shape == (1, LEAST_RUNS)


def test_the_machine_is_described_in_one_line() -> None:
    assert "onnxruntime" in machine()
    assert "\n" not in machine()


@pytest.mark.skipif(not hasattr(os, "getloadavg"), reason="the system counts no programs that run")
def test_a_crowded_machine_is_told_and_a_quiet_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (9.4, 2.0, 1.0))
    assert crowd() == "9 programs ran on 2 cores"
    monkeypatch.setattr(os, "getloadavg", lambda: (2.9, 9.0, 9.0))
    assert crowd() == ""
