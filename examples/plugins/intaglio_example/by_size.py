"""A binarization scheme: one plane of signs for large models, two for small ones."""

from __future__ import annotations

from intaglio.passes.binarize.scheme import Job, Scheme
from intaglio.passes.binarize.weight_only import weight_only
from intaglio.passes.precision.result import Result

_LARGE = 1_000_000


def run(job: Job) -> Result:
    large = sum(weight.size for weight in job.model.weights.values()) > _LARGE
    return weight_only("xnor" if large else "planes", job)


by_size = Scheme(run, "One plane of signs above a million weights, two below.")
