"""Ranges and means of activations without data, from what BatchNormalization remembers of its training.

A channel that BatchNormalization made is normal with mean ``shift`` and deviation ``|scale|``; ``calibration.normal``
carries that through the operators behind it. A tensor's range is what its channels are within six deviations, as far
as a rectifier or Clip lets through. All is found on the model with BatchNormalization kept, equalized or not, and said
of the tensors that are still there when it is folded: those keep their names.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
arXiv:1906.04721, sections 4.1.3, 4.2.1 and 5.5.
Differs: means and variances are carried through sums, pooling and layers without BatchNormalization too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from ....graph.errors import BadData, UsageError
from ....graph.index import index_of
from ....graph.model import Model
from ....graph.nodes import is_standard
from ....graph.traits import Trait, data_operands, has, operator
from ....measure.run.tensor_specs import input_specs
from ...calibration.normal.moments import GRID, Normal, moments
from ...simplify import fold_batch_norm

REACH = 6.0
"""Deviations from the mean that a range covers, as in the paper."""
Range = tuple[float, float]


class StatisticsMissing(UsageError):
    """Nothing tells what activations are like. Raised where there is no BatchNormalization left, or no range of an input."""


def statistics(model: Model) -> dict[str, Normal]:
    """Means and variances of activations.

    Raises:
        StatisticsMissing: the model holds no BatchNormalization that tells them.
    """
    if not any(has(n, Trait.STANDARDIZES) for n in model.graph.node):
        raise StatisticsMissing(
            "the ranges of activations are not known without data",
            why="they are read off BatchNormalization, and this model has none: it was folded before, or never there",
            fix="export the model with BatchNormalization kept (torch.onnx.export with training=TrainingMode.PRESERVE "
            "and do_constant_folding=False), give calibration data with --data, or quantize weights only",
        )
    return moments(model)


def ranges(model: Model, inputs: Mapping[str, Range] | None = None) -> dict[str, Range]:
    """Lowest and highest value of each activation of the folded model of which something is known, by name.

    ``inputs`` are the ranges of the graph inputs, which nothing in a model tells.

    Raises:
        StatisticsMissing: there is no BatchNormalization, or an input has no range.
        BadData: the range of an input is empty or not finite.
    """
    known = statistics(model)
    folded = fold_batch_norm(model)[0]
    there = index_of(folded).place
    found = _inputs(folded, inputs or {})
    found.update({name: _range(x) for name, x in known.items() if name in there})
    for node in folded.graph.node:  # what scales inputs before the first layer
        if node.output[0] not in found:
            scaled = _scaled(node, folded, found)
            if scaled is not None:
                found[node.output[0]] = scaled
    return found


def _inputs(model: Model, stated: Mapping[str, Range]) -> dict[str, Range]:
    found = {}
    specs = {p.name: p for p in input_specs(model)}
    for name in sorted({*stated} - {*specs}):
        raise UsageError(f"the model has no input {name!r}", fix=f"its inputs are {', '.join(specs)}")
    for name, spec in specs.items():
        if spec.dtype.kind != "f":
            continue
        if name not in stated:
            raise StatisticsMissing(
                f"the range of the input {name!r} is not known",
                why="BatchNormalization tells what is behind it, nothing in a model tells what is fed to it",
                fix="say how inputs are scaled, with --preprocess (pixels from 0 to 1 less mean, over std), "
                "or give calibration data with --data",
            )
        low, high = (float(end) for end in stated[name])
        if not (np.isfinite([low, high]).all() and low < high):
            raise BadData(
                f"the range of the input {name!r} is from {low} to {high}", fix="give two numbers, the lower first"
            )
        found[name] = low, high
    return found


def _range(x: Normal) -> Range:
    """What the tensor's channels are as far as the variable that they follow goes, six deviations at most."""
    values = x.values()[..., np.abs(GRID) <= REACH + 1e-9]
    return float(values.min()), float(values.max())


def _scaled(node: onnx.NodeProto, model: Model, found: Mapping[str, Range]) -> Range | None:
    """The range behind arithmetic with constants, or what moves values about, or has bounds; None for anything else."""
    if not is_standard(node) or len(node.output) > 1:
        return None
    known = [found.get(name) or _ends(model.weights.get(name)) for name in data_operands(node)]
    if has(node, Trait.MOVES):
        ends = [end for end in known if end is not None]
        return (min(low for low, _ in ends), max(high for _, high in ends)) if len(ends) == len(known) else None
    bounds = operator(node).bounds
    if bounds is not None and np.isfinite(bounds).all():
        return bounds
    function = _ARITHMETIC.get(node.op_type)
    if function is None or node.input[0] == node.input[1]:
        return None
    left, right = known
    if left is None or right is None or (node.op_type == "Div" and right[0] <= 0 <= right[1]):
        return None
    values = [float(function(a, b)) for a in left for b in right]
    return min(values), max(values)


def _ends(value: np.ndarray | None) -> Range | None:
    if value is None or value.dtype.kind != "f" or not value.size:
        return None
    return float(value.min()), float(value.max())


_ARITHMETIC: Mapping[str, np.ufunc] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
