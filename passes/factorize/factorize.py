"""Low-rank factorization: write weights as products of smaller ones, where that pays, until a target is met."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from ...graph.errors import NothingChanged
from ...graph.layers import Layers
from ...graph.model import Model
from ..base import PASSES, Context, Pass
from ..budget.amounts import Amounts
from ..budget.drop import accuracy_of
from ..change import Change, amounts, saves_nothing
from ..live import MET, live_part
from ..proof import Proof, real_inputs
from .job import Job
from .options import FactorizeOptions
from .proof import prove
from .ready import without_idle_biases
from .rewrite import apply, product

_NEAR = 0.01
"""A target counts as reached within this fraction of the whole."""
_SLOW = "thin layers can take longer than what they save"


@PASSES.register("factorize")
class Factorize(FactorizeOptions, Pass):
    """Split weights into low-rank factors, fitted to real activations where there is calibration data.

    Source: Zhang et al., PAMI 2016, arXiv:1505.06798 (targets of the original from the compressed network's inputs);
    Jaderberg et al., BMVC 2014, arXiv:1405.3866, and Kim et al., ICLR 2016, arXiv:1511.06530 (schemes).
    Differs: spatial and Tucker factors by alternating least squares on activations; targets of residual sums corrected
    by what the other branch got wrong; schemes and ranks chosen together, by what they do to the outputs.
    """

    name: ClassVar[str] = "factorize"
    doing: ClassVar[str] = "factorizing"
    in_bodies: ClassVar[bool] = True
    resumes: ClassVar[bool] = True
    resumes_blind: ClassVar[bool] = True

    def recipe(self, change: Change) -> dict[str, Any]:
        told = {**self.model_dump(), **change.stated}
        return {name: value for name, value in told.items() if value is not None}

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Factorize a copy. Raises TargetUnreachable, NothingChanged, ProofFailed, UsageError, BadModel, BadData."""
        context = context or Context()
        if self.target == "drop":
            accuracy_of(context)
        live = live_part(model)
        job = Job(self, live, context)
        met = live.meets(self.target, self.keep)
        picked, latency = ({}, None) if met else job.pick()
        if not picked and not met:
            why = Layers(job.model).tell({one.name: one.reason for one in job.reports({})})
            raise NothingChanged("no layer is worth splitting", why=why, fix=_fix(self))
        done = job.done(picked)
        small = without_idle_biases(apply(job.model, done.splits, done.weights), job.idle)
        reference = partial(product, job.model, done.splits, done.weights)
        feeds = real_inputs(context.inputs)
        proof = prove(reference(), small, done.splits, feeds, context.seed, context.memory) if self.verify else None
        after = amounts(small)
        return Change(
            model,
            small,
            [vars(layer) for layer in job.reports(picked, done)],
            details=job.details(done),
            notes=[*live.notes, *job.notes, *job.timed, *([MET] if met else self._reached(after, job))],
            proof=proof,
            proved=_proved(proof),
            reference=reference,
            latency=latency,
            stated=job.stated(picked),
            advice={
                "slower": "thin layers can take longer than what they save, try --align 16 or a higher --min-speedup"
            },
            refusal=(latency.refusal("factorized", why=_SLOW, fix="or write it") if latency else None)
            or saves_nothing(live.given, small, "factorized"),
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


def _fix(asked: Factorize) -> str:
    if asked.target == "drop":
        return "allow a larger drop"
    return "ask for less, or try a lower --align, --min-gain or --min-speedup, or --no-measure"


def _proved(proof: Proof | None) -> str:
    if proof is None:
        return "not verified (--no-verify)"
    return f"verified: equals the network whose weights are the products of the factors, on {proof.told()}"
