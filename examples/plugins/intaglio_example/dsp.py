"""A target: a signal processor whose integer kernels want everything symmetric and float biases."""

from __future__ import annotations

from intaglio.passes.precision.grid import Grid
from intaglio.passes.quantize.targets import Target

dsp = Target(
    "a signal processor: signed, symmetric, float biases, standard operators only",
    Grid(8, narrow=True),
    symmetric=True,
    integer_bias=False,
    contrib=False,
)
