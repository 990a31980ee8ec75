"""Limits as users write them."""

from __future__ import annotations

import pytest

from intaglio.graph.errors import UsageError
from intaglio.pipeline.search.limits import Limit, Limits

READ = {
    ("size", "0.25"): Limit(0.25),
    ("size", 0.25): Limit(0.25),
    ("size", "25%"): Limit(0.25),
    ("macs", "0.5x"): Limit(0.5),
    ("size", "500KB"): Limit(500e3, absolute=True),
    ("size", "1.5 MiB"): Limit(1.5 * 2**20, absolute=True),
    ("macs", "30M"): Limit(30e6, absolute=True),
    ("params", "200k"): Limit(200e3, absolute=True),
    ("latency", "5ms"): Limit(5.0, absolute=True),
    ("latency", "800us"): Limit(0.8, absolute=True),
}


@pytest.mark.parametrize(("asked", "limit"), READ.items())
def test_a_limit_is_a_fraction_or_an_amount(asked: tuple[str, str], limit: Limit) -> None:
    found = Limit.read(*asked)
    assert found.absolute == limit.absolute
    assert found.value == pytest.approx(limit.value)


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "ten", "5ms", "nan", "inf", ""])
def test_what_is_no_limit_is_told_with_an_example(given: str) -> None:
    with pytest.raises(UsageError, match="no limit"):
        Limits.read(size=given)


def test_something_must_be_limited() -> None:
    with pytest.raises(UsageError, match="nothing is limited"):
        Limits.read()
    with pytest.raises(UsageError, match="out of range"):
        Limits.read(-1.0)


def test_amounts_are_fractions_of_what_the_original_has() -> None:
    limits = Limits.read(size="500KB", macs="0.5", latency="5ms")
    whole = {"size": 1e6, "macs": 1e8, "params": 1e5, "latency": 20.0}
    assert dict(limits.fractions(whole)) == {"size": 0.5, "macs": 0.5, "latency": 0.25}
