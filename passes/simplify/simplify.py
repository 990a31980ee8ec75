"""The pass that cleans a graph: the same outputs, fewer nodes, no more bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from ...graph.errors import BadModel, NothingChanged, ProofFailed
from ...graph.index import index_of
from ...graph.io.save import file_bytes
from ...graph.model import Model
from ...graph.nodes import drop_dead, refill
from ...measure.run.session import as_file, open_session, run
from ..base import PASSES, Context, Pass
from ..change import Change
from ..proof import Claim, Proof, largest_gap, proof_inputs, prove_equal, real_inputs
from .affine import fold_affine
from .constants import fold_constants
from .duplicates import merge_duplicates
from .fold import fold_batch_norm
from .idle import drop_idle
from .merge import merge_layers
from .options import SimplifyOptions

_CLAIM = Claim("simplified", "step", "the model as it was given")
_NEAR = 1e-4
_RECIPE = 300
"""Bytes that the file takes to say how it was made, about."""


@PASSES.register("simplify")
class Simplify(SimplifyOptions, Pass):
    """Clean a graph without changing what it computes: constants, idle and equal nodes, BatchNormalization, layers that merge."""

    name: ClassVar[str] = "simplify"
    doing: ClassVar[str] = "simplifying"

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Raises NothingChanged where there is nothing to clean, ProofFailed where outputs would differ."""
        context = context or Context()
        result, done = self._simplified(model)
        if not done and not model.notes:
            raise NothingChanged(
                "the model is as simple as it gets",
                why="there are no constants to compute, no idle, equal or dead nodes, no layers to merge",
                fix="go on with prune, factorize or quantize",
            )
        proof = self._proof(model, result, context) if self.verify else None
        details = {
            "done": dict(done),
            "nodes": {"before": len(model.graph.node), "after": len(result.graph.node)},
        }
        return Change(
            model,
            result,
            details=details,
            proof=proof,
            proved=f"compared {proof.told()}" if proof else "not compared, as --no-verify asks",
            reference=model.copy,
            refusal=_larger(model, result),
        )

    def _simplified(self, model: Model) -> tuple[Model, Counter[str]]:
        """What all steps make of a copy, and by step how much they did."""
        best, done = model.copy(), Counter[str]()
        for title, step in self._steps().items():
            tried, count = step(best.copy())
            _clean(tried)
            if count and file_bytes(tried) <= file_bytes(best):
                best = tried
                done[title] += count
        return best, done

    def _steps(self) -> Mapping[str, Callable[[Model], tuple[Model, int]]]:
        steps: dict[str, Callable[[Model], tuple[Model, int]]] = {
            "dead": _in_place(_drop_dead),
            "constants": _in_place(fold_constants),
            "idle": _in_place(drop_idle),
            "duplicates": _in_place(merge_duplicates),
        }
        if self.fold:
            steps |= {"BatchNormalization": fold_batch_norm, "sums and products": fold_affine}
        if self.merge:
            steps["merged layers"] = merge_layers
        return steps

    def _proof(self, model: Model, result: Model, context: Context) -> Proof:
        feeds, told = proof_inputs(model, real_inputs(context.data), context.seed)
        names = [v.name for v in model.graph.output]
        proof = prove_equal(model, result, names, (feeds, told), _CLAIM, memory=context.memory, exact=not self.fold)
        if model.file is not None:
            _require_same_as_file(model, result, feeds)
        return proof


def _larger(model: Model, result: Model) -> NothingChanged | None:
    """Why a result should not be written that takes more than the file that was read."""
    after, before = file_bytes(result) + _RECIPE, model.file.size_bytes if model.file else file_bytes(model) + _RECIPE
    if after <= before:
        return None
    return NothingChanged(
        f"the simplified file would have {after:,} bytes with its recipe, it has {before:,} now; nothing was written",
        why="what could go is less than the recipe takes that says how the file was made",
        fix="keep the model as it is, or write it all the same with --force",
    )


def _in_place(step: Callable[[Model], int]) -> Callable[[Model], tuple[Model, int]]:
    return lambda model: (model, step(model))


def _drop_dead(model: Model) -> int:
    before = len(model.graph.node) + len(model.weights)
    drop_dead(model)
    return before - len(model.graph.node) - len(model.weights)


def _clean(model: Model) -> None:
    """Remove what a step left without readers, and what is said of tensors that are gone."""
    drop_dead(model)
    made = index_of(model).place
    refill(model.graph.value_info, [v for v in model.graph.value_info if v.name in made])


def _require_same_as_file(model: Model, result: Model, feeds: Any) -> None:
    """Also hold the result to the file itself, which loading changed. A file that does not run says nothing."""
    assert model.file is not None
    try:
        theirs = open_session(as_file(model.file.path, model))
    except BadModel:
        return
    ours = open_session(result)
    if {port.name for port in theirs.get_inputs()} != {port.name for port in ours.get_inputs()}:
        return
    for feed in feeds:
        a, b = run(theirs, feed), run(ours, feed)
        for name, value in a.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
                gap, scale = largest_gap(value, b[name]), float(np.nanmax(np.abs(value)))
                if gap > _NEAR * max(scale, 1.0):
                    raise ProofFailed(
                        f"the simplified model differs from the file by {gap:.3g} in {name!r}, where values reach {scale:.3g}",
                        why="nothing is written",
                        fix="try --no-fold or --no-merge, and report the model: this is a fault in intaglio",
                    )
