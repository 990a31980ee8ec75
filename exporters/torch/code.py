"""A model as the text of a Python module."""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from inspect import getsource

import numpy as np
import onnx

from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import constant_value, display_name
from ...graph.shapes import Shapes
from ...graph.traits import Trait, has, operator, operator_key
from ...graph.version import VERSION
from ...measure.autograd.call import Unsupported
from ...measure.autograd.table import OPERATORS
from ..base import refuse
from .blocks import WRITTEN
from .call import Written, called, own_functions, spelled
from .parts import HEAD

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
        self._spent: set[str] = set()
        """Names of variables that stand for no tensor that can be read."""
        self._inner: dict[str, np.ndarray] = {}
        """What bodies hold themselves."""
        self._called: set[str] = set()
        self._missing: list[tuple[onnx.NodeProto, str]] = []

    def module(self) -> str:
        """Raises CannotExport that names every node which is not written."""
        for value in self.inputs:
            self._named(value.name)
        lines = self._lines(self.model.graph.node)
        refuse("torch", self._missing, _FIX)
        names = [self._names[value.name] for value in self.inputs]
        results = ", ".join(self._tensor(value.name) or "None" for value in self.model.graph.output)
        sizes = [f"{word} = {names[at]}.shape[{axis}]" for word, (at, axis) in self._symbols.items()]
        body = "\n".join(f"        {line}" for line in (*sizes, *lines, f"return {results}"))
        helpers = "\n\n\n".join(getsource(own_functions()[name]).rstrip() for name in called(self._called))
        title = self.model.graph.name.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
        head = HEAD.format(title=" ".join(title.split()) or "Network", version=VERSION, trained=sorted(self.trained))
        return head.replace("#HELPERS", helpers) + f"    def forward(self, {', '.join(names)}):\n{body}\n"

    def _lines(self, nodes: Iterable[onnx.NodeProto]) -> list[str]:
        lines: list[str] = []
        for node in nodes:
            held = constant_value(node) if node.op_type == "Constant" else None
            if held is not None:
                self._hold(node.output[0], held)
            if held is not None or all(name in self._hosts or not name for name in node.output):
                continue
            try:
                lines += self._block(node) if has(node, Trait.BODIES) else [self._line(node)]
            except Unsupported as error:
                self._missing.append((node, str(error)))
                self._names.update(dict.fromkeys(node.output, "missing"))
        return lines

    def _line(self, node: onnx.NodeProto) -> str:
        entry = OPERATORS.get(operator_key(node))
        if entry is None:
            raise Unsupported("there is no way to write it in torch")
        call = entry(self._call(node))
        if any(self.index.uses[name] for name in node.output[max(1, call.results) :]):
            raise Unsupported("more of its outputs are read than its first")
        if own_functions().get(call.function.__name__) is call.function:
            self._called.add(call.function.__name__)
        wanted = max(k for k, name in enumerate(node.output) if name or k == 0) + 1 if call.results else 1
        cut = "" if call.results == wanted > 1 or not call.results else f"[:{wanted}]" if wanted > 1 else "[0]"
        made = [self._named(name) if name else "_" for name in node.output[:wanted]]
        return f"{', '.join(made)} = {spelled(call)}{cut}  # {node.op_type} {ascii(display_name(node))[1:-1]}"

    def _block(self, node: onnx.NodeProto) -> list[str]:
        write = WRITTEN.get(node.op_type)
        if write is None:
            raise Unsupported("there is no way to write it in torch")
        given = [self._tensor(name) if name else None for name in node.input]
        made = [self._named(name) if name else "_" for name in node.output]
        return list(write(node, given, made, self._body, self._variable))

    def _body(self, graph: onnx.GraphProto, handed: Sequence[str]) -> tuple[list[str], list[str]]:
        """The names of a body are its own: those around it are what they were when it is written."""
        before = dict(self._names)
        for value, expression in zip(graph.input, handed, strict=False):
            self._names[value.name] = expression
        for tensor in graph.initializer:
            self._hold(tensor.name, onnx.numpy_helper.to_array(tensor))
        lines = self._lines(graph.node)
        ends = [self._tensor(value.name) for value in graph.output]
        self._spent |= {*self._names.values()} - {*before.values()}
        self._names = before
        return lines, ends

    def _hold(self, name: str, value: np.ndarray) -> None:
        """A constant of a body: a weight under a key of its own."""
        key = f"{re.sub(r'[^0-9A-Za-z_]+', '_', name).strip('_')}_{len(self.weights)}"
        self.weights[key] = self._inner[name] = value
        self._names[name] = _reached(key)

    def _variable(self, name: str) -> str:
        """A Python name that stands for no tensor of the model."""
        word = self._word(name)
        self._spent.add(word)
        return word

    def _known(self, name: str) -> np.ndarray | None:
        found = self._inner.get(name)
        if found is None:
            found = self.model.weights.get(name) if name in self.model.weights else self._fixed.get(name)
        return found

    def _call(self, node: onnx.NodeProto) -> Written:
        known = [self._known(name) for name in node.input]
        return Written(
            node,
            [self._operand(node, k) if name else None for k, name in enumerate(node.input)],
            known,
            [self._hosts.get(name) for name in node.input],
            [self._rank(name) if value is None else value.ndim for name, value in zip(node.input, known, strict=True)],
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
        raise Unsupported(f"nothing makes {name!r}")

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
        self._names[name] = self._word(name)
        return self._names[name]

    def _word(self, name: str) -> str:
        word = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "value"
        kept = (*_NAMES, *own_functions())
        word = f"v_{word}" if word[0].isdigit() or keyword.iskeyword(word) or word in kept else word
        taken = {*self._names.values(), *self._symbols, *self._spent}
        tried = (word if k == 0 else f"{word}_{k}" for k in itertools.count())
        return next(one for one in tried if one not in taken)

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

    def _rank(self, name: str) -> int | None:
        found = self._shapes[0].dims.get(name)
        return None if found is None else len(found)

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


def _reached(key: str) -> str:
    """The expression of a weight in the module."""
    found = "self"
    for part in key.split("."):
        plain = part.isidentifier() and part.isascii() and not keyword.iskeyword(part) and not part.startswith("__")
        found = f"{found}.{part}" if plain else f"getattr({found}, {part!r})"
    return found


def _equal(a: object, b: object) -> bool:
    return b is not None and np.array_equal(np.asarray(a), np.asarray(b))
