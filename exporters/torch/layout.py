"""Operators that move, select or repeat numbers, in torch's words."""

from __future__ import annotations

from ...graph.evaluate import slices
from .call import Call, Unspelled, spells

_LARGE = 1 << 31


@spells("Concat")
def joined(c: Call) -> str:
    return f"torch.cat([{', '.join(c[k] for k in range(len(c.tensors)))}], {c.attr('axis')})"


@spells("Split")
def split(c: Call) -> str:
    axis = c.attr("axis", 0)
    parts = c.ints(1, "split") or -(-c.shape(start=axis % c.rank())[0] // len(c.node.output))
    return f"torch.split({c[0]}, {parts}, {axis})"


@spells("Reshape")
def reshaped(c: Call) -> str:
    sizes = c.sizes(1)
    if sizes.startswith("[") and not c.attr("allowzero", 0) and (c.known[1] is not None) and 0 in c.known[1]:
        told = [f"{c[0]}.shape[{k}]" if n == 0 else str(n) for k, n in enumerate(c.ints(1) or [])]
        sizes = f"[{', '.join(told)}]"
    return f"{c[0]}.reshape({sizes})"


@spells("Flatten")
def flat(c: Call) -> str:
    axis = c.attr("axis", 1) % max(1, c.rank())
    return f"{c[0]}.flatten(1)" if axis == 1 else f"{c[0]}.reshape(math.prod({c[0]}.shape[:{axis}]), -1)"


@spells("Squeeze")
def squeezed(c: Call) -> str:
    axes = c.ints(1, "axes")
    return f"{c[0]}.squeeze({'' if axes is None else axes})"


@spells("Unsqueeze")
def unsqueezed(c: Call) -> str:
    axes = c.ints(1, "axes") or []
    rank, found = c.rank() + len(axes), c[0]
    for axis in sorted(a % rank for a in axes):
        found = f"{found}.unsqueeze({axis})"
    return found


@spells("Transpose")
def transposed(c: Call) -> str:
    return f"{c[0]}.permute({c.attr('perm') or list(range(c.rank()))[::-1]})"


@spells("Expand")
def expanded(c: Call) -> str:
    return f"{c[0]}.expand(torch.broadcast_shapes({c[0]}.shape, {c.sizes(1)}))"


@spells("Tile")
def tiled(c: Call) -> str:
    return f"{c[0]}.tile({c.sizes(1)})"


@spells("Slice")
def sliced(c: Call) -> str:
    if c.has(2) and c.hosts[2] is not None and c.known[2] is None:
        return _cut_to_size(c, c.hosts[2])
    arrays = [None, *(c.array(k) if c.has(k) else None for k in range(1, len(c.tensors)))]
    told, turned = [], []
    for axis, one in enumerate(slices(c.node, arrays, c.rank())):
        if one.step is not None and one.step < 0:
            if (one.start, one.stop) not in ((None, None), (-1, None)) and (one.start or 0) < c.shape(start=axis)[
                0
            ] - 1:
                raise Unspelled("it goes backwards over a part of an axis")
            turned.append(axis)
            one = slice(None, None, -one.step)
        stop = None if one.stop is not None and one.stop >= _LARGE else one.stop
        told.append(
            f"{'' if not one.start else one.start}:{'' if stop is None else stop}{f':{one.step}' if one.step not in (None, 1) else ''}"
        )
    x = f"{c[0]}.flip({turned})" if turned else c[0]
    while told and told[-1] == ":":
        told.pop()
    return f"{x}[{', '.join(told)}]" if told else x


def _cut_to_size(c: Call, ends: str) -> str:
    """Ends that free sizes decide on."""
    starts, axes = c.ints(1) or [], (c.ints(3) if c.has(3) else None) or list(range(c.rank()))
    if any(step != 1 for step in (c.ints(4) if c.has(4) else None) or []):
        raise Unspelled("it steps over places of an axis whose length is free")
    told = dict(zip((axis % c.rank() for axis in axes), zip(starts, ends[1:-1].split(", "), strict=True), strict=True))
    parts = [f"{told[axis][0]}:{told[axis][1]}" if axis in told else ":" for axis in range(c.rank())]
    return f"{c[0]}[{', '.join(parts)}]"


@spells("Gather")
def gathered(c: Call) -> str:
    axis = c.attr("axis", 0)
    if c.hosts[1] is None and c.known[1] is not None and c.known[1].ndim == 0:
        return f"{c[0]}.select({axis}, {int(c.known[1])})"
    return f"take({c[0]}, {axis}, {c[1]})"


@spells("GatherElements")
def gathered_elements(c: Call) -> str:
    axis = c.attr("axis", 0)
    return f"torch.gather({c[0]}, {axis}, {c[1]} % {c[0]}.shape[{axis}])"


@spells("Pad")
def padded(c: Call) -> str:
    pads, rank = c.ints(1, "pads") or [], c.rank()
    axes = [a % rank for a in (c.ints(3) or range(rank))]
    both = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    told = [n for axis in reversed(range(rank)) for n in both.get(axis, (0, 0))]
    mode, found = c.attr("mode", "constant"), c[0]
    if mode == "constant":
        fill = c.array(2)
        return f"F.pad({c[0]}, {told}, value={0.0 if fill is None or not fill.size else fill.item()!r})"
    if mode not in ("reflect", "edge") or min(pads, default=0) < 0:
        raise Unspelled(f"its mode is {mode}")
    for axis, (before, behind) in both.items():
        found = f"mirrored({found}, {axis}, {before}, {behind}, {mode == 'edge'})" if before or behind else found
    return found


@spells("ConstantOfShape")
def filled(c: Call) -> str:
    import onnx

    fill = c.attr("value")
    value = 0.0 if fill is None else onnx.numpy_helper.to_array(fill).reshape(-1)[0].item()
    return f"torch.full({c.sizes(0)}, {value!r})"


@spells("Shape")
def shape(c: Call) -> str:
    raise Unspelled("products of free sizes follow from it: pin them, --shape NAME:DIMS")


@spells("Trilu")
def triangle(c: Call) -> str:
    (k,) = c.ints(1) or [0]
    return f"{c[0]}.{'triu' if c.attr('upper', 1) else 'tril'}({k})"
