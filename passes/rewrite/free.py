"""Free lengths by name: primes stand for them while shapes are worked out, so that a length tells which one it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt

from ...graph.errors import UsageError
from ...graph.model import Model
from ...graph.shapes import symbols

FREE = 9001
"""Numbers that stand for free lengths are as large at least."""


def free_numbers(model: Model) -> dict[str, int]:
    """A prime for each symbol of the inputs. Raises UsageError where there are more than anybody would pin."""
    free = symbols(model)
    primes = [n for n in range(FREE, FREE + 1000) if all(n % d for d in range(2, isqrt(n) + 1))]
    if len(free) > len(primes):
        raise UsageError("the model has too many free sizes to follow", fix="pin them with --shape")
    return dict(zip(free, primes, strict=False))


def named(shape: Sequence[int], numbers: Mapping[str, int], what: str) -> tuple[int | str, ...]:
    """The shape with the names of free lengths. Raises UsageError where one is computed from a free length."""
    known = {number: name for name, number in numbers.items()}
    if odd := next((n for n in shape if n >= FREE and n not in known and any(n % s == 0 for s in known)), None):
        times = next(f"{odd // s} times {known[s]}" for s in known if odd % s == 0)
        raise UsageError(f"{what} has an axis that is {times} long", fix="pin the free sizes with --shape")
    return tuple(known.get(n, n) for n in shape)
