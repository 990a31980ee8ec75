"""Low-rank factorization: write weights as products of smaller ones, where that pays, until a target is met."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...graph.cost import cost
from ...graph.errors import NothingChanged, UsageError
from ...graph.io.save import file_bytes
from ...graph.model import Model
from ...measure.data.source import DataSource
from ..base import PASSES, Context, Pass
from ..budget.amounts import Amounts
from ..budget.latency_target import LatencyReport
from ..change import Change
from ..proof import Proof
from .job import Job, LayerReport, first_inputs
from .options import FactorizeOptions
from .proof import prove
from .ready import without_idle_biases
from .rewrite import apply, product

_NEAR = 0.01
"""A target counts as reached within this fraction of the whole."""


@dataclass(frozen=True)
class Factorized:
    """What a run of the pass did. ``reference`` is the original's structure with the products of the factors."""

    model: Model
    reference: Model
    before: Amounts
    after: Amounts
    layers: list[LayerReport]
    proof: Proof | None
    notes: list[str]
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)
    latency: LatencyReport | None = None


@PASSES.register("factorize")
class Factorize(FactorizeOptions, Pass):
    """Split weights into low-rank factors, fitted to real activations where there is calibration data.

    Source: Zhang et al., PAMI 2016, arXiv:1505.06798 (targets of the original from the compressed network's inputs);
    Jaderberg et al., BMVC 2014, arXiv:1405.3866, and Kim et al., ICLR 2016, arXiv:1511.06530 (schemes).
    Differs: spatial and Tucker factors by alternating least squares on activations; targets of residual sums corrected
    by what the other branch got wrong; schemes and ranks chosen together, by what they do to the outputs.
    """

    name: ClassVar[str] = "factorize"

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Factorize a copy. Raises TargetUnreachable, NothingChanged, ProofFailed, UsageError, BadModel, BadData."""
        done = self.factorize(model, context or Context())
        return Change(model, done.model, details=describe(done))

    def factorize(self, model: Model, context: Context, *, real: DataSource | None = None) -> Factorized:
        """The same with everything that was found on the way.

        ``real`` are more inputs to prove it on; for ``drop`` they are the labelled data.
        """
        start = time.perf_counter()
        if self.target == "drop" and (real is None or not real.labelled):
            raise UsageError(
                "a largest drop of accuracy needs labelled data to measure it on", fix="add --eval-data SOURCE"
            )
        job = Job(self, model, context)
        picked, latency = job.pick(real)
        if not picked:
            raise NothingChanged("no layer is worth splitting", why=_summary(job.reports({})), fix=_fix(self))
        done = job.done(picked)
        small = without_idle_biases(apply(job.model, done.splits, done.weights), job.idle)
        reference = product(job.model, done.splits, done.weights)
        proof = (
            prove(reference, small, done.splits, first_inputs(context.data or real), context.seed)
            if self.verify
            else None
        )
        after = Amounts.counted(cost(small), file_bytes(small))
        notes = [*job.notes, *self._reached(after, job)]
        return Factorized(
            small,
            reference,
            job.before,
            after,
            job.reports(picked, done),
            proof,
            notes,
            time.perf_counter() - start,
            job.details(done),
            latency,
        )

    def _reached(self, after: Amounts, job: Job) -> list[str]:
        if self.target not in ("macs", "params", "size"):
            return []
        reached = after.of(self.target) / max(1.0, job.before.of(self.target))
        if abs(reached - self.keep) <= _NEAR:
            return []
        return [
            f"the nearest possible to {self.target} {self.keep:g} is {reached:.3f}: ranks are multiples of {self.align}"
        ]


def _summary(layers: Sequence[LayerReport]) -> str:
    told = [f"{r.name}: {r.reason}" for r in layers]
    return "; ".join(told[:4]) + (f"; and {len(told) - 4} more layers" if len(told) > 4 else "") or "it has no layers"


def _fix(asked: Factorize) -> str:
    if asked.target == "drop":
        return "allow a larger drop"
    return "ask for less, or try a lower --align, --min-gain or --min-speedup, or --no-measure"


def describe(done: Factorized) -> dict[str, Any]:
    """The result as plain data: what ``intaglio factorize --json`` prints."""
    before, after = done.before, done.after
    return {
        "before": before.as_dict(),
        "after": after.as_dict(),
        "kept": {k: after.of(k) / before.of(k) if before.of(k) else 1.0 for k in ("macs", "params", "size")},
        **done.details,
        **({"latency_target": done.latency.as_dict()} if done.latency else {}),
        "layers": [layer.as_dict() for layer in done.layers],
        "verified": done.proof.as_dict() if done.proof else None,
        "notes": done.notes,
        "seconds": done.seconds,
    }
