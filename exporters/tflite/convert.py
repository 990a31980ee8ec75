"""A model as a TFLite file: every step by its conversion, then what can be left out is."""

from __future__ import annotations

from dataclasses import dataclass

from ...graph.model import Model
from ...graph.traits import Trait, has, operator_key
from ..base import refuse
from .builder import Builder
from .flatbuffer import to_bytes
from .lean import lean
from .plan import Plan, Step, layout_of
from .program import FLOAT, Program, Tensor, channels_last, plain, shaped
from .table import TABLE, Refused

_NO_SCALE = Refused("a scale of its integers is not above 0", "quantize the float model with --scheme int8")


@dataclass(frozen=True)
class Ends:
    """How a file's inputs and outputs are: ``as_given`` keeps the order of axes, ``integer`` leaves out conversions."""

    as_given: bool = False
    integer: bool = False


def write(model: Model, ends: Ends | None = None) -> bytes:
    """The bytes of a TFLite file that computes what a model does, for batches of one.

    Raises:
        CannotExport: operators that TFLite has no form for, all of them by name.
    """
    return to_bytes(program_of(model, ends))


def program_of(model: Model, ends: Ends | None = None) -> Program:
    """The same before it is bytes."""
    ends = ends or Ends()
    plan = Plan(model)
    make = Builder(plan)
    _inputs(plan, make, ends)
    refused = [(step.node, why) for step in plan.steps if (why := _converted(step, make))]
    refused += [(node, _NO_SCALE) for node in plan.without_scale()]
    refused = [(node, why) for node, why in refused if not why.follows] or refused
    if refused:
        fixes = dict.fromkeys(why.instead for _, why in refused if why.instead)
        refuse("TFLite", [(node, why.why) for node, why in refused], "; ".join(fixes))
    _outputs(plan, make, ends)
    lean(make.program)
    return make.program


def _converted(step: Step, make: Builder) -> Refused | None:
    """Write a step; gives why it cannot be, if so."""
    make.step = step
    try:
        for name in filter(None, step.node.input):
            make.dims(name, follows=True)
        _convert(step, make)
    except Refused as refused:
        integers = {name: one.kind for one in step.rounded.values() for name in one.names}
        known = make.plan.shapes.dtypes
        made = {n: make.kind(n) if n in known else FLOAT for n in (step.output, *step.node.output) if n}
        for name, kind in {**made, **integers}.items():  # so that all that follows can be looked at
            make.hold(name, Tensor(make.plan.shapes.dims.get(name, ()), kind))
        return refused
    return None


def _convert(step: Step, make: Builder) -> None:
    node = step.node
    if node.op_type == "DequantizeLinear":
        return
    if node.op_type == "QuantizeLinear":
        _quantize(step, make)
        return
    entry = TABLE.get(operator_key(node))
    if entry is None:
        instead = "export the model before binarization, or to onnx" if has(node, Trait.ON_BITS) else "export to onnx"
        raise Refused("there is no such operator in TFLite", instead)
    entry.convert(step, make)
    others = [name for name in node.output[1:] if name not in step.rounded]
    if lost := [name for name in others if make.plan.index.uses[name] and not make.has(name)]:
        raise Refused(f"its output {lost[0]!r} is read, for which TFLite has no form")


def _quantize(step: Step, make: Builder) -> None:
    """Floats to integers, or integers to others."""
    kind = make.plan.scales(step.node)
    if step.output in make.plan.constants or kind is None or kind.scales is None:
        raise Refused("its scales are computed, or in blocks", "quantize with --scheme int8 or w8")
    source = step.operand(0)
    tensor, order = make.integers(source) if make.plan.restored(source) is not None else make.held(source)
    make.hold(step.output, make.emit("QUANTIZE", [tensor], tensor.shape, kind), order)


def _inputs(plan: Plan, make: Builder, ends: Ends) -> None:
    for name in plan.index.inputs:
        if name in plan.model.weights:
            continue
        order = channels_last(len(make.dims(name)))
        if ends.as_given or not layout_of(plan, name):
            order = plain(len(order))
        tensor = Tensor(shaped(make.dims(name), order), make.kind(name), name)
        readers = [plan.index.nodes[k] for k in plan.index.readers(name)]
        if ends.integer and len(readers) == 1 and readers[0].op_type == "QuantizeLinear":
            tensor.kind = plan.scales(readers[0]) or tensor.kind
            plan.computed.add(id(readers[0]))
            make.hold(readers[0].output[0], tensor, order)
        make.hold(name, tensor, order)
        make.program.inputs[name] = tensor, order


def _outputs(plan: Plan, make: Builder, ends: Ends) -> None:
    make.step = Step(make.step.node, "")
    for name in plan.index.outputs:
        integers = ends.integer and plan.restored(name) is not None and name not in plan.constants
        tensor, order = make.integers(name) if integers else make.held(name)
        if ends.as_given or order != channels_last(tensor.rank):
            tensor, order = make.reorder(tensor, order, plain(tensor.rank)), plain(tensor.rank)
        tensor.name = name if tensor not in {t for t, _ in make.program.inputs.values()} else tensor.name
        make.program.outputs[name] = tensor, order
