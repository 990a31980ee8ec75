"""What something that is plugged in may need to be handed, and what the user must give for it."""

from __future__ import annotations

from collections.abc import Mapping

from ..graph.errors import UsageError
from .base import Context

MEANS, VARIANCES, SECOND_MOMENTS = "means", "variances", "second_moments"
ACTIVATIONS, GRADIENTS = "activations", "gradients"
NEEDS: Mapping[str, str] = {
    MEANS: "mean of each channel that a layer reads",
    VARIANCES: "variance of each channel that a layer reads",
    SECOND_MOMENTS: "mean products of the channels that a layer reads, two at a time",
    ACTIVATIONS: "a sample of what a layer reads",
    GRADIENTS: "gradients of the loss",
}
"""All but gradients are taken from calibration data."""


def check_needs(whose: str, needs: tuple[str, ...], context: Context) -> None:
    """Raises UsageError where something is needed that the user gave no data for, or that there is no way to get."""
    if GRADIENTS in needs:
        raise UsageError(
            f"{whose} needs gradients",
            why="no pass computes gradients yet: that takes a run in a training framework",
            fix="choose another: intaglio passes --json tells what each needs",
        )
    if needs and context.data is None:
        raise UsageError(
            f"{whose} needs calibration data",
            why=f"it looks at {', '.join(needs)} of what layers read, and no inputs are ever made up in silence",
            fix="add --data SOURCE: an .npz whose arrays are named after the graph inputs, a folder of .npy files or "
            "images, an ONNX test_data_set folder, or package.module:callable; labels are not needed",
        )
