"""Dynamic int8: weights become integers beforehand, activations while the model runs, so no calibration data is needed.

A product with a constant matrix becomes

    q, a, z = DynamicQuantizeLinear(x)                     a = (max(x, 0) - min(x, 0)) / 255, u8
    y = Cast(MatMulInteger(q, Q, z)) · (a · s) + b         Q = round(w / s), s = max|w| / 127 of each column, s8

in standard operators. Products that read the same tensor share its integers. ONNX Runtime fuses each into one kernel:
``DynamicQuantizeMatMul``, or ``MatMulIntegerToFloat`` where the integers are shared. An LSTM becomes ONNX Runtime's own
``DynamicQuantizeLSTM``.

Sources: ONNX operators DynamicQuantizeLinear and MatMulInteger; ONNX Runtime contrib operator DynamicQuantizeLSTM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto

from ....graph.errors import BadModel
from ....graph.layers import LEFT, OTHER_TYPE, STACK, Layers
from ....graph.model import Model
from ....graph.nodes import attribute, display_name, is_standard
from ....graph.traits import Trait, has
from ...patterns import choose_nodes
from ...precision.grid import WEIGHTS8, Grid, covering_scale
from ...precision.result import Result
from ...rewrite.edit import Edit, Outcome, require_domain
from ...rewrite.weights import MICROSOFT
from ..prepare import convert_prepared
from ..scheme import SCHEMES, Job

HIDDEN = 64
"""Width from which on DynamicQuantizeLSTM is faster than LSTM: 0.8 to 1.2 times as fast at 32, 0.95 to 1.7 at 64, 1.1 to
2.3 at 128, 2.3 to 3.1 at 512, by length and batch (ONNX Runtime 1.31, AVX-512 VNNI, one thread)."""
SMALLEST = 1 << 12
"""Weights from which on a product gains: a square one of 32 x 32 is 0.7 to 1.0 times as fast as in float for 1 to 128
rows, of 64 x 64 0.7 to 1.5 times, of 128 x 128 0.9 to 2.2, of 512 x 512 2.0 to 5.5 (same measurement)."""
_OLDEST = 11
_SLOW_CONV = (
    "ConvInteger is slower than a float Conv (0.2 to 0.4 times as fast with signed weights, 0.8 to 1.2 times with "
    "unsigned ones, measured with ONNX Runtime 1.31): use static int8"
)
_NARROWER = Grid(7, narrow=True)


def dynamic_int8(
    model: Model,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    reduce_range: bool = False,
    smallest: int = SMALLEST,
) -> Outcome:
    """Quantize MatMul, Gemm, LSTM and tables; GRU and RNN in storage only.

    ``smallest`` is the number of weights below which a layer stays as it is. ``reduce_range`` uses 7 bits for weights:
    processors without VNNI add pairs of products in 16 bits, where 8 bits overflow.

    Raises:
        UsageError: a pattern matches nothing.
        BadModel: the operator set is older than 11, which brought these operators.
    """
    if 0 < model.opset < _OLDEST:
        raise BadModel(
            f"dynamic quantization needs operator set {_OLDEST}, this model has {model.opset}",
            why="; ".join(model.notes),
            fix="export the model again with a newer one",
        )
    layers, grid = Layers(model), _NARROWER if reduce_range else WEIGHTS8
    reasons = {one.node: one.reason for one in layers.unused}
    chosen = enumerate(choose_nodes(model, include, exclude))
    left = {place: "it is excluded" for place, wanted in chosen if not wanted}
    while True:
        job = _Work(Edit(model), grid, smallest, reasons)
        outcome = _converted(job, left)
        twice = job.stored_names.intersection(outcome.model.weights)
        nodes = {o for n in model.graph.node if display_name(n) in outcome.done for o in n.output}
        found = {
            place: f"its weight is also read by {', '.join(layers.other_readers(name, nodes))}, as floats"
            for name in sorted(twice)
            for place in layers.index.readers(name)
        }
        if found.keys() <= left.keys():
            return outcome
        left = found | left


def _converted(job: _Work, left: Mapping[int, str]) -> Outcome:
    """All nodes but those that are left for a reason, by their places."""
    done: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for place, node in enumerate(job.model.graph.node):
        rule = _RULES.get(node.op_type) if is_standard(node) else None
        if rule is None:
            job.edit.keep(node)
            continue
        job.edit.replace(node)
        try:
            if place in left:
                raise Left(left[place])
            done[display_name(node)] = rule(job, node)
        except Left as one:
            job.edit.keep(node)
            if one.reason:
                skipped[display_name(node)] = one.reason
    return Outcome(job.edit.finish() if done else job.model, done, skipped)


class Left(Exception):
    """A node stays as it is. Without a reason it holds no weights to begin with."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason


@dataclass
class _Work:
    """The conversion of one model: what has been made so far, so that nothing is made twice."""

    edit: Edit
    grid: Grid
    smallest: int
    reasons: Mapping[str, str]
    _integers: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _stored: dict[tuple[object, ...], tuple[str, str]] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        return self.edit.original

    @property
    def stored_names(self) -> set[str]:
        """Weights that were made integers, for some of their readers at least."""
        return {str(key[0]) for key in self._stored}

    def weight(self, node: onnx.NodeProto, i: int, smallest: int | None = None) -> np.ndarray:
        """Operand ``i`` as a constant. Raises Left where it has an obstacle."""
        if told := self.obstacle(node, i, smallest):
            raise Left(told)
        return self.model.weights[node.input[i]]

    def obstacle(self, node: onnx.NodeProto, i: int, smallest: int | None = None) -> str:
        """Why operand ``i`` is no constant float32 array that is worth it; empty where it is."""
        value = self.model.weights.get(node.input[i])
        if value is None:
            return self.reasons.get(node.output[0], "its weight is computed")
        if value.dtype != np.float32:
            return OTHER_TYPE.format(value.dtype)
        if value.size < (self.smallest if smallest is None else smallest):
            return f"it has {value.size} weights only, too few to gain from integers"
        return "" if np.isfinite(value).all() else "its weights are not all finite"

    def integers(self, x: str) -> tuple[str, str, str]:
        """A tensor's integers, their scale and zero point, computed where they are first needed."""
        if x not in self._integers:
            names = [self.edit.tensor(f"{x}_{part}") for part in ("int8", "scale", "zero")]
            self.edit.add("DynamicQuantizeLinear", [x], names, name=names[0])
            self._integers[x] = (names[0], names[1], names[2])
        return self._integers[x]

    def stored(self, name: str, value: np.ndarray, axis: int, *more: object, keep: bool = False) -> tuple[str, str]:
        """Names of an array's integers and of their scales, each of which holds along ``axis``.

        ``keep`` leaves the scales an axis of length 1 there. Arrays of one name, axis and ``more`` are the same.
        """
        key = name, axis, keep, *more
        if key not in self._stored:
            integers, scale = symmetric(value, axis, self.grid)
            scale = scale if keep else scale.squeeze(axis)
            self._stored[key] = (
                self.edit.constant(f"{name}_int8", integers),
                self.edit.constant(f"{name}_scales", scale),
            )
        return self._stored[key]


Rule = Callable[[_Work, onnx.NodeProto], str]
"""Writes a node in integers and says so. Raises Left, before it has written anything."""


def symmetric(value: np.ndarray, axis: int, grid: Grid = WEIGHTS8) -> tuple[np.ndarray, np.ndarray]:
    """Integers and scales, which have length 1 along ``axis``."""
    peak = np.abs(value.astype(np.float64)).max(axis=axis, keepdims=True, initial=0.0)
    scale = covering_scale(peak / grid.high).astype(np.float32)
    return grid.round(value.astype(np.float64), scale.astype(np.float64)).astype(grid.dtype), scale


def _matmul(job: _Work, node: onnx.NodeProto) -> str:
    x, name = node.input
    if name not in job.model.weights:
        raise Left(LEFT if x in job.model.weights else job.reasons.get(node.output[0], ""))
    weight = job.weight(node, 1)
    if weight.ndim != 2:
        raise Left(STACK)
    return _product(job, node, x, job.stored(name, weight, 0), node.output[0])


def _gemm(job: _Work, node: onnx.NodeProto) -> str:
    """alpha goes into the scales, beta into a constant bias."""
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    x, name = node.input[:2]
    bias = node.input[2] if len(node.input) > 2 else ""
    if name not in job.model.weights and x in job.model.weights:
        raise Left(LEFT)
    weight = job.weight(node, 1)
    if attribute(node, "transA", 0):
        raise Left("its data is transposed")
    if bias and bias not in job.model.weights and beta != 1:
        raise Left("its computed bias is scaled")
    transposed = bool(attribute(node, "transB", 0))
    matrix = np.ascontiguousarray(weight.T) if transposed else weight
    stored = job.stored(name, np.asarray(alpha * matrix, np.float32), 0, transposed, alpha)
    if bias in job.model.weights and beta != 1:
        bias = job.edit.constant(f"{bias}_scaled", np.asarray(beta * job.model.weights[bias], np.float32))
    if not bias:
        return _product(job, node, x, stored, node.output[0])
    product = job.edit.tensor(f"{node.output[0]}_product")
    told = _product(job, node, x, stored, product)
    job.edit.add("Add", [product, bias], node.output[0], name=f"{display_name(node)}_bias")
    return told


def _product(job: _Work, node: onnx.NodeProto, x: str, stored: tuple[str, str], stem: str) -> str:
    edit = job.edit
    integers, scale, zero = job.integers(x)
    name = display_name(node)
    total = edit.add("MatMulInteger", [integers, stored[0], zero], edit.tensor(f"{stem}_int32"), name=name)
    real = edit.add("Cast", [total], edit.tensor(f"{stem}_float"), name=f"{name}_cast", to=TensorProto.FLOAT)
    scales = edit.add("Mul", [scale, stored[1]], edit.tensor(f"{stem}_scales"), name=f"{name}_scales")
    edit.add("Mul", [real, scales], stem, name=f"{name}_scaled")
    return f"{node.op_type} in integers, one scale for each column"


def _lstm(job: _Work, node: onnx.NodeProto) -> str:
    """Weights change from (directions, 4 hidden, inputs) to (directions, inputs, 4 hidden), a scale for each gate's row."""
    matrices = [job.weight(node, i, smallest=1) for i in (1, 2)]
    if attribute(node, "layout", 0):
        raise Left("DynamicQuantizeLSTM wants time first")
    hidden = matrices[1].shape[-1]
    if hidden < HIDDEN:
        raise Left(f"with {hidden} hidden units, fewer than {HIDDEN}, integers are no faster")
    operands = [*node.input, *[""] * (8 - len(node.input))]
    scales: list[str] = []
    for i, matrix in enumerate(matrices, 1):
        turned = np.ascontiguousarray(matrix.transpose(0, 2, 1))
        operands[i], scale = job.stored(node.input[i], turned, 1)
        scales += [scale, job.edit.constant(f"{node.input[i]}_zeros", np.zeros(turned.shape[::2], np.int8))]
    require_domain(job.edit.model, MICROSOFT)
    copied = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if a.name != "layout"}
    job.edit.add(
        "DynamicQuantizeLSTM",
        [*operands, *scales],
        list(node.output),
        name=display_name(node),
        domain=MICROSOFT,
        **copied,
    )
    return "LSTM as DynamicQuantizeLSTM, one scale for each row of each gate"


def _recurrent(job: _Work, node: onnx.NodeProto) -> str:
    """Stored in 8 bits and computed in float: ONNX Runtime turns them to floats once, when it opens the file."""
    told = {i: job.obstacle(node, i) for i in (1, 2)}
    if all(told.values()):
        raise Left(told[1])
    changed = onnx.NodeProto.FromString(node.SerializeToString())
    for i in [i for i, why in told.items() if not why]:
        changed.input[i] = _restored(job, node.input[i], job.model.weights[node.input[i]])
    job.edit.keep(changed)
    return f"weights only: there is no integer kernel for {node.op_type}"


def _restored(job: _Work, name: str, value: np.ndarray) -> str:
    """Append what makes floats of an array's integers again; constants only, so it is computed once."""
    integers, scale = job.stored(name, value, 2, keep=True)
    edit = job.edit
    real = edit.add("Cast", [integers], edit.tensor(f"{integers}_float"), to=TensorProto.FLOAT)
    return edit.add("Mul", [real, scale], edit.tensor(f"{name}_restored"))


def _gather(job: _Work, node: onnx.NodeProto) -> str:
    """Rows of a table: only those that are read become floats."""
    name = node.input[0]
    if name not in job.model.weights or job.model.weights[name].dtype.kind != "f":
        raise Left()
    table = job.weight(node, 0)
    if attribute(node, "axis", 0) % table.ndim or table.ndim != 2:
        raise Left("it does not read rows of a table")
    if node.input[1] in job.model.weights:
        raise Left("its indices are constant")
    integers, scale = job.stored(name, table, 1, keep=True)
    edit, out = job.edit, node.output[0]
    rows = edit.add("Gather", [integers, node.input[1]], edit.tensor(f"{out}_int8"), name=display_name(node))
    scales = edit.add(
        "Gather", [scale, node.input[1]], edit.tensor(f"{out}_scales"), name=f"{display_name(node)}_scales"
    )
    real = edit.add("Cast", [rows], edit.tensor(f"{out}_float"), to=TensorProto.FLOAT)
    edit.add("Mul", [real, scales], out)
    return "rows of an 8-bit table, one scale for each row"


def _conv(job: _Work, node: onnx.NodeProto) -> str:
    weight = job.model.weights.get(node.input[1])
    raise Left(_SLOW_CONV if weight is None or weight.dtype == np.float32 else OTHER_TYPE.format(weight.dtype))


_RULES: dict[str, Rule] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "LSTM": _lstm,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Gather": _gather,
    "Conv": _conv,
}


@SCHEMES.register("dynamic")
def dynamic(job: Job) -> Result:
    """Weights in 8 bits beforehand, activations while the model runs: for transformers and recurrent layers, no data."""
    found = partial(dynamic_int8, reduce_range=job.target.weight.bits < WEIGHTS8.bits)
    return convert_prepared(
        job,
        found,
        lambda one, done: one.operand == 1 and one.name in done and has(one.op, Trait.DYNAMIC_KERNEL),
        "int8",
        "uint8 as it runs",
        "nearest",
    )
