"""What something that is plugged in may need to be handed, and what the user must give for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from ..graph.errors import IntaglioError, UsageError
from .base import Context

MEANS, VARIANCES, SECOND_MOMENTS = "means", "variances", "second_moments"
ACTIVATIONS, GRADIENTS, CURVATURE = "activations", "gradients", "curvature"
NEEDS: Mapping[str, str] = {
    MEANS: "mean of each channel that a layer reads",
    VARIANCES: "variance of each channel that a layer reads",
    SECOND_MOMENTS: "mean products of the channels that a layer reads, two at a time",
    ACTIVATIONS: "a sample of what a layer reads",
    GRADIENTS: "gradients of the loss with respect to each weight; they take torch",
    CURVATURE: "how these gradients change along themselves, which takes gradients twice",
}
"""All are taken from calibration data."""


def undeclared(what: str, need: str) -> IntaglioError:
    """For one that looks at what it did not ask for."""
    return IntaglioError(
        f"a {what} looks at {need}, and did not say that it needs them", fix=f'register it with needs=("{need}",)'
    )


def check_needs(whose: str, needs: tuple[str, ...], context: Context) -> None:
    """Raises UsageError where something is needed that the user gave no data for, or torch that is not there."""
    if needs and context.data is None:
        raise UsageError(
            f"{whose} needs calibration data",
            why=f"it looks at {', '.join(needs)} on real inputs, and no inputs are ever made up in silence",
            fix="add --data SOURCE: an .npz whose arrays are named after the graph inputs, a folder of .npy files or "
            "images, an ONNX test_data_set folder, or package.module:callable; labels are not needed",
        )
    if GRADIENTS in needs and find_spec("torch") is None:
        raise UsageError(
            f"{whose} needs torch, which is not installed",
            why="gradients are computed with it",
            fix="pip install 'intaglio[torch]', or choose another: intaglio passes --json tells what each needs",
        )
