"""A model as the text of a Python module."""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from inspect import getsource

import numpy as np
import onnx

from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import display_name, is_standard
from ...graph.shapes import Shapes
from ...graph.traits import Trait, has, operator
from ...graph.version import VERSION
from ..base import refuse
from . import layers, layout, pointwise  # noqa: F401 (they fill the table)
from .call import SPELLED, Call, Unspelled
from .parts import HEAD, HELPERS

_FIX = "write it for another target, or simplify the model first: intaglio simplify MODEL -o simple.onnx"
_BIAS = 2
"""The operand that is the bias of a layer which has one."""
_SIZE = 32
"""What free sizes are while it is found out how others follow from them: enough for most that halve them a few times."""
_NAMES = ("self", "torch", "nn", "F", "json", "math", "Path", "Model", "load", "forward", "training")


class Writer:
    """Writes one model; ``weights`` and ``trained`` are known once the code is."""

    def __init__(self, model: Model) -> None:
        self.model, self.index = model, index_of(model)
        self.inputs = [value for value in model.graph.input if value.name not in model.weights]
        self.weights: dict[str, np.ndarray] = {}
        self.trained: set[str] = set()
        self._names: dict[str, str] = {}

    def module(self) -> str:
        """Raises CannotExport that names every node which is not written."""
        for value in self.inputs:
            self._named(value.name)
        lines: list[str] = []
        missing: list[tuple[onnx.NodeProto, str]] = []
        for node in self.model.graph.node:
            if all(name in self._hosts or not name for name in node.output):
                continue
            try:
                lines += self._line(node)
            except Unspelled as error:
                missing.append((node, str(error)))
                self._names.update(dict.fromkeys(node.output, "missing"))
        refuse("torch", missing, _FIX)
        names = [self._names[value.name] for value in self.inputs]
        results = ", ".join(self._tensor(value.name) or "None" for value in self.model.graph.output)
        sizes = [f"{word} = {names[at]}.shape[{axis}]" for word, (at, axis) in self._symbols.items()]
        body = "\n".join(f"        {line}" for line in (*sizes, *lines, f"return {results}"))
        helpers = "\n\n\n".join(text for name, text in (HELPERS | _shared()).items() if name in body)
        title = self.model.graph.name.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
        head = HEAD.format(title=" ".join(title.split()) or "Network", version=VERSION, trained=sorted(self.trained))
        return head.replace("#HELPERS", helpers) + f"    def forward(self, {', '.join(names)}):\n{body}\n"

    def _line(self, node: onnx.NodeProto) -> Iterator[str]:
        spelled = SPELLED.get(node.op_type) if is_standard(node) else None
        if spelled is None:
            raise Unspelled("there is no way to write it in torch")
        expression = spelled(self._call(node))
        made = [self._named(name) if name else "_" for name in node.output]
        while len(made) > 1 and made[-1] == "_":
            made.pop()
        left = ", ".join(made) + ("," if len(node.output) > 1 and len(made) == 1 and expression.startswith("(") else "")
        yield f"{left} = {expression}  # {node.op_type} {ascii(display_name(node))[1:-1]}"

    def _call(self, node: onnx.NodeProto) -> Call:
        weights = self.model.weights
        return Call(
            node,
            [self._operand(node, k) if name else None for k, name in enumerate(node.input)],
            [weights.get(name) if name in weights else self._fixed.get(name) for name in node.input],
            [self._hosts.get(name) for name in node.input],
            [tuple(weights[name].shape) if name in weights else self._dims(name) for name in node.input],
        )

    def _operand(self, node: onnx.NodeProto, position: int) -> str:
        name = node.input[position]
        if name in self.model.weights and self._is_trained(node, position):
            self.trained.add(self._key(name))
        return self._tensor(name)

    def _tensor(self, name: str) -> str:
        if name in self._names:
            return self._names[name]
        if name in self.model.weights:
            key = self._key(name)
            self.weights[key] = self.model.weights[name]
            return _reached(key)
        if name in self._hosts:
            return f"torch.tensor({self._hosts[name]})"
        raise Unspelled(f"nothing makes {name!r}")

    def _is_trained(self, node: onnx.NodeProto, position: int) -> bool:
        """Floats that a network learns: weights and biases of layers, scales and shifts of normalizations."""
        value, row = self.model.weights[node.input[position]], operator(node)
        layer = position in row.weights or (bool(row.weights) and position == _BIAS)
        added = has(node, Trait.BROADCASTS) and value.ndim == 1 and self._after_product(node.input[1 - position])
        learned = layer or added or (has(node, Trait.PER_CHANNEL) and position in (1, 2))
        learned |= "Normalization" in node.op_type and position in (1, 2)
        return bool(value.dtype == np.float32 and value.size > 1 and learned)

    def _after_product(self, name: str) -> bool:
        maker = self.index.makers.get(name)
        return maker is not None and maker.op_type == "MatMul"

    def _named(self, name: str) -> str:
        """A Python name for a tensor: its own as far as that goes."""
        word = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "value"
        word = f"v_{word}" if word[0].isdigit() or keyword.iskeyword(word) or word in (*_NAMES, *HELPERS) else word
        taken = {*self._names.values(), *self._symbols}
        tried = (word if k == 0 else f"{word}_{k}" for k in itertools.count())
        self._names[name] = next(one for one in tried if one not in taken)
        return self._names[name]

    def _key(self, name: str) -> str:
        """The name of a weight in the module's state: its own, unless torch cannot have that."""
        return self._keys[name]

    @cached_property
    def _keys(self) -> dict[str, str]:
        import torch

        found: dict[str, str] = {}
        folders = {name[:k] for name in self.model.weights for k, letter in enumerate(name) if letter == "."}
        for name in self.model.weights:
            parts = name.split(".")
            broken = not all(parts) or name in folders or any(hasattr(torch.nn.Module(), part) for part in parts)
            key = name.replace(".", "_").strip("_") + "_weight" if broken else name
            while key in found.values():
                key += "_"
            found[name] = key
        return found

    @cached_property
    def _symbols(self) -> dict[str, tuple[int, int]]:
        """Words for free sizes: of which input, which axis."""
        found: dict[str, tuple[int, int]] = {}
        for symbol, place in self._places.items():
            found[f"size_{len(found)}" if not symbol.isidentifier() else f"size_{symbol.lower()}"] = place
        return found

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        from ...graph.shapes import free_dims

        places: dict[str, tuple[int, int]] = {}
        order = {value.name: k for k, value in enumerate(self.inputs)}
        for value, axis, symbol, _ in free_dims(self.inputs):
            places.setdefault(symbol, (order[value.name], axis))
        return places

    @cached_property
    def _shapes(self) -> list[Shapes]:
        """What is known of tensors at some sizes: all free ones alike, then each larger, then all."""
        symbols = list(self._places)
        last = {one: _SIZE * (3 + k) for k, one in enumerate(symbols)}
        tries: list[dict[str, int]] = [{}, *({one: 2 * _SIZE} for one in symbols), last]
        return [self._shapes_at(sizes) for sizes in tries]

    def _shapes_at(self, sizes: Mapping[str, int]) -> Shapes:
        return self.index.shapes_at(lambda symbol: sizes.get(symbol, _SIZE))

    def _dims(self, name: str) -> tuple[int | None, ...] | None:
        """A shape, with None for lengths that free sizes decide on."""
        found = [shapes.dims.get(name) for shapes in self._shapes]
        if any(one is None or len(one) != len(found[0] or ()) for one in found):
            return None
        return tuple(one[0] if len(set(one)) == 1 else None for one in zip(*found, strict=True))

    @cached_property
    def _fixed(self) -> dict[str, np.ndarray]:
        """Tensors that sizes decide on, and do not change with free ones."""
        first, *others = [shapes.values for shapes in self._shapes]
        same = (name for name, value in first.items() if all(_equal(value, one.get(name)) for one in others))
        return {name: np.asarray(first[name]) for name in same if name not in self.model.weights}

    @cached_property
    def _hosts(self) -> dict[str, str]:
        """Whole numbers that sizes decide on, as expressions: sums of multiples of free sizes."""
        found: dict[str, str] = {}
        values = [shapes.values for shapes in self._shapes]
        for name, value in values[0].items():
            kept = [np.asarray(one[name]) for one in values if name in one]
            whole = np.asarray(value).dtype.kind in "iub" and name not in self.model.weights
            if whole and len(kept) == len(values) and len({one.shape for one in kept}) == 1:
                text = self._affine(kept)
                if text is not None:
                    found[name] = text
        return found

    def _affine(self, values: Sequence[np.ndarray]) -> str | None:
        first, *each, last = [one.astype(np.int64) for one in values]
        steps = [one - first for one in each]
        base = first - sum(steps, np.zeros_like(first))
        expected = base + sum((step * (3 + k) for k, step in enumerate(steps)), np.zeros_like(first))
        if not np.array_equal(expected, last) or any((step % _SIZE).any() for step in steps):
            return None
        slopes = [step // _SIZE for step in steps]
        words = list(self._symbols)
        entries = [
            " + ".join(
                [
                    *(w if s == 1 else f"{s} * {w}" for w, s in zip(words, row, strict=True) if s),
                    *([str(b)] if b else []),
                ]
            )
            or "0"
            for b, *row in zip(
                base.reshape(-1).tolist(), *(slope.reshape(-1).tolist() for slope in slopes), strict=True
            )
        ]
        return entries[0] if first.ndim == 0 else f"[{', '.join(entries)}]"


def _shared() -> dict[str, str]:
    """Functions that gradients of a model go through here, too, as they are written there."""
    from ...measure.autograd import recurrent

    return {"recurrent": "\n\n".join(getsource(one) for one in (recurrent.recurrent, recurrent.recurrent_cell))}


def _reached(key: str) -> str:
    """The expression of a weight in the module."""
    found = "self"
    for part in key.split("."):
        plain = part.isidentifier() and part.isascii() and not keyword.iskeyword(part) and not part.startswith("__")
        found = f"{found}.{part}" if plain else f"getattr({found}, {part!r})"
    return found


def _equal(a: object, b: object) -> bool:
    return b is not None and np.array_equal(np.asarray(a), np.asarray(b))
