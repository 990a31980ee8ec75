"""What is known of what reaches a layer after the data was read once."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.passes.calibration.patches import patches, place_count
from intaglio.passes.calibration.seen import Seen
from tests.passes.calibration.test_patches import lone, the_layer

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("op", "weight", "x", "attributes"),
    [
        ("Conv", (6, 2, 3, 3), (9, 4, 8, 7), {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1]}),
        ("MatMul", (5, 3), (9, 4, 5), {}),
    ],
)
def test_means_are_those_of_all_patches_however_the_samples_come(
    op: str, weight: tuple[int, ...], x: tuple[int, ...], attributes: dict[str, object]
) -> None:
    model = lone(op, ["n", *x[1:]], {"w": DRAW.standard_normal(weight).astype(np.float32)}, **attributes)  # type: ignore[list-item]
    layer, values = the_layer(model), DRAW.standard_normal(x).astype(np.float32)
    seen = Seen(layer)
    for piece in np.array_split(values, 4):
        seen.add(piece)
    everywhere = np.broadcast_to(np.arange(place_count(layer, values)), (len(values), place_count(layer, values)))
    assert seen.mean == pytest.approx(patches(layer, values, everywhere).mean(axis=1), abs=1e-5)
    assert seen.patches.shape[2] == layer.columns
