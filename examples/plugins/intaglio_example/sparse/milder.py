"""A density scheme: less is taken from small layers."""

from __future__ import annotations

import numpy as np

from intaglio.passes.sparsify.densities.density import Spread


def milder(spread: Spread) -> np.ndarray:
    """In inverse proportion to the fourth root of a layer's weights."""
    return np.asarray(spread.sizes**-0.25)
