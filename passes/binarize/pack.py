"""Scheme ``pack``: a network that was trained with bits, computed with bits; its outputs stay what they were."""

from __future__ import annotations

from ...graph.errors import NothingChanged, UsageError
from ...graph.io.opset import raise_opset
from ...graph.model import Model
from ...graph.nodes import display_name
from ..patterns import choose_nodes
from ..precision.result import Result
from ..proof import real_inputs
from .scheme import SCHEMES, BitNote, Job, Scheme
from .storage.inline import inline_definitions
from .trained.forms import stored_bits
from .trained.lower import Lowered, lower
from .trained.proof import Proof, prove
from .trained.qonnx import from_qonnx
from .trained.recognize import Recognized, recognize
from .trained.steps import THIRD

_OPSET = 13
_SAMPLES = 8
"""Real inputs that the proof runs on."""


def pack(job: Job) -> Result:
    """Find layers of signs and write them in the form asked for.

    Raises:
        UsageError: an option was given that is for weights of floats.
        NothingChanged: all of its signs have a third value, and ``zeros`` was not asked for.
        ProofFailed: what was written is not the same network; names the layer.
        BadModel: the operator set cannot be raised to 13.
    """
    options = job.options
    if options.size is not None or options.block is not None:
        raise UsageError("scheme pack keeps what the network computes", fix="leave out --size and --block")
    model = from_qonnx(job.model)
    model = raise_opset(model, max(model.opset, _OPSET))
    wanted = choose_nodes(model, options.include, options.exclude)
    chosen = [w and display_name(n) not in job.higher_precision for w, n in zip(wanted, model.graph.node, strict=True)]
    found = recognize(model, zeros=options.zeros, chosen=chosen)
    third = [name for name, reason in _reasons(found).items() if reason == THIRD]
    if third and not any(layer.bits for layer in found.layers.values()):
        raise NothingChanged(
            f"{len(third)} layers of signs read the operator Sign, such as {third[0]!r}",
            why=THIRD,
            fix="take that 0 as +1 with --zeros, or pack weights alone with another --scheme",
        )
    if not found.layers:
        return Result(job.model, {}, found.left, reference=model)
    lowered = lower(found, "packed" if options.stored == "standard" else options.stored)
    proof = None
    if options.verify:
        proof = prove(found, lowered, real_inputs(job.context.inputs, _SAMPLES), job.context.seed)
    made = inline_definitions(lowered.model) if options.stored == "standard" else lowered.model
    notes = _notes(found, lowered)
    details = {"form": options.stored, "proof": proof.as_dict() if proof else None}
    told = [_told(proof)] if proof else []
    if third:
        told.append(f"{len(third)} layers, such as {third[0]!r}, keep float inputs: {THIRD}; --zeros takes it as +1")
    return Result(made, lowered.done, found.left, told, reference=model, layers=notes, details=details)


def fits(model: Model) -> bool:
    """Whether a network was trained with bits: some layer's weights are signs, and so is what it reads."""
    return any(layer.bits is not None for layer in recognize(from_qonnx(model), zeros=True).layers.values())


SCHEMES.register("pack")(Scheme(pack, "What was trained with bits, computed with bits: nothing is lost.", fits))


def _reasons(found: Recognized) -> dict[str, str]:
    """Why layers do not read bits, those whose weights alone are packed included."""
    return {**found.left, **{layer.dot.name: layer.reason for layer in found.layers.values() if not layer.bits}}


def _notes(found: Recognized, lowered: Lowered) -> list[BitNote]:
    made = []
    for place, layer in found.layers.items():
        dot = layer.dot
        weights = "ternary" if layer.signs.ternary else "binary"
        kept = "float32" if layer.bits is None else "binary"
        bits = stored_bits(layer, fused=place in found.fused) / dot.rows.size
        what = lowered.done[dot.name]
        made.append(BitNote(dot.name, dot.out, dot.data, weights, kept, what, None, bits, dot.rows.size, None, 0.0))
    return made


def _told(proof: Proof) -> str:
    signs = f"{proof.signs:,} signs are the same as the original's" if proof.signs else "no signs to compare"
    turned = f"; rounding decides {proof.turned:,} signs in a run from end to end" if proof.turned else ""
    return (
        f"proved on {proof.inputs} inputs: {signs}, {proof.layers} layers' sums within {proof.max_rel_diff:.1e} of their "
        f"largest value{turned}; outputs differ by {proof.outputs_rel_diff:.1e}"
    )
