"""Images changed in ways that leave alone what they show.

An augmentation is given numbers that belong to each sample, so that a sample looks the same in every run, whatever stands
beside it in a batch. Third parties add one through the entry point group ``intaglio.augmentations``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ....graph.registry import Registry

VARIANTS = 4
"""So many changes of each sample there are: a teacher's outputs are computed once for each."""
NUMBERS = 4
"""Numbers from 0 to 1 that an augmentation gets for each sample."""

Augmentation = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Shapes: images (samples, channels, height, width), numbers (samples, NUMBERS) -> images."""
AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentation", "intaglio.augmentations", "intaglio.passes.train.augmentations"
)


@dataclass(frozen=True)
class Augmented:
    """What is done to each of ``samples`` images, in one of ``variants`` ways."""

    ways: Sequence[Augmentation]
    samples: int
    seed: int
    mixup: float = 0.0

    @property
    def variants(self) -> int:
        return VARIANTS if self.ways or self.mixup else 1

    def mixed(self, train: np.ndarray, places: np.ndarray, variant: int) -> tuple[np.ndarray, np.ndarray]:
        """With which other sample each is mixed, and how much of itself stays: the same in every run of a variant."""
        draw = np.random.default_rng([self.seed, 4, variant])
        partner, share = draw.integers(len(train), size=self.samples), draw.beta(self.mixup, self.mixup, self.samples)
        return train[partner[places]], np.maximum(share, 1 - share)[places].astype(np.float32)

    @cached_property
    def _numbers(self) -> np.ndarray:
        """Shapes: (variants, ways, samples, NUMBERS)."""
        draw = np.random.default_rng([self.seed, 2])
        return draw.random((self.variants, len(self.ways), self.samples, NUMBERS), dtype=np.float32)

    def __call__(self, inputs: dict[str, np.ndarray], places: np.ndarray, variant: int) -> dict[str, np.ndarray]:
        """The samples that stand at these places."""
        return {name: self._changed(value, places, variant) for name, value in inputs.items()}

    def _changed(self, value: np.ndarray, places: np.ndarray, variant: int) -> np.ndarray:
        if not is_image(value):
            return value
        images = channels_first(value)
        for k, way in enumerate(self.ways):
            images = np.ascontiguousarray(way(images, self._numbers[variant, k, places]), value.dtype)
        return images if images.shape == value.shape else np.ascontiguousarray(np.moveaxis(images, 1, 3))


def is_image(value: np.ndarray) -> bool:
    return value.ndim == 4 and value.dtype.kind == "f" and min(channels_first(value).shape[2:]) > 1


def is_colour_image(value: np.ndarray) -> bool:
    return is_image(value) and channels_first(value).shape[1] == 3


def channels_first(images: np.ndarray) -> np.ndarray:
    """Shapes: (samples, height, width, 1 or 3) or (samples, channels, height, width) -> the latter."""
    last = images.shape[3] in (1, 3) and images.shape[1] not in (1, 3)
    return np.moveaxis(images, 3, 1) if last else images
