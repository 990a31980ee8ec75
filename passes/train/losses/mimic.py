"""Inner tensors beside the teacher's, in the directions that say most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .loss import FEATURES, LOSSES, TEACHER, Answers

if TYPE_CHECKING:
    from torch import Tensor


class Directions(BaseModel):
    share: float = Field(
        default=0.25, gt=0, le=1, description="of the channels, so many principal directions are compared"
    )


@LOSSES.register("lrm", options=Directions, needs=(TEACHER, FEATURES))
def low_rank_mimicking(answers: Answers, options: Directions) -> Tensor:
    """Mean square of differences in the teacher's principal directions, beside their variance.

    Source: Zheng et al., BinaryDM, 2024, arXiv:2404.05662. Differs: directions are those of each batch, not of the first.
    Shapes: features (samples, channels, ...).
    """
    import torch

    total = torch.zeros(())
    for name, theirs in answers.inner.items():
        ours = answers.features[name]
        if theirs.ndim < 2 or theirs.shape != ours.shape:
            continue
        wanted, given = (one.movedim(1, -1).reshape(-1, one.shape[1]) for one in (theirs, ours))
        centred = wanted - wanted.mean(0)
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        count = max(1, round(options.share * len(values)))
        basis = vectors[:, -count:]
        total = total + ((given - wanted) @ basis).square().mean() / values[-count:].mean().clamp_min(1e-12)
    return total
