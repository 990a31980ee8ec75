"""An augmentation: images with less contrast."""

from __future__ import annotations

import numpy as np

from intaglio.passes.train import AUGMENTATIONS


@AUGMENTATIONS.register("fade")
def fade(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Draw each image to its mean, by half at most."""
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + (images - mean) * (1 - 0.5 * numbers[:, 0, None, None, None])
