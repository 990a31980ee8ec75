"""Images made worse on purpose, in five ways at five severities: how an accuracy stands what cameras and links do.

What is made worse are the stored pixels, before ``--preprocess``: so nothing has to be undone, and what the model gets is
what it would get of a worse file. Stored floats that were normalized already are taken to reach from black to white in
every channel somewhere in the data.

Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
2019, arXiv:1903.12261: noise, blur, contrast, brightness and JPEG with its strengths, those of CIFAR-10-C for images of up
to 64 pixels, those of ImageNet-C for larger ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from zlib import crc32

import numpy as np

from ...graph.errors import BadData
from ...graph.registry import registers
from .fit import Feed, Form
from .readers import Arrays, Reader
from .source import DataSource

Corrupt = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
SEVERITIES = range(1, 6)
_SMALL = 64
_STRENGTHS: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {
    "noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
"""By severity, for small images and for large ones: deviations, pixels, factors, shifts, qualities."""
CORRUPTIONS: dict[str, Corrupt] = {}
_corrupts = registers(CORRUPTIONS)


@_corrupts("noise")
def _noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Shapes: height, width, channels; of 0 to 1. So in all of these."""
    return np.asarray(image + rng.normal(0, strength, image.shape))


@_corrupts("blur")
def _blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, (strength, strength, 0), mode="nearest"))


@_corrupts("contrast")
def _contrast(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    mean = image.mean(axis=(0, 1))
    return np.asarray((image - mean) * strength + mean)


@_corrupts("brightness")
def _brightness(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The value of HSV rises; hue and saturation stay."""
    value = image.max(axis=2, keepdims=True)
    brighter = np.minimum(value + strength, 1)
    return np.asarray(np.where(value > 0, image * brighter / np.where(value > 0, value, 1), brighter))


@_corrupts("jpeg")
def _jpeg(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    from PIL import Image

    pixels, held = np.rint(image * 255).astype(np.uint8), BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(held, "JPEG", quality=int(strength))
    return np.asarray(Image.open(held), np.float64).reshape(image.shape) / 255


@dataclass(frozen=True)
class Pixels:
    """Where the channels of a stored array stand, None for none, and its black and white. Shapes: low, high (channels,)."""

    channels: int | None
    low: np.ndarray
    high: np.ndarray

    def apply(self, stored: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Change one sample, seen as height, width, channels of 0 to 1."""
        image = stored[..., None] if self.channels is None else np.moveaxis(stored, self.channels - 1, -1)
        shown = np.clip((image.astype(np.float64) - self.low) / (self.high - self.low), 0, 1)
        made = np.clip(change(shown), 0, 1) * (self.high - self.low) + self.low
        made = np.rint(made) if stored.dtype.kind in "iu" else made
        back = made[..., 0] if self.channels is None else np.moveaxis(made, -1, self.channels - 1)
        return back.astype(stored.dtype)


@dataclass(frozen=True, kw_only=True)
class Corrupted(Reader):
    """What another reader gives, the images among it made worse. The same seed gives the same pixels."""

    base: Reader
    pixels: Mapping[str, Pixels]
    kind: str
    severity: int
    seed: int

    def chunks(self, names: Sequence[str], size: int) -> Iterator[Arrays]:
        seen = 0
        for chunk in self.base.chunks(names, size):
            count = max((len(one) for one in chunk.values() if one.ndim), default=0)
            yield {name: self._worse(one, self.pixels.get(name), seen) for name, one in chunk.items()}
            seen += count

    def _worse(self, stored: np.ndarray, pixels: Pixels | None, first: int) -> np.ndarray:
        if pixels is None:
            return stored
        large = min(d for axis, d in enumerate(stored.shape) if axis not in (0, pixels.channels)) > _SMALL
        strength = _STRENGTHS[self.kind][large][self.severity - 1]
        made = []
        for place, sample in enumerate(stored):
            rng = np.random.default_rng([self.seed, crc32(self.kind.encode()), self.severity, first + place])
            made.append(pixels.apply(sample, _change(self.kind, strength, rng)))
        return np.stack(made)


def _change(kind: str, strength: float, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: CORRUPTIONS[kind](image, strength, rng)


def corrupted(source: DataSource, pixels: Mapping[str, Pixels], kind: str, severity: int, seed: int) -> DataSource:
    """The same data, made worse."""
    base = source.reader
    reader = Corrupted(
        base=base, pixels=pixels, kind=kind, severity=severity, seed=seed, fields=base.fields, count=base.count
    )
    return replace(source, reader=replace(reader, whole_runs=base.whole_runs, images=base.images))


def find_pixels(source: DataSource) -> tuple[dict[str, Pixels], list[str]]:
    """The images among stored arrays, and notes on what was taken for black and white. Reads the data once.

    Raises:
        BadData: there are no images.
    """
    places = {f.stored: _channels(source.reader.fields[f.stored].shape, f) for f in source.feeds}
    places = {name: place for name, place in places.items() if place is not False}
    if not places:
        shapes = ", ".join(f"{f.stored} {source.reader.fields[f.stored].shape}" for f in source.feeds)
        raise BadData("--corruptions is for images", why=f"the data holds {shapes}")
    lows, highs = dict[str, np.ndarray](), dict[str, np.ndarray]()
    for chunk in source.reader.chunks(list(places), 64):
        for name, place in places.items():
            axes = tuple(axis for axis in range(chunk[name].ndim) if axis != place or place is None)
            low, high = (np.atleast_1d(f(chunk[name], axis=axes)).astype(np.float64) for f in (np.min, np.max))
            lows[name] = np.minimum(lows.get(name, low), low)
            highs[name] = np.maximum(highs.get(name, high), high)
    found, notes = dict[str, Pixels](), list[str]()
    for name, place in places.items():
        low, high, note = _range(name, source.reader.fields[name].dtype, lows[name], highs[name])
        found[name], notes = Pixels(place or None, low, high), [*notes, *note]
    return found, notes


def _channels(shape: tuple[int, ...], feed: Feed) -> int | bool | None:
    """The axis of the channels, None where there is none; False for what is no image."""
    if feed.form is not Form.ROWS or len(shape) not in (3, 4):
        return False
    if len(shape) == 3:
        return None if min(shape[1:]) > 4 else False
    said = [3 if step.word == "nchw" else 1 for step in feed.preprocess.steps if step.key == "layout"]
    taken = [axis for axis in (3, 1) if feed.port.shape and feed.port.shape[axis] in (1, 3)]
    fitting = [axis for axis in (*said, *taken, 3, 1) if shape[axis] in (1, 3)]
    return fitting[0] if fitting else False


def _range(name: str, dtype: np.dtype, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Black and white of each channel: of bytes, of parts of 1, of numbers to 255, else what the data reach."""
    for white in (1.0, 255.0):
        if (dtype == np.uint8 and white == 255) or (dtype.kind == "f" and low.min() >= 0 and high.max() <= white):
            return np.zeros(len(low)), np.full(len(low), white), []
    told = ", ".join(f"{a:.4g} to {b:.4g}" for a, b in zip(low, high, strict=True))
    return (
        low,
        np.where(high > low, high, low + 1),
        [f"{name!r} holds no pixels as they are: {told} count as black and white"],
    )
