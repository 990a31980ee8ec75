"""The proof that a network computed with bits is the one it was made of.

Layers of signs are compared one by one on the original's own numbers: the float tensors that signs are taken of are
given to the new model as they are in the original. Then signs must be the same and sums equal to rounding. A run from
end to end proves less: where two ways of rounding fall on two sides of a threshold, a sign differs and all that follows.
That happens to the original too, from one runtime to the next. It is run and told.

The reference is the original with the scales of its weights behind the products: a sum of +1 and -1 is exact, a sum of
+0.3 and -0.3 depends on its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx

from ....graph.errors import ProofFailed
from ....graph.model import Model
from ....graph.nodes import copied
from ....measure.run.inputs import runnable_inputs
from ....measure.run.session import open_session, run
from ...proof import at_other_sizes, largest_gap
from ...rewrite.edit import Edit
from .bits import Bits
from .forms import FORMS
from .lower import Lowered
from .recognize import Recognized

TOLERANCE = 1e-5
"""Largest difference of a layer's output, relative to the largest value in it."""
_ENDS = 1e-4
"""The same of a network's outputs, where rounding decided no sign."""
_GIVEN = "{}_given"


@dataclass(frozen=True)
class Proof:
    """``signs`` compared, all of them equal; largest relative difference of the ``layers``' float outputs.

    ``outputs_rel_diff`` is that of the network's outputs from end to end, against the original as it was given, when
    ``turned`` signs fell on the other side of their thresholds by rounding.
    """

    signs: int
    layers: int
    max_rel_diff: float
    outputs_rel_diff: float
    turned: int
    inputs: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def prove(found: Recognized, lowered: Lowered, real: Sequence[Mapping[str, np.ndarray]] = (), seed: int = 0) -> Proof:
    """Compare on ``real`` inputs, on made-up ones where there are none, and at other sizes of free dimensions.

    Raises:
        ProofFailed: a sign or a sum is not what it should be; names the layer.
        BadModel: one of the models does not run.
    """
    original = found.wires.model
    first = real[0] if real else runnable_inputs(original, seed=seed)
    feeds = [*(real or [first]), *at_other_sizes(original, first, seed)]
    reference = open_session(
        exact_sums(found), outputs=[*lowered.sources, *lowered.signs, *lowered.floats], optimize=False
    )
    given = open_session(_given(lowered), optimize=False)
    ends = [o.name for o in original.graph.output]
    holders = {name: holder for name, (holder, *_) in lowered.signs.items()}
    # Where a third value is taken as +1, the original is only that if it never comes up.
    before = open_session(exact_sums(found) if found.zeros else original, outputs=[*ends, *holders], optimize=False)
    after = open_session(lowered.model, outputs=list(dict.fromkeys([*ends, *holders.values()])), optimize=False)
    signs, turned, widest, apart = 0, 0, 0.0, 0.0
    for feed in feeds:
        expected = run(reference, feed)
        fed = {_GIVEN.format(name): expected[name] for name in lowered.sources}
        wanted = {i.name for i in given.get_inputs()}
        made = run(given, {k: v for k, v in {**feed, **fed}.items() if k in wanted})
        signs += _compare_signs(lowered, expected, made)
        widest = max(widest, _compare_floats(lowered, expected, made))
        a, b = run(before, feed), run(after, feed)
        turned += sum(_turned(lowered, a, b).values())
        apart = max([apart, *(_distance(a[n], b[n]) for n in ends)])
    if not turned and apart > _ENDS:
        raise ProofFailed(
            f"an output is wrong: a difference of {apart:.3g} of its largest value",
            why="all layers of signs are right, so what stands between them is not; nothing is written",
            fix="report the model: this is a fault in intaglio",
        )
    return Proof(signs, len(lowered.floats), widest, apart, turned, "real" if real else "made-up")


def _compare_signs(lowered: Lowered, expected: Mapping[str, np.ndarray], made: Mapping[str, np.ndarray]) -> int:
    for name, wrong in _turned(lowered, expected, made).items():
        if wrong:
            raise ProofFailed(
                f"{wrong} of {expected[name].size} signs in tensor {name!r} are wrong",
                why="bits do not equal the signs that the original computes, so nothing is written",
                fix="leave the layers that read it out with --exclude, and report the model: this is a fault in intaglio",
            )
    return sum(expected[name].size for name in lowered.signs)


def _turned(lowered: Lowered, expected: Mapping[str, np.ndarray], made: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many signs of each tensor are not the original's."""
    found = {}
    for name, (holder, layout, middle, opposite) in lowered.signs.items():
        signs = FORMS[lowered.form].read(made[holder], layout) ^ layout.along(opposite)
        found[name] = int((signs != (expected[name] < middle)).sum())
    return found


def _compare_floats(lowered: Lowered, expected: Mapping[str, np.ndarray], made: Mapping[str, np.ndarray]) -> float:
    widest = 0.0
    for name in lowered.floats:
        found = _distance(expected[name], made[name])
        if found > TOLERANCE:
            raise ProofFailed(
                f"tensor {name!r} is wrong: a difference of {found:.3g} of its largest value",
                why="the layer before it does not equal the original's, so nothing is written",
                fix="leave the layer out with --exclude, and report the model: this is a fault in intaglio",
            )
        widest = max(widest, found)
    return widest


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    if not isinstance(a, np.ndarray) or a.dtype.kind != "f":
        return 0.0 if np.array_equal(a, b) else 1.0
    size = float(np.abs(a[np.isfinite(a)]).max(initial=0.0) + 1e-30)
    return largest_gap(a, b) / size


def exact_sums(found: Recognized) -> Model:
    """The original with signs in place of scaled weights, the scales behind; every tensor keeps its name.

    What Sign makes of 0 is +1 where that was asked for.
    """
    edit = Edit(found.wires.model)
    thirds = {layer.bits.target: layer.bits for layer in found.layers.values() if layer.bits and found.zeros}
    for place, node in enumerate(found.wires.nodes):
        layer = found.layers.get(place)
        if node.output[0] in thirds:
            _without_third(edit, node, thirds[node.output[0]])
            continue
        if layer is None or layer.bits is None or (layer.signs.scale * layer.dot.factor == 1).all():
            edit.keep(node)
            continue
        dot, layout = layer.dot, layer.dot.out_layout
        plain = copied(node)
        del plain.input[2:]
        rows = layer.signs.signs.astype(np.float32)
        if dot.window is None:
            plain.op_type, rows = "MatMul", np.ascontiguousarray(rows.T)
            del plain.attribute[:]
        rows = rows.reshape(rows.shape if dot.window is None else found.wires.known[node.input[1]].shape)
        plain.input[1] = edit.constant(f"{dot.name}_exact", rows)
        plain.output[0] = edit.tensor(f"{dot.out}_exact")
        edit.keep(plain)
        scale, bias = (layout.along(v.astype(np.float32)) for v in (layer.signs.scale * dot.factor, dot.bias))
        ends = [plain.output[0], edit.constant(f"{dot.name}_by", scale)]
        scaled = edit.add("Mul", ends, edit.tensor(f"{dot.out}_by"))
        edit.add("Add", [scaled, edit.constant(f"{dot.name}_to", bias)], dot.out)
    return edit.finish()


def _without_third(edit: Edit, node: onnx.NodeProto, bits: Bits) -> None:
    """A node that makes signs, the number in the middle of them replaced by the upper one."""
    three = copied(node)
    out = node.output[0]
    three.output[0] = edit.tensor(f"{out}_three")
    edit.keep(three)
    middle, high = (edit.constant(f"{out}_plus", np.array(v, np.float32)) for v in (bits.middle, bits.step.high))
    third = edit.add("Equal", [three.output[0], middle], edit.tensor(f"{out}_third"))
    edit.add("Where", [third, high, three.output[0]], out)


def _given(lowered: Lowered) -> Model:
    """The new model with the tensors that signs are taken of as inputs, and all that is compared as outputs."""
    model = lowered.model.copy()
    graph, holders = model.graph, {holder for holder, *_ in lowered.signs.values()}
    for node in graph.node:
        for k, name in enumerate(node.input):
            if node.output[0] in lowered.takers and name in lowered.sources:
                node.input[k] = _GIVEN.format(name)
    for name in lowered.sources:
        graph.input.append(onnx.helper.make_tensor_value_info(_GIVEN.format(name), onnx.TensorProto.FLOAT, None))
    del graph.output[:]
    graph.output.extend(onnx.ValueInfoProto(name=n) for n in (*sorted(holders), *lowered.floats))
    return model
