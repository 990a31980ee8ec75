"""Attention by codes of signs, linear in the number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from pydantic import BaseModel, Field

from .....graph.errors import NothingChanged
from .....graph.index import Index, index_of
from .....graph.nodes import attribute, drop_dead
from .....graph.traits import Trait, has
from .....measure.run.session import open_session, run
from ....rewrite.edit import Edit
from ...binary.convert import DOMAIN, SIGNS, reduced, written
from ...binary.estimators import ESTIMATORS
from ..method import METHODS, Method

if TYPE_CHECKING:
    from torch import Tensor

    from .....graph.model import Model
    from .....measure.autograd.call import Call
    from .....measure.data.source import DataSource
    from ...engine.student import Student

_SAMPLES, _STEPS, _LR = 32, 60, 0.1


class HashedOptions(BaseModel):
    bits: int = Field(default=16, ge=1, le=64, description="signs of a code")
    anchors: int = Field(default=32, ge=2, description="tokens that others are compared with")
    share: float = Field(
        default=0.3, gt=0, lt=0.5, description="of a row, pairs that codes hold for most and for least alike"
    )


@dataclass(frozen=True)
class Attention:
    """Tensors of an attention: queries, keys with their last axes swapped, values, and what it gives."""

    queries: str
    turned: str
    values: str
    output: str


@dataclass(frozen=True)
class Hash:
    """Codes are signs of ``matrix`` times how near a token is to anchors, less what is usual. Shapes: anchors (axes, anchors),
    usual (anchors,), matrix (anchors, bits); ``narrow`` is one over the square of the kernel's width."""

    anchors: np.ndarray
    usual: np.ndarray
    matrix: np.ndarray
    narrow: float


@METHODS.register("ecoformer", options=HashedOptions)
class HashedAttention(Method):
    """Attention compares codes of signs, so that sums over tokens come first; codes are fitted to the pairs that attend most
    and least, then the network is trained around them.

    Source: Liu et al., "EcoFormer", NeurIPS 2022, arXiv:2209.09004. Differs: queries and keys keep their own projections and
    share the hash; matrices of the hash are fitted once, and scaled by nothing.
    """

    def __init__(self, options: HashedOptions) -> None:
        self._options = options

    def prepared(self, model: Model, data: DataSource) -> Model:
        """Raises NothingChanged where there is no attention of a fixed number of tokens."""
        index = index_of(model)
        found = {one.output: one for node in model.graph.node for one in _attention(index, node)}
        if not found:
            raise NothingChanged(
                "there is no attention: no Softmax of a product of two tensors goes into another product",
                fix="use --method bnn",
            )
        names = list(dict.fromkeys(name for one in found.values() for name in (one.queries, one.turned)))
        seen = run(open_session(model, outputs=names), next(data.batches(_SAMPLES)).inputs, names)
        edit = Edit(model)
        for node in model.graph.node:
            one = found.get(node.output[0])
            if one is None:
                edit.keep(node)
                continue
            edit.replace(node)
            fitted = fit(seen[one.queries], seen[one.turned].swapaxes(-1, -2), self._options)
            _write(edit, one, fitted, seen[one.queries].ndim, seen[one.turned].shape[-1])
        made = edit.finish()
        drop_dead(made)
        return made

    def operators(self) -> Mapping[str, Callable[[Any], Any]]:
        return {SIGNS: _signs}

    def finished(self, model: Model, student: Student) -> Model:
        return written(model)


def _signs(call: Call) -> Tensor:
    from ...engine.signs import signs

    x = call.tensor()
    return signs(x, *ESTIMATORS["ste"](x, 0.0, False))


def _attention(index: Index, node: onnx.NodeProto) -> Sequence[Attention]:
    """The attention whose last product this is: softmax(queries times keys) times values."""
    if not has(node, Trait.MULTIPLIES) or node.op_type != "MatMul":
        return []
    soft = index.makers.get(node.input[0])
    if soft is None or soft.op_type != "Softmax" or attribute(soft, "axis", -1) not in (-1, 3):
        return []
    before = index.makers.get(soft.input[0])
    while before is not None and before.op_type in ("Mul", "Div"):
        before = index.makers.get(before.input[0])
    if before is None or before.op_type != "MatMul" or any(name in index.constant for name in before.input):
        return []
    return [Attention(before.input[0], before.input[1], node.input[1], node.output[0])]


def fit(queries: np.ndarray, keys: np.ndarray, options: HashedOptions) -> Hash:
    """Bit by bit, each made to tell apart what earlier bits do not. Shapes: (..., tokens, axes), both."""
    import torch

    draw = np.random.default_rng(0)
    q, k = (torch.from_numpy(np.ascontiguousarray(_unit(x).reshape(-1, *x.shape[-2:]))) for x in (queries, keys))
    pool = torch.cat([q, k]).flatten(0, 1)
    anchors = pool[torch.from_numpy(draw.permutation(len(pool))[: options.anchors])].T
    apart = 2 - 2 * (pool @ anchors)
    narrow = 1 / float(apart.clamp_min(0).sqrt().mean().square().clamp_min(1e-6))
    usual = torch.exp((pool @ anchors - 1) * narrow).mean(0)
    near = [torch.exp((x @ anchors - 1) * narrow) - usual for x in (q, k)]
    left, matrix = options.bits * _wanted(q @ k.mT, options.share), []
    for bit in range(options.bits):
        start = torch.from_numpy(np.random.default_rng([1, bit]).normal(size=len(usual)).astype(np.float32))
        row = _fitted_bit(start / usual.std().clamp_min(1e-3), near, left)
        codes = [torch.where(x @ row < 0, -1.0, 1.0) for x in near]
        left = left - codes[0][..., :, None] * codes[1][..., None, :]
        matrix.append(row)
    return Hash(anchors.numpy(), usual.numpy(), torch.stack(matrix, 1).numpy(), narrow)


def _fitted_bit(start: Tensor, near: Sequence[Tensor], left: Tensor) -> Tensor:
    """The better of what it starts from and where gradients lead."""
    import torch

    def gain(row: Tensor, soft: bool) -> Tensor:
        codes = [torch.tanh(x @ row / 2) if soft else torch.where(x @ row < 0, -1.0, 1.0) for x in near]
        return (codes[0][..., :, None] * codes[1][..., None, :] * left).mean()

    row = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([row], lr=_LR)
    for _ in range(_STEPS):
        (gradient,) = torch.autograd.grad(-gain(row, True), [row])
        row.grad = gradient
        optimizer.step()
    with torch.no_grad():
        return row.detach() if gain(row, False) > gain(start, False) else start


def _wanted(alike: Tensor, share: float) -> Tensor:
    """+1 for the pairs of each row that are most alike, -1 for those least, 0 between."""
    import torch

    count = max(1, round(share * alike.shape[-1]))
    order = alike.argsort(-1)
    made = torch.zeros_like(alike)
    return made.scatter_(-1, order[..., -count:], 1.0).scatter_(-1, order[..., :count], -1.0)


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-6)).astype(np.float32)


def _write(edit: Edit, one: Attention, fitted: Hash, rank: int, tokens: int) -> None:
    """Values weighted by how many signs of their code are those of the query's, and as many again for all."""
    out = one.output
    swapped = [*range(rank - 2), rank - 1, rank - 2]

    def add(op: str, inputs: list[str], what: str, **attributes: Any) -> str:
        return edit.add(op, inputs, edit.tensor(f"{out}/{what}"), **attributes)

    def number(what: str, value: Any) -> str:
        return edit.constant(f"{out}/{what}", np.asarray(value, np.float32))

    def mean(x: str, what: str) -> str:
        return reduced(edit, "ReduceMean", x, [rank - 2], f"{out}/{what}")

    shared = {name: number(name, getattr(fitted, name)) for name in ("anchors", "usual", "matrix", "narrow")}
    unit, least = number("one", 1), number("least", 1e-6)

    def code(x: str, what: str) -> str:
        length = add("Max", [reduced(edit, "ReduceL2", x, [rank - 1], f"{out}/{what}/size"), least], f"{what}/length")
        alike = add("MatMul", [add("Div", [x, length], f"{what}/unit"), shared["anchors"]], f"{what}/alike")
        apart = add("Mul", [add("Sub", [alike, unit], f"{what}/apart"), shared["narrow"]], f"{what}/narrow")
        near = add("Sub", [add("Exp", [apart], f"{what}/near"), shared["usual"]], f"{what}/unusual")
        return add("Signs", [add("MatMul", [near, shared["matrix"]], f"{what}/bits")], f"{what}/code", domain=DOMAIN)

    queries = code(one.queries, "queries")
    keys = code(add("Transpose", [one.turned], "keys", perm=swapped), "keys")
    turned, again = add("Transpose", [keys], "codes", perm=swapped), number("again", fitted.matrix.shape[1] + 1)
    weighted = add("Mul", [add("MatMul", [turned, one.values], "weighted"), number("each", 1 / tokens)], "shares")
    every = add("Mul", [mean(one.values, "mean"), again], "every")
    above = add("Add", [add("MatMul", [queries, weighted], "chosen"), every], "above")
    usual = add("Transpose", [mean(keys, "codes/mean")], "codes/usual", perm=swapped)
    below = add("Add", [add("MatMul", [queries, usual], "counted"), again], "below")
    edit.add("Div", [above, below], out)
