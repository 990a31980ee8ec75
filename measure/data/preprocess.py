"""``--preprocess``: turning stored data into what a model was trained on.

A description is a list of steps separated by commas, applied from left to right to arrays whose first axis counts
samples::

    scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=nchw

============================  ======================================================================
``scale=F``                   multiply by a number or a fraction
``offset=F``                  add a number
``mean=F`` ``mean=F:F:F``     subtract: one number, or one per channel
``std=F`` ``std=F:F:F``       divide: by one number, or one per channel
``layout=nchw``               move the channels from the last to the second place
``layout=nhwc``               move the channels from the second to the last place
``channels=bgr``              reverse the order of three channels
``shape=AxBxC``               give each sample that shape, its elements in the same order
``dtype=NAME``                convert to a float, integer or bool type
``resize=S`` ``resize=HxW``   image files only: scale the short side to S, or to exactly H by W
``crop=S`` ``crop=HxW``       image files only: cut out the centre
============================  ======================================================================

A preset stands for the steps in ``steps.PRESETS``. For a model with several inputs say which one is meant, and
separate several with semicolons: ``image:unit,layout=nchw;size:dtype=int64``. Arithmetic is done in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ...graph.errors import BadData, UsageError
from .preprocess_steps import Step, parse_steps

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Preprocess:
    """The steps for one input. ``text`` is how the user wrote them."""

    text: str = "none"
    steps: tuple[Step, ...] = ()

    @property
    def image_steps(self) -> tuple[Step, ...]:
        """Steps that work on image files, before they become arrays."""
        return tuple(s for s in self.steps if s.key in ("resize", "crop"))

    def shape_after(self, shape: Shape) -> Shape:
        """Shape of the result for an array of that shape. Raises BadData where a step does not fit."""
        for step in self.steps:
            shape = _SHAPES[step.key](shape, step) if step.key in _SHAPES else shape
        return shape

    def __call__(self, array: np.ndarray, *, channels_last: bool | None = None) -> np.ndarray:
        """Apply the steps; ``channels_last`` where that is known and no layout step says it.

        Shapes: (samples, ...) to (samples, ...).
        """
        layout = next((s.word for s in self.steps if s.key == "layout"), None)
        last = channels_last if layout is None else layout == "nchw"
        for step in self.steps:
            if step.key in _CHANGES:
                array = _CHANGES[step.key](array, step, last)
            if step.key == "layout":
                last = step.word == "nhwc"
        return array


def parse_preprocess(text: str | None, inputs: Iterable[str]) -> dict[str, Preprocess]:
    """Read a description into the steps for each input; inputs it does not name get none.

    Raises:
        UsageError: it is malformed, or does not say which of several inputs it means.
    """
    names = list(inputs)
    found: dict[str, Preprocess] = {}
    for part in (text or "").split(";"):
        name, description = _split_name(part.strip(), names)
        if not description or not names:
            continue
        if name is None and len(names) > 1:
            raise UsageError(
                f"--preprocess {part.strip()!r} does not say which input it is for",
                why=f"the model has {len(names)} inputs: {', '.join(names)}",
                fix=f"name it: --preprocess {names[0]}:{description}",
            )
        target = name or names[0]
        if target in found:
            raise UsageError(f"--preprocess describes input {target!r} twice", fix="join the steps with commas")
        found[target] = Preprocess(description, parse_steps(description))
    return {name: found.get(name, Preprocess()) for name in names}


def _split_name(part: str, inputs: list[str]) -> tuple[str | None, str]:
    """``name:steps`` or just ``steps``. Input names may hold colons, and so do per-channel values."""
    for name in sorted(inputs, key=len, reverse=True):
        if part.startswith(f"{name}:"):
            return name, part[len(name) + 1 :].strip()
    head = part.split("=", 1)[0]
    if ":" in head:
        raise UsageError(
            f"--preprocess names {head.rpartition(':')[0]!r}, which is no input of the model",
            fix=f"choose one of {', '.join(inputs)}",
        )
    return None, part


def _floating(array: np.ndarray) -> np.ndarray:
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _scale(array: np.ndarray, step: Step, last: bool | None) -> np.ndarray:
    number, array = step.numbers[0], _floating(array)
    scaled = array if number.over == 1 else array * array.dtype.type(number.over)
    return scaled if number.under == 1 else scaled / array.dtype.type(number.under)


def _offset(array: np.ndarray, step: Step, last: bool | None) -> np.ndarray:
    array = _floating(array)
    return np.asarray(array + array.dtype.type(step.numbers[0].value))


def _along_channels(array: np.ndarray, step: Step, last: bool | None) -> np.ndarray:
    values = np.array([n.value for n in step.numbers], array.dtype)
    axis = 0 if len(values) == 1 else _channel_axis(array.shape, len(values), last)
    return values.reshape([-1 if i == axis else 1 for i in range(array.ndim)])


def _channel_axis(shape: Shape, count: int, last: bool | None) -> int:
    """Axis of the channels: said by a layout step, else the one of the right length."""
    places = {1, len(shape) - 1} if last is None else {len(shape) - 1 if last else 1}
    fitting = [axis for axis in places if 0 < axis < len(shape) and shape[axis] == count]
    if len(fitting) == 1:
        return fitting[0]
    raise BadData(
        f"--preprocess has values for {count} channels, but data of shape {shape} has none such",
        why="the channels are looked for in the second and the last place" if last is None else "",
        fix="give one value per channel; say layout=nchw where the data is NHWC and the model takes NCHW",
    )


def _moved(shape: Shape, step: Step) -> Shape:
    if len(shape) < 3:
        raise BadData(f"layout={step.word} needs channels and positions", why=f"the data has shape {shape}")
    n, *rest = shape
    return (n, rest[-1], *rest[:-1]) if step.word == "nchw" else (n, *rest[1:], rest[0])


def _reshaped(shape: Shape, step: Step) -> Shape:
    if np.prod(shape[1:], dtype=np.int64) != np.prod(step.sizes, dtype=np.int64):
        wanted = "x".join(map(str, step.sizes))
        raise BadData(f"shape={wanted} does not fit", why=f"one sample of the data has shape {shape[1:]}")
    return (shape[0], *step.sizes)


_SHAPES: dict[str, Callable[[Shape, Step], Shape]] = {"layout": _moved, "shape": _reshaped}


def _move_channels(array: np.ndarray, step: Step, last: bool | None) -> np.ndarray:
    _moved(array.shape, step)
    return np.moveaxis(array, -1, 1) if step.word == "nchw" else np.moveaxis(array, 1, -1)


_CHANGES: dict[str, Callable[[np.ndarray, Step, bool | None], np.ndarray]] = {
    "scale": _scale,
    "offset": _offset,
    "mean": lambda array, step, last: _floating(array) - _along_channels(_floating(array), step, last),
    "std": lambda array, step, last: _floating(array) / _along_channels(_floating(array), step, last),
    "layout": _move_channels,
    "channels": lambda array, step, last: np.flip(array, _channel_axis(array.shape, 3, last)),
    "shape": lambda array, step, last: array.reshape(_reshaped(array.shape, step)),
    "dtype": lambda array, step, last: array.astype(step.word),
}
"""What each step does to an array; those on image files were done before."""
