"""What moves numbers. Most of it is only another view of where they lie; what is not is copied once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from ....graph.evaluate import moved
from ..loops import nest
from ..rules import Call, Unsupported, rule
from ..tensor import Tensor


def move(call: Call) -> None:
    """Any operator that moves numbers of its first operand by operands that are known."""
    node, x = call.operation.node, call.x(0)
    others = [call.constant(k, f"operand {k}") if name else None for k, name in enumerate(call.operation.inputs) if k]
    if x.size == 0:
        raise Unsupported("there are no numbers in it")
    found = _places(node, [x.positions(), *others], call.opset)
    views = [x.view(places) for places in found]
    if not any(call.is_output) and all(views):
        for k, view in enumerate(views):
            call.alias(view or x, k)
        return
    whole = x
    if not all(_tables(places) for places in found):
        whole = call.dense(x)
        found = _places(node, [whole.positions(), *others], call.opset)
    for k, places in enumerate(found):
        _copy(call, whole, places, k)


def _places(node: onnx.NodeProto, operands: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray]:
    """The operator, done to places in memory instead of numbers."""
    found = moved(node, operands)
    if found is not None:
        return found
    made = onnx.NodeProto()
    made.CopyFrom(node)
    names = [name for name in node.input if name]
    kinds = [onnx.helper.make_tensor_value_info(name, 1, None) for name in names]
    outputs = [onnx.helper.make_tensor_value_info(name, 1, None) for name in node.output if name]
    graph = onnx.helper.make_graph([made], "move", kinds, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    feeds = {n: v for n, v in zip(node.input, operands, strict=False) if n and v is not None}
    try:
        return [np.asarray(one).astype(np.int64) for one in ReferenceEvaluator(model).run(None, feeds)]
    except Exception as error:  # whatever numpy says of operands that do not fit
        raise Unsupported(f"its operands do not fit: {error}") from error


def _tables(places: np.ndarray) -> list[np.ndarray] | None:
    """Along each axis how far each index is from the first, where places are sums of these."""
    if places.size == 0:
        return None
    first, rank = places.flat[0], places.ndim
    along = [places[tuple(slice(None) if a == axis else 0 for a in range(rank))] - first for axis in range(rank)]
    total = np.full(places.shape, first)
    for axis, table in enumerate(along):
        total = total + table.reshape([-1 if a == axis else 1 for a in range(rank)])
    return along if np.array_equal(total, places) else None


def _copy(call: Call, x: Tensor, places: np.ndarray, position: int) -> None:
    """Numbers from any places, by steps where these are even and by tables where not."""
    y = call.like(x, position)
    tables = _tables(places)
    start = int(places.flat[0])
    if tables is None:
        name = call.program.table((places.reshape(-1) - x.offset).astype(np.int32))
        flat = replace(x, dims=places.shape, strides=y.strides, offset=x.offset)
        straight = Tensor(name, np.dtype("i4"), places.shape, _steps(places.shape))
        call.step(nest([y, straight, flat], lambda i: f"y0[{i[0]}] = x0[{name}[{i[1]}]];"), [x], [y])
        return
    even = [_even(t) for t in tables]
    strides = tuple(step if step is not None else 0 for step in even)
    source = replace(x, dims=places.shape, strides=strides, offset=start)
    looks = {
        axis: call.program.table(t.astype(np.int32))
        for axis, (t, step) in enumerate(zip(tables, even, strict=True))
        if step is None
    }
    counters = [_counter(places.shape, axis) for axis in looks]

    def body(at: Sequence[str]) -> str:
        extra = "".join(f" + {name}[{i}]" for name, i in zip(looks.values(), at[2:], strict=True))
        return f"y0[{at[0]}] = x0[{at[1]}{extra}];"

    call.step(nest([y, source, *counters], body), [source], [y])


def _steps(dims: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(np.prod(dims[a + 1 :], dtype=np.int64)) for a in range(len(dims)))


def _counter(dims: tuple[int, ...], axis: int) -> Tensor:
    """What counts along one axis."""
    return Tensor("", np.dtype("i4"), dims, tuple(int(a == axis) for a in range(len(dims))))


def _even(table: np.ndarray) -> int | None:
    step = int(table[1]) if len(table) > 1 else 0
    return step if np.array_equal(table, np.arange(len(table)) * step) else None


@rule("Concat")
def concat(call: Call) -> None:
    parts = [call.x(k) for k in range(len(call.operation.inputs))]
    y = call.like(max(parts, key=lambda t: (t.buffer.startswith("b"), t.size)))
    axis = call.axis(y, 0)
    start = 0
    for part in parts:
        if part.size:
            view = replace(y, dims=part.dims, offset=y.offset + start * y.strides[axis])
            call.step(nest([view, part], lambda i: f"y0[{i[0]}] = x0[{i[1]}];"), [part], [view])
        start += part.dims[axis]


@rule("Pad")
def pad(call: Call) -> None:
    if call.attr("mode", "constant") != "constant":
        move(call)
        return
    x, pads = call.x(0), call.ints(1, "pads")
    rank = len(x.dims)
    axes = [a % rank for a in call.ints(3, "axes", list(range(rank)))]
    begin = [0] * rank
    for k, axis in enumerate(axes):
        begin[axis] = pads[k]
    y = call.like(x)
    value = "0"
    inputs = [x]
    if call.has(2):
        inputs.append(call.x(2))
        value = "x1[0]"
    inside = [range(max(0, b), min(n, b + m)) for b, n, m in zip(begin, y.dims, x.dims, strict=True)]
    lengths = tuple(map(len, inside))
    target = replace(y, dims=lengths, offset=sum(r.start * s for r, s in zip(inside, y.strides, strict=True)))
    skipped = sum(max(0, -b) * s for b, s in zip(begin, x.strides, strict=True))
    source = replace(x, dims=lengths, offset=x.offset + skipped)
    fill = nest([y], lambda i: f"y0[{i[0]}] = {value};")
    copy = nest([target, source], lambda i: f"y0[{target.offset} + {i[0]}] = x0[{skipped} + {i[1]}];")
    call.step(f"{fill}\n{copy}" if all(lengths) else fill, inputs, [y])


@rule("Gather")
def gather(call: Call) -> None:
    """Indices that are computed count from the end where they are negative."""
    if call.operation.inputs[1] in call.program.constants:
        move(call)
        return
    x, at = call.x(0), call.x(1)
    axis, y = call.axis(x, 0), call.output()
    inner = len(x.dims) - axis - 1
    source = replace(
        x,
        dims=y.dims,
        strides=(*x.strides[:axis], *[0] * len(at.dims), *x.strides[axis + 1 :]),
    )
    indices = replace(at, dims=y.dims, strides=(*[0] * axis, *at.strides, *[0] * inner))
    count, step = x.dims[axis], x.strides[axis]

    def body(i: Sequence[str]) -> str:
        k = f"x1[{i[2]}]"
        return f"y0[{i[0]}] = x0[{i[1]} + (int)({k} < 0 ? {k} + {count} : {k}) * {step}];"

    call.step(nest([y, source, indices], body), [x, at], [y])
