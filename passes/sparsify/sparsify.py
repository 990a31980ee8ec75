"""Sparsification: most weights of a layer become zero, the others make up for them, and the file holds only these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any, ClassVar

import numpy as np

from ...graph.errors import TargetUnreachable, UsageError
from ...graph.io.save import file_bytes
from ...graph.layer import Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ..base import PASSES, Context, Pass
from ..calibration.feeds import calibration_inputs, with_mirrored
from ..calibration.walk import Walked, round_in_turn, round_layers, round_plainly
from ..change import WORTH, Change
from ..live import live_part
from ..masks import looks_masked, masks, set_masks
from ..needs import check_needs
from ..precision.attempt import attempt_within_limit
from ..precision.result import Request, Result
from ..rewrite.zeros import Packed, pack_weights, packable
from ..simplify import fold_batch_norm, with_biases
from .chosen import SparseNote, choose_layers
from .method import METHODS
from .options import AUTO, SparsifyOptions
from .patterns import pattern_named
from .plan import Plan
from .rule import Sparse, SparseRule

Job = Request[SparsifyOptions]
NO_FASTER = "ONNX Runtime multiplies by zeros as by other weights: the file gets smaller, a run no faster"
_HALVINGS = 12
_LOWEST = 1e-3
"""Density that is tried at least for a size."""


@PASSES.register("sparsify")
class Sparsify(SparsifyOptions, Pass):
    """Make most weights zero and fit the others; the file holds a bit for each weight and the values that stay."""

    name: ClassVar[str] = "sparsify"
    doing: ClassVar[str] = "sparsifying"
    resumes: ClassVar[bool] = True
    resumes_blind: ClassVar[bool] = True
    in_bodies: ClassVar[bool] = True
    sees_through: ClassVar[bool] = True

    @property
    def blind(self) -> str:
        return "weights" if self.method == AUTO and self._asked(self.method_for(Context())) else ""

    def method_for(self, context: Context) -> str:
        """The method's name, ``auto`` resolved."""
        return self.method if self.method != AUTO else "magnitude" if context.data is None else "obs"

    def _asked(self, method: str) -> float | None:
        """The density that was asked for: that of the pattern, or of the method, where these have their own; None for what the
        file already has.

        Raises:
            UsageError: two densities were asked for.
        """
        fixed, given = pattern_named(self.pattern).density, self.density
        own = 1.0 if METHODS[method].own else fixed
        if own is not None and (self.size is not None or (given is not None and abs(given - own) > 1e-9)):
            what = f"pattern {self.pattern}" if own == fixed else f"method {method}"
            raise UsageError(f"{what} has a density of its own", fix="leave out --density and --size")
        return given if own is None else own

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Sparsify a copy. Raises NothingChanged, ProofFailed, UsageError, BadData, BadModel, TargetUnreachable."""
        context = context or Context()
        method = self.method_for(context)
        check_needs(f"method {method}", METHODS.entry(method).needs, context)
        density = self._asked(method)
        live = live_part(model)
        job = Job(live.model, self, context, given=model)
        result, change = attempt_within_limit(
            live,
            lambda higher: _made(replace(job, higher_precision=higher), method, density),
            context,
            max_drop=self.max_drop,
            verify=self.verify,
            done="sparsified",
            advice="ask for a higher --density",
            rounded=False,
            least=-1.0 if self.form == "dense" else 0.0 if self.include or self.exclude or self.size else WORTH,
        )
        return replace(change, notes=[*change.notes, NO_FASTER], details={**change.details, **_told(result, self)})


def _made(job: Job, method: str, density: float | None) -> Result:
    options, context = job.options, job.context
    if density is None and options.size is None and options.codebook is None:
        return _as_it_is(job)
    model = _marked(with_biases(fold_batch_norm(job.model)[0]))
    chosen = choose_layers(model, options, pattern_named(options.pattern), job.higher_precision)
    plan = Plan(model, options, context, method, chosen)
    if options.size is not None:
        density = _density_for(options.size, job.bytes_for(1.0), plan)
    return _sparse(plan, _walked(model, plan.rules(density), job))


def _walked(model: Model, rules: Mapping[str, SparseRule], job: Job) -> Walked[Sparse]:
    """Layer after layer; without a refit old weights are what some of stay, and only biases follow."""
    if job.options.refit or job.context.data is None or not rules:
        return round_layers(model, rules, job.context, job.model)
    batches, _ = calibration_inputs(model, job.context)
    return round_in_turn(model, model, with_mirrored(batches, model), rules, job.context, refit=False)


def _marked(model: Model) -> Model:
    """A copy in which weights with many zeros have a mask."""
    marked, known = model.copy(), masks(model)
    found = {one.weight: "any" for one in Layers(model) if looks_masked(model.weights[one.weight])}
    set_masks(marked, {**found, **known})
    return marked


def _as_it_is(job: Job) -> Result:
    """Noughts that are there, stored small; every number stays what it is."""
    model = _marked(job.model)
    packed = pack_weights(model, packable(model)) if job.options.form == "packed" else model
    gone = model.weights.keys() - packed.weights.keys()
    readers = {one.weight: one for one in Layers(model).weighted}
    notes = [_note(readers[name], model, "as it is") for name in gone if name in readers]
    skipped = {} if gone else {"every layer": "no weight has so many zeros that a map of them takes less than they do"}
    return Result(packed, dict.fromkeys(sorted(gone), "packed"), skipped, reference=model, layers=notes)


def _sparse(plan: Plan, walked: Walked[Sparse]) -> Result:
    model, options = plan.model, plan.options
    if not walked.rounded:
        return Result(model, {}, dict(plan.chosen.skipped), reference=model)
    dense = walked.applied(model)
    names = list(plan.chosen.first)
    patterns = {name: options.pattern for name in names if looks_masked(dense.weights[name])}
    set_masks(dense, {**masks(model), **patterns})
    made = pack_weights(dense, names) if options.form == "packed" else dense
    notes = [_note(one.layer, dense, one.method, one.error) for one in walked.rounded.values()]
    done = {one.name: "sparse" for one in notes}
    return Result(made, done, dict(plan.chosen.skipped), reference=model, layers=notes)


def _note(layer: Layer, model: Model, method: str, error: float | None = None) -> SparseNote:
    weight, pattern = model.weights[layer.weight], masks(model).get(layer.weight, "")
    size, kept = min(weight.nbytes, Packed(weight).nbytes), int(np.count_nonzero(weight))
    reads = "" if layer.unfit else layer.x
    return SparseNote(layer.name, layer.node, reads, pattern, "float32", method, error, kept, weight.size, size)


def _density_for(part: float, whole: float, plan: Plan) -> float:
    """The highest density with which the file has this part of the whole's bytes: they follow from counts alone.

    Raises:
        TargetUnreachable: the lowest density takes more.
    """

    def size(density: float) -> int:
        rules = plan.plain().rules(density)
        return file_bytes(_sparse(plan, round_plainly(plan.model, rules)).model)

    low, high = _LOWEST, 1.0
    if (least := size(low)) > part * whole:
        raise TargetUnreachable(
            f"target size={part:g} cannot be reached: lowest reachable is {ceil(1000 * least / whole) / 1000}",
            why="what stays, the map of it and other constants take more",
            fix="allow more, add --codebook 16, or remove channels first with intaglio prune",
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= part * whole else (low, middle)
    return low


def _told(result: Result, options: SparsifyOptions) -> dict[str, Any]:
    """What layers have together."""
    notes = [one for one in result.layers if isinstance(one, SparseNote)]
    count = sum(one.count for one in notes)
    density = sum(one.kept for one in notes) / count if count else 1.0
    return {"density": density, "pattern": options.pattern, "form": options.form, "densities": options.layers}
