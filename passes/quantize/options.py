"""Options of quantization."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ...graph.errors import UsageError
from ..options import Dialect, Entries, Registered, RoundedOptions, option

AUTO = "auto"
"""The best of all range methods, or of all roundings."""

_RESTORED = re.compile(r"int8|mixed|w\d+(a\d+)?")
"""Schemes that ``repair`` is for."""


def _input_range(text: str) -> tuple[str, float, float]:
    """``image:-2.1,2.6``"""
    name, _, limits = text.rpartition(":")
    low, high = (float(x) for x in limits.split(","))
    if not name or not low < high:
        raise ValueError(text)
    return name, low, high


def _layer_bits(text: str) -> tuple[str, int]:
    """``conv1=4``"""
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal() or len(number) > 1:
        raise ValueError(text)
    return name, int(number)


Bits = Annotated[int, Field(ge=2, le=8)]


class QuantizeOptions(RoundedOptions):
    scheme: Annotated[str, Registered("intaglio.schemes", also=(r"w\d+a\d+",))] = option(
        "int8",
        "int8, dynamic, w8, w4, w3, w2, mixed, fp16, bf16, or wXaY such as w4a8: see intaglio passes.",
        "target",
        short="-s",
        shown="int8; mixed with --bits or --size",
    )
    target: Annotated[str, Registered("intaglio.targets")] = option(
        "x86", "What will run it: x86, x86-avx2, arm, web, openvino, tensorrt, tflite, generic.", "target"
    )
    ranges: Annotated[str, Registered("intaglio.ranges", also=(AUTO,))] = option(
        AUTO, "Ranges of activations: minmax, percentile, mse, entropy, or the best of them.", "method"
    )
    method: Annotated[str, Registered("intaglio.rounders")] = option(
        AUTO, "How weights are rounded: nearest, mse, gptq, descent, adaround, or the best of them.", "method"
    )
    group_size: int | None = option(
        None, "Weights that share a scale, 0 for all of an output channel.", "method", shown="by scheme", ge=0
    )
    bits: float | None = option(
        None, "Bits per weight on average: layers get different numbers.", "target", unit="bits", ge=2, le=8
    )
    size: float | None = option(
        None,
        "Keep this fraction of the file's bytes, likewise; with int8 they are computed in 8 bits all the same.",
        "target",
        unit="fraction",
        gt=0,
        le=1,
    )
    layer_bits: Annotated[tuple[tuple[str, Bits], ...], Entries(_layer_bits, "NAME=BITS", "conv1=4")] = option(
        (),
        "Bits of this layer, by the name of its node or weight; those that are not named get 8. Repeatable.",
        "target",
        flag="--layer-bits",
    )
    allocator: Annotated[str, Registered("intaglio.allocators")] = option(
        "dp", "How --bits and --size are divided: dp, greedy, ompq.", "method"
    )
    sensitivity: Literal["outputs", "divergence", "layer"] = option(
        "outputs",
        "With --bits and --size, what a layer in fewer bits loses: the squared error of the outputs, the divergence of the "
        "classes' probabilities, or the error of the layer itself, for which the network need not run.",
        "method",
    )
    dialect: Dialect | None = option(
        None,
        "What calibration runs on: data like the training data, any data of the right shape, or none: made-up noise, or "
        "inputs distilled from what BatchNormalization kept, which needs torch; 512 and 128 samples unless --samples "
        "says how many.",
        "data",
        shown="id with data",
    )
    max_drop: float | None = option(
        None,
        "Lose no more accuracy: layers that hurt most keep more bits. Needs --eval-data.",
        "accuracy",
        unit="points",
        ge=0,
    )
    smooth: float | None = option(
        None, "SmoothQuant before rounding, 0.5 is usual. Needs --data.", "advanced", unit="alpha", ge=0, le=1
    )
    equalize: bool = option(False, "Level the weights of consecutive layers first; always without data.", "advanced")
    repair: Literal["none", "udfc"] = option(
        "none",
        "Without data: udfc lets layers make up for what rounding takes from the channels that they read, where "
        "BatchNormalization tells.",
        "method",
    )
    keep_io: bool = option(True, "With fp16: graph inputs and outputs stay float32.", "advanced")
    min_sqnr: float = option(30.0, "With fp16 and bf16: nodes below this stay float32.", "advanced", unit="dB")
    input_ranges: Annotated[
        tuple[tuple[str, float, float], ...], Entries(_input_range, "NAME:LOW,HIGH", "image:-2.1,2.6")
    ] = option(
        (),
        "Range of a graph input, for int8 without data. Repeatable.",
        "data",
        flag="--input-range",
        shown="8-bit pixels after --preprocess",
    )
    verify: bool = option(True, "Run the result and look at what the runtime makes of it.", "accuracy")

    @model_validator(mode="before")
    @classmethod
    def _usual_scheme(cls, given: dict[str, Any]) -> dict[str, Any]:
        budget = any(given.get(name) is not None for name in ("bits", "size")) or bool(given.get("layer_bits"))
        return {"scheme": "mixed", **given} if budget else given

    @model_validator(mode="after")
    def _one_budget(self) -> QuantizeOptions:
        given = [name for name in ("bits", "size", "layer_bits") if getattr(self, name) not in (None, ())]
        if len(given) > 1:
            raise UsageError(f"`{given[0]}` and `{given[1]}` exclude each other", fix="give one of them")
        if self.repair != "none" and not _RESTORED.fullmatch(self.scheme):
            raise UsageError(
                f"scheme {self.scheme} rounds no layer's weights to integers ahead of a run, so `repair` has nothing to do",
                fix="leave `repair` out, or take int8, w8, w4, w3, w2 or wXaY",
            )
        if self.layer_bits and self.scheme != "mixed":
            raise UsageError(f"scheme {self.scheme} gives all layers the same bits", fix="leave `scheme` out")
        return self
