"""QONNX: the operator ``BipolarQuant`` in place of signs, read and written.

``BipolarQuant(x, s)`` is ``s`` where ``x >= 0``, else ``-s``. Source: Pappalardo et al., "QONNX: Representing
Arbitrary-Precision Quantized Neural Networks", 2022, arXiv:2206.07527, and the operator's definition of the domain
``qonnx.custom_op.general``, version 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....graph.errors import NothingChanged
from ....graph.model import Model
from ....graph.nodes import refill
from ...rewrite.edit import Edit, require_domain
from .forms import FORMS, Dense
from .layer import Layer
from .lower import lower
from .recognize import recognize

DOMAIN = "qonnx.custom_op.general"
_OLD = "finn.custom_op.general"
"""What the domain was called before."""
_VERSION = 1


def has_bipolar_quant(model: Model) -> bool:
    """Whether a model has signs in QONNX's form."""
    return any(n.op_type == "BipolarQuant" and n.domain in (DOMAIN, _OLD) for n in model.graph.node)


def from_qonnx(model: Model) -> Model:
    """A model with every ``BipolarQuant`` in standard operators; the same model where it has none.

    Other operators of QONNX stay as they are.
    """
    if not has_bipolar_quant(model):
        return model
    edit = Edit(model)
    for node in model.graph.node:
        if node.op_type != "BipolarQuant" or node.domain not in (DOMAIN, _OLD):
            edit.keep(node)
            continue
        edit.replace(node)
        x, scale = node.input
        out = node.output[0]
        zero, plus, minus = (edit.constant(f"{out}_{n}", np.array(v, np.float32)) for n, v in _ENDS)
        at_least = edit.add("GreaterOrEqual", [x, zero], edit.tensor(f"{out}_positive"))
        if scale in model.weights and (model.weights[scale] == 1).all() and model.weights[scale].size == 1:
            edit.add("Where", [at_least, plus, minus], out, name=node.name)
            continue
        signs = edit.add("Where", [at_least, plus, minus], edit.tensor(f"{out}_signs"), name=node.name)
        edit.add("Mul", [signs, scale], out)
    changed = edit.finish()
    left = {n.domain for n in changed.graph.node}
    opsets = changed.proto.opset_import
    refill(opsets, [o for o in opsets if o.domain not in (DOMAIN, _OLD) or o.domain in left])
    return changed


def to_qonnx(model: Model) -> Model:
    """A model with its layers of signs written with ``BipolarQuant``. ONNX Runtime does not know that operator.

    Raises:
        NothingChanged: it has no such layers.
    """
    found = recognize(from_qonnx(model))
    if not any(layer.bits for layer in found.layers.values()):
        reasons = "; ".join(sorted({f"{name}: {why}" for name, why in found.left.items()})[:4])
        raise NothingChanged("no layer is made of signs", why=reasons or "the model has no layers")
    return lower(found, "qonnx").model


_ENDS = (("zero", 0), ("plus", 1), ("minus", -1))


@dataclass(frozen=True)
class Qonnx(Dense):
    """Like ``dense``, signs of activations and weights made by ``BipolarQuant``. Ternary weights stay as they are."""

    def _sign(self, x: str, level: str, stem: str) -> str:
        if self.edit.model.weights[level].any():
            x = self.edit.add("Sub", [x, level], self.edit.tensor(f"{stem}_above"))
        return self._bipolar(x, stem)

    def _weight(self, layer: Layer, signs: np.ndarray) -> str:
        name = super()._weight(layer, signs)
        return name if layer.signs.ternary else self._bipolar(name, f"{layer.dot.name}_weight")

    def _bipolar(self, x: str, stem: str) -> str:
        require_domain(self.edit.model, DOMAIN, _VERSION)
        one = self.edit.constant(f"{stem}_one", np.array(1, np.float32))
        return self.edit.add("BipolarQuant", [x, one], self.edit.tensor(stem), domain=DOMAIN)


FORMS["qonnx"] = Qonnx
