"""Resizing: along each axis an output is a sum of few inputs, whose weights ONNX Runtime tells by resizing ones among zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from ....graph.model import Model
from ....measure.run.session import open_session, run
from ..loops import c, nest
from ..rules import Call, Unsupported, rule
from ..tensor import Tensor


@rule("Resize")
def resize(call: Call) -> None:
    x = call.x(0)
    if call.attr("keep_aspect_ratio_policy", "stretch") != "stretch" or (call.has(1) and call.constant(1, "roi").size):
        raise Unsupported("it cuts out a region or keeps proportions")
    if len(x.dims) < 2:
        raise Unsupported("it has one axis")
    factors = _factors(call, x)
    y = call.like(x)
    changed = {a: _weights(call, x.dims[a], y.dims[a], a, factors[a]) for a in range(len(x.dims)) if factors[a] != 1}
    counters = [Tensor("", np.dtype("i4"), y.dims, tuple(int(a == b) for b in range(len(y.dims)))) for a in changed]
    source = replace(x, dims=y.dims, strides=tuple(0 if a in changed else s for a, s in enumerate(x.strides)))

    def body(at: Sequence[str]) -> str:
        return _sum(call, x, changed, at)

    call.step(nest([y, source, *counters], body), [x], [y])


def _factors(call: Call, x: Tensor) -> list[float]:
    """By how much each axis grows."""
    rank = len(x.dims)
    axes = [a % rank for a in call.attr("axes") or range(rank)]
    made = [1.0] * rank
    given = call.constant(2, "its scale") if call.has(2) else np.zeros(0)
    for k, axis in enumerate(axes):
        made[axis] = float(given[k]) if given.size else call.dims[0][axis] / x.dims[axis]
    return made


def _weights(call: Call, length: int, out: int, axis: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Places and weights of the inputs that each output is made of. Shapes: both (out, taps)."""
    rank, other = len(call.x(0).dims), 1 if axis != 1 else 0
    dims = [length if a in (axis, other) else 1 for a in range(rank)]
    ones = np.eye(length, dtype=np.float32).reshape(dims)
    node = onnx.NodeProto()
    node.CopyFrom(call.operation.node)
    del node.input[:], node.output[:]
    for name in ("axes", "roi"):
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
    by_sizes = call.has(3) and not (call.has(2) and call.constant(2, "its scale").size)
    node.input.extend(["x", "", "", "sizes"] if by_sizes else ["x", "", "scales"])
    node.output.append("y")
    scales = np.array([factor if a == axis else 1.0 for a in range(rank)], np.float32)
    sizes = np.array([out if a == axis else dims[a] for a in range(rank)], np.int64)
    ends = [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("x", "y")]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph([node], "resize", ends[:1], ends[1:]),
        opset_imports=[onnx.helper.make_opsetid("", call.opset)],
        ir_version=8,
    )
    model = Model(proto, {"sizes": sizes} if by_sizes else {"scales": scales})
    (found,) = run(open_session(model), {"x": ones}).values()
    matrix = np.moveaxis(found, (axis, other), (0, 1)).reshape(out, length)
    taps = max(1, int((matrix != 0).sum(axis=1).max()))
    places = np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps]
    return places.astype(np.int32), np.take_along_axis(matrix, places, axis=1)


def _sum(call: Call, x: Tensor, changed: dict[int, tuple[np.ndarray, np.ndarray]], at: Sequence[str]) -> str:
    table = call.program.table
    place, weight, loops = at[1], [], []
    for k, (axis, (places, weights)) in enumerate(changed.items()):
        taps = places.shape[1]
        where = f"{at[2 + k]}" if taps == 1 else f"({at[2 + k]}) * {taps} + t{k}"
        place += f" + {table((places * x.strides[axis]).astype(np.int32))}[{where}]"
        if taps > 1:
            loops.append(f"for (int t{k} = 0; t{k} < {taps}; t{k}++)")
        if taps > 1 or (weights != 1).any():
            weight.append(f"{table(weights.astype(np.float32))}[{where}]")
    if not weight:
        return f"y0[{at[0]}] = x0[{place}];"
    if x.dtype.kind != "f":
        raise Unsupported("it interpolates integers")
    return c(
        "float total = 0;\n$loops total += $weight * x0[$place];\ny0[$to] = total;",
        loops=" ".join(loops),
        weight=" * ".join(weight),
        place=place,
        to=at[0],
    )
