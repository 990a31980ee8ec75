"""How one stored array becomes one graph input: which axis counts samples, and which type it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from ...graph.errors import BadData
from ..run.tensor_specs import TensorSpec, dims_match
from .preprocess import Preprocess
from .preprocess_steps import Step
from .readers import Field, Shape


class Form(Enum):
    """How the samples of an array meet the input."""

    ROWS = "rows"  # the first axis of both counts samples
    RUNS = "runs"  # each sample is the complete input of one run
    LONE = "lone"  # one value for every run


@dataclass(frozen=True)
class Feed:
    """One stored array on its way into one input. ``sample_shape`` is set where samples must be reshaped."""

    stored: str
    port: TensorSpec
    preprocess: Preprocess
    form: Form
    sample_shape: Shape | None = None
    channels_last: bool | None = None

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """What goes into the model. Raises BadData where values do not fit the type."""
        lone = array.ndim == 0
        ready = self.preprocess(array[None] if lone else array, channels_last=self.channels_last)
        ready = ready[0] if lone or self.form is Form.RUNS else ready
        if self.sample_shape is not None:
            ready = ready.reshape(len(ready), *self.sample_shape)
        return np.require(convert(ready, self.port.dtype, self.stored), requirements="C")


def fit(stored: str, field: Field, port: TensorSpec, preprocess: Preprocess, *, images: bool, whole_runs: bool) -> Feed:
    """Find how the array fits. Images whose channels stand in another place, where no layout was said, have them moved.

    Raises:
        BadData: it does not; says what would make it fit.
    """
    shape = preprocess.shape_after(field.shape)
    last = True if images else None
    check_type(stored, _type_after(field.dtype, preprocess), port)
    if not whole_runs and _rows_fit(port, shape):
        return Feed(stored, port, preprocess, Form.ROWS, channels_last=last)
    if shape and port.accepts(shape[1:]):
        return Feed(stored, port, preprocess, Form.RUNS, channels_last=last)
    if port.shape == () and field.shape == ():
        return Feed(stored, port, preprocess, Form.LONE)
    if not whole_runs and port.shape is not None and _differs_in_ones(shape[1:], port.shape[1:]):
        wanted = tuple(d for d in port.shape[1:] if isinstance(d, int))
        return Feed(stored, port, preprocess, Form.ROWS, wanted, last)
    if not whole_runs and (layout := _layout(shape, port)) and not any(s.key == "layout" for s in preprocess.steps):
        moved = replace(preprocess, steps=(*preprocess.steps, Step("layout", word=layout)))
        return Feed(stored, port, moved, Form.ROWS, channels_last=last)
    raise misfit(stored, field.shape, preprocess, port, images)


def _layout(shape: Shape, port: TensorSpec) -> str:
    """The layout that makes images fit: nchw, nhwc, or none."""
    sample, wanted = shape[1:], (port.shape or ())[1:]
    if len(sample) != 3 or len(wanted) != 3:
        return ""
    turned = {"nchw": (sample[2], *sample[:2]), "nhwc": (*sample[1:], sample[0])}
    return next((word for word, moved in turned.items() if dims_match(wanted, moved)), "")


def is_one_sample(field: Field, port: TensorSpec, preprocess: Preprocess) -> bool:
    """Whether the array is a single sample that lacks the axis which counts samples."""
    if port.shape is None or len(field.shape) + 1 != len(port.shape) or not field.shape:
        return False
    try:
        shape = preprocess.shape_after((1, *field.shape))
    except BadData:  # a step that only fits the array as it is
        return False
    return dims_match(port.shape[1:], shape[1:])


def misfit(stored: str, stored_shape: Shape, preprocess: Preprocess, port: TensorSpec, images: bool) -> BadData:
    """The error for an array that does not fit, with the likeliest remedy."""
    shape = preprocess.shape_after(stored_shape)
    told = f"{stored_shape}" if shape == stored_shape else f"{stored_shape}, after --preprocess {shape}"
    return BadData(
        f"{'the images do' if images else f'the array {stored!r} does'} not fit the input {port.name!r}",
        why=f"the shape is {told}; the model takes {port.describe()}",
        fix=_layout_remedy(stored_shape, preprocess, port) or _remedy(shape, port, images),
    )


def _layout_remedy(stored: Shape, preprocess: Preprocess, port: TensorSpec) -> str:
    """What to say where a layout step moved channels that were in place, or moved them the wrong way."""
    layout = next((s.word for s in preprocess.steps if s.key == "layout"), None)
    wanted, sample = (port.shape or ())[1:], stored[1:]
    if layout is None or len(sample) < 2:
        return ""
    if dims_match(wanted, sample):
        return f"the data is as the model takes it: leave layout={layout} out of --preprocess"
    other = "nhwc" if layout == "nchw" else "nchw"
    turned = (sample[-1], *sample[:-1]) if other == "nchw" else (*sample[1:], sample[0])
    return f"the model takes {other.upper()}: say layout={other} in --preprocess" if dims_match(wanted, turned) else ""


def _remedy(shape: Shape, port: TensorSpec, images: bool) -> str:
    wanted = port.shape or ()
    sample, wanted_sample = shape[1:], wanted[1:]
    if len(sample) == len(wanted_sample) >= 2:
        if dims_match(wanted_sample, (sample[-1], *sample[:-1])):
            return "the data is NHWC and the model takes NCHW: add layout=nchw to --preprocess"
        if dims_match(wanted_sample, (*sample[1:], sample[0])):
            return "the data is NCHW and the model takes NHWC: add layout=nhwc to --preprocess"
        if images:
            return "bring the images to the model's size with --preprocess resize=HxW, and say layout=nchw if it takes NCHW"
    numbers = [d for d in wanted_sample if isinstance(d, int)]
    if len(numbers) == len(wanted_sample) and numbers and np.prod(sample, dtype=np.int64) == np.prod(numbers):
        return f"if only the grouping differs, add shape={'x'.join(map(str, numbers))} to --preprocess"
    form = f"(samples{''.join(f', {d}' for d in wanted_sample)})"
    free = ", where names stand for any size" if any(isinstance(d, str) for d in wanted_sample) else ""
    return f"give an array of shape {form}{free}; arrays are never resized"


def _rows_fit(port: TensorSpec, shape: Shape) -> bool:
    if port.shape is None:
        return bool(shape)
    return len(shape) == len(port.shape) > 0 and dims_match(port.shape[1:], shape[1:])


def _differs_in_ones(sample: Shape, wanted: tuple[int | str, ...]) -> bool:
    """Whether only axes of length one are missing or too many, so that reshaping moves nothing."""
    numbers = [d for d in wanted if isinstance(d, int)]
    return len(numbers) == len(wanted) and [d for d in sample if d != 1] == [d for d in numbers if d != 1]


def _type_after(dtype: np.dtype, preprocess: Preprocess) -> np.dtype:
    for step in preprocess.steps:
        if step.key == "dtype":
            dtype = np.dtype(step.word)
        elif step.key in ("scale", "offset", "mean", "std") and dtype not in (np.float32, np.float64):
            dtype = np.dtype(np.float32)
    return dtype


def check_type(stored: str, dtype: np.dtype, port: TensorSpec) -> None:
    """Whether the values may be converted without losing their meaning. Raises BadData."""
    wanted, held, why = port.dtype, f"{dtype} numbers", ""
    texts = dtype.kind in "USO"
    if texts != (wanted.kind == "O"):
        held = "text" if texts else held
        fix = "give text" if wanted.kind == "O" else "save the numbers themselves"
    elif dtype.kind == "V" and dtype.names:
        held, fix = (
            f"a structured array with the fields {', '.join(dtype.names)}",
            "save one plain array per graph input",
        )
    elif dtype.kind == "c" and wanted.kind != "c":
        why, fix = "the imaginary parts would be lost", "save the real parts if they are meant"
    elif dtype.kind == "f" and wanted.kind in "iub":
        fix = f"if cutting off the fractions is meant, add dtype={wanted} to --preprocess"
    elif wanted.kind == "b" and dtype.kind != "b":
        fix = "if every number but 0 means true, add dtype=bool to --preprocess"
    else:
        return
    raise BadData(f"{stored!r} holds {held}, the input {port.name!r} takes {port.describe()}", why=why, fix=fix)


def convert(array: np.ndarray, wanted: np.dtype, stored: str) -> np.ndarray:
    """The same values in that type. Raises BadData where an integer does not fit."""
    if array.dtype == wanted:
        return array
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise BadData(
                f"{stored!r} holds {low}..{high}, which does not fit {wanted}",
                why=f"{wanted} goes from {limits.min} to {limits.max}",
                fix="check that the data belongs to this model",
            )
    return array.astype(wanted)
