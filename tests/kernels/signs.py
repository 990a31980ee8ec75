"""What the tests of the kernels draw: random signs as bits, and the instruction sets to try them on."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.kernels import loader
from intaglio.kernels.packing import pack

needs_library = pytest.mark.skipif(not loader.available(), reason=f"no kernels: {loader.why_absent()}")

EVERY_ISA = loader.cpu_features() or ["portable"]
"""The instruction sets of this processor, each asked for in turn. Without the library its reference answers for one."""

LENGTHS = (1, 31, 32, 33, 63, 64, 65, 127, 128, 129)
OUTPUTS = (1, 7, 15, 16, 17, 33)


def bits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random signs as bits. Shapes: the last axis counts signs; result (..., ceil(last / 8))."""
    return pack(rng.integers(0, 2, shape) - 0.5)


def scales(rng: np.random.Generator, count: int) -> np.ndarray:
    """Factors of every kind: negative, zero, tiny, huge, infinite."""
    odd = np.array([-1.5, 0.0, -0.0, 1e-38, -3e38, 2.0**-149, np.inf, 1.0], np.float32)
    return np.where(rng.random(count) < 0.5, rng.choice(odd, count), rng.standard_normal(count)).astype(np.float32)
