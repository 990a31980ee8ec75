"""Inner tensors that model and teacher have in common, and which channels of the teacher the model kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from ...graph.errors import UsageError
from ...graph.index import Index, index_of
from ...graph.model import Model

_FEW = 3
"""With fewer sizes of maps than this, tensors all along the network are taken."""
_SPREAD = 4


def shared_features(student: Model, teacher: Model, named: Sequence[str] = ()) -> list[str]:
    """Inner tensors of the same name and size, but for channels: the last of each size, else some along the network.

    Raises UsageError where there is none, or a named one is not in both.
    """
    ours, theirs = index_of(student), index_of(teacher)
    both = [name for name in ours.makers if _alike(name, ours, theirs)]
    for name in named:
        if name not in both:
            raise UsageError(
                f"there is no inner tensor {name!r} that model and teacher have in common",
                fix=f"name one of: {', '.join(both[-5:])}",
            )
    if not both:
        raise UsageError(
            "model and teacher have no inner tensors in common, by name and size",
            fix="use losses of outputs, such as --loss kd or mse",
        )
    if named:
        return list(named)
    last = {_size(ours, name): name for name in both}
    if len(last) >= _FEW:
        return list(last.values())
    return [both[k] for k in np.unique(np.linspace(0, len(both) - 1, _SPREAD + 1).astype(int)[1:])]


def kept_channels(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """For each channel of ours that of theirs which it goes with: the assignment of the largest sum of correlations.

    What pruning removed is found so without being told. Shapes: (samples, channels, ...), both.
    """
    rows = [np.moveaxis(one, 1, 0).reshape(one.shape[1], -1).astype(np.float64) for one in (ours, theirs)]
    centred = [one - one.mean(axis=1, keepdims=True) for one in rows]
    mine, others = (one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in centred)
    return np.asarray(scipy.optimize.linear_sum_assignment(mine @ others.T, maximize=True)[1])


def _alike(name: str, ours: Index, theirs: Index) -> bool:
    if name not in theirs.makers or name in ours.constant or name in theirs.constant:
        return False
    (a, b), (kind, other) = (
        (i.shapes.dims.get(name, ()) for i in (ours, theirs)),
        (i.shapes.dtypes.get(name) for i in (ours, theirs)),
    )
    return kind == other == 1 and len(a) == len(b) >= 3 and a[2:] == b[2:] and a[0] == b[0] and 1 < a[1] <= b[1]


def _size(index: Index, name: str) -> tuple[int, ...]:
    return index.shapes.dims[name][2:]
