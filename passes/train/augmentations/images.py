"""What is done to images."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

from .augmentation import AUGMENTATIONS


@AUGMENTATIONS.register("flip")
def flip(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Mirror one image of two, left to right."""
    return np.where(numbers[:, 0, None, None, None] < 0.5, images[..., ::-1], images)


class CropOptions(BaseModel):
    pixels: int | None = Field(default=None, ge=1, description="how far at most; an eighth of the height unless given")


@AUGMENTATIONS.register("crop", options=CropOptions)
def crop(images: np.ndarray, numbers: np.ndarray, options: CropOptions) -> np.ndarray:
    """Move each image by some pixels; what comes in is mirrored at the border."""
    count, _, high, wide = images.shape
    far = min(options.pixels or max(1, high // 8), high - 1, wide - 1)
    padded = np.pad(images, ((0, 0), (0, 0), (far, far), (far, far)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (high, wide), (2, 3))
    down, right = (numbers[:, :2].T * (2 * far + 1)).astype(np.int64)
    return windows[np.arange(count), :, down, right]


class CutoutOptions(BaseModel):
    share: float = Field(default=0.25, gt=0, lt=1, description="sides of the square beside those of the image")


@AUGMENTATIONS.register("cutout", options=CutoutOptions)
def cutout(images: np.ndarray, numbers: np.ndarray, options: CutoutOptions) -> np.ndarray:
    """Put its mean in the place of a square of each image. Source: DeVries and Taylor, 2017, arXiv:1708.04552."""
    high, wide = images.shape[2:]
    rows = 2 * abs(np.arange(high) - numbers[:, :1] * high) < options.share * high
    columns = 2 * abs(np.arange(wide) - numbers[:, 1:2] * wide) < options.share * wide
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return np.where(inside, images.mean((2, 3), keepdims=True), images)


class ColourOptions(BaseModel):
    strength: float = Field(default=0.2, gt=0, le=1, description="by how much contrast and brightness change at most")


@AUGMENTATIONS.register("colour", options=ColourOptions)
def colour(images: np.ndarray, numbers: np.ndarray, options: ColourOptions) -> np.ndarray:
    """Another contrast for each image, and another brightness in units of its own deviation."""
    gain, shift = (options.strength * (2 * numbers[:, :2].T - 1)).astype(images.dtype)[:, :, None, None, None]
    mean, size = images.mean((1, 2, 3), keepdims=True), images.std((1, 2, 3), keepdims=True)
    return (images - mean) * (1 + gain) + mean + shift * size
