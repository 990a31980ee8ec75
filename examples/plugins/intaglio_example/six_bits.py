"""A scheme: weights in six bits, of which the built-in ones have none."""

from __future__ import annotations

from intaglio.passes.precision.result import Result
from intaglio.passes.quantize.scheme import SCHEMES, Job
from intaglio.passes.quantize.schemes.weight_only import weight_only


@SCHEMES.register("w6")
def w6(job: Job) -> Result:
    """Weights in 6 bits, activations in float."""
    return weight_only(6, job)
