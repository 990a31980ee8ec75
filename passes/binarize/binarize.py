"""Binarization: weights in one or two bits that are stored as bits, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar

from ...graph.cost import cost
from ...graph.errors import UsageError
from ...graph.model import Model
from ...graph.registry import owner
from ...measure.efficiency import efficiency
from ..base import PASSES, Context, Pass
from ..change import WORTH, Change
from ..live import MET, live_part
from ..needs import check_needs
from ..precision.attempt import attempt_within_limit
from ..precision.result import Result
from .algorithms.binarizer import BINARIZERS
from .options import AUTO, BinarizeOptions
from .scheme import SCHEMES, BitNote, Job, Scheme
from .weight_only import weight_only

DEFAULT = "planes"
"""What ``auto`` takes where no scheme says that a model was made for it."""

_DROWNED_DB = 3.0
"""Outputs with less signal over noise hardly resemble the original's."""


@PASSES.register("binarize")
class Binarize(BinarizeOptions, Pass):
    """Store weights in one or two bits, or lower a network that was trained binary to operators on bits."""

    name: ClassVar[str] = "binarize"
    doing: ClassVar[str] = "binarizing"
    resumes: ClassVar[bool] = True
    resumes_blind: ClassVar[bool] = True
    in_bodies: ClassVar[bool] = True
    sees_through: ClassVar[bool] = True

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Binarize a copy. Raises NothingChanged, ProofFailed, UsageError, BadData, BadModel, TargetUnreachable."""
        context = context or Context()
        name, scheme = scheme_for(self.scheme, model)
        if name in BINARIZERS:
            check_needs(f"{BINARIZERS.kind} {name}", BINARIZERS.entry(name).needs, context)
        if self.activations != "float" and (name not in BINARIZERS or self.stored == "dense"):
            raise UsageError(
                f"--activations {self.activations} goes with weights in bits alone, not with "
                + ("--form dense" if name in BINARIZERS else f"scheme {name}"),
                fix="leave it out, or take --scheme planes and --form packed",
            )
        self._check(name)
        live, study = live_part(model), self.form in ("dense", "qonnx") or name == "w1a1"
        job = Job(live.model, self, context, given=model)
        met = self.size is not None and live.meets("size", self.size)
        result, change = attempt_within_limit(
            live,
            lambda higher: Result.none(live.model, MET) if met else scheme.run(replace(job, higher_precision=higher)),
            context,
            max_drop=self.max_drop,
            verify=self.verify,
            done="binarized",
            advice="use more bits: intaglio quantize --scheme w4",
            rounded=False,
            least=-1.0 if study else 0.0 if self.include or self.exclude or self.size else WORTH,
        )
        mend = f"quantize it to 4 bits, keep layers in higher precision with --max-drop{'' if context.data else ', give --data'}"
        notes = [*change.notes, *([] if context.eval_data else _drowned(change.details["sqnr_db"], mend))]
        bibench = efficiency(cost(live.model), cost(change.model)).as_dict()
        details = {"scheme": name, "bits": _bits(result), "bibench": bibench, **change.details}
        advice = {"slower": _SLOWER["pack" if name == "pack" else "bits"], "collapsed": f"{mend}, or train it in bits"}
        return replace(change, details=details, notes=notes, advice=advice)

    def _check(self, name: str) -> None:
        """Raises UsageError for what the scheme would pass over."""
        one, ours = BINARIZERS.get(name), name in ("pack", "w1a1")
        salient = type(self).model_fields["salient"].default
        for flag, wrong, takes in (
            ("--salient", self.salient != salient and (ours or (one and isinstance(one.errors, tuple))), "pb"),
            ("--zeros", self.zeros and (one or name == "w1a1"), "pack"),
            ("--form qonnx", self.form == "qonnx" and self.scheme != AUTO and one, "pack"),
        ):
            if wrong:
                raise UsageError(
                    f"{flag} means nothing to scheme {name}", fix=f"leave it out, or take --scheme {takes}"
                )

    def read(self, model: Model) -> Model:
        from .trained.qonnx import from_qonnx

        return from_qonnx(model)

    def written(self, model: Model) -> Model:
        from .trained.qonnx import to_qonnx

        return to_qonnx(model) if self.form == "qonnx" else model


_SLOWER = {
    "pack": "see intaglio passes for what computes operators on bits here",
    "bits": "weights in bits save memory, and time where single rows meet large layers; for speed see intaglio quantize",
}


def _bits(result: Result) -> float | None:
    """Stored for each weight of the layers in bits, scales and maps included; None without such layers."""
    layers = [one for one in result.layers if isinstance(one, BitNote)]
    weights = sum(one.weights_count for one in layers)
    return sum(one.bits * one.weights_count for one in layers) / weights if weights else None


def _drowned(outputs: Mapping[str, float], mend: str) -> list[str]:
    return [
        f"output {name} hardly resembles the original's ({ratio:.1f} dB): {mend}"
        for name, ratio in outputs.items()
        if ratio < _DROWNED_DB
    ]


def scheme_for(spec: str, model: Model) -> tuple[str, Scheme]:
    """The scheme of that name, or weights in bits by the binarizer of that name; with ``auto`` what fits the model.

    Raises:
        UsageError: the name stands for nothing.
    """
    if spec == AUTO:
        spec = next((one for one in SCHEMES.builtin if SCHEMES[one].fits(model)), DEFAULT)
    if owner(spec, SCHEMES, BINARIZERS) is SCHEMES:
        return spec, SCHEMES[spec]
    return spec, Scheme(partial(weight_only, spec), "")
