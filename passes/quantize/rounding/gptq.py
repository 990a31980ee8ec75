"""GPTQ: columns are rounded one after the other, and those still to come make up for what went wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ...precision.grid import Floats, Quantized, spread
from ...rounding.columns import DAMP, choose_columns
from ...rounding.problem import Problem
from ...rounding.steps import Steps, search_scales
from .rounding import ROUNDERS


class Gptq(BaseModel):
    """Options of ``gptq``."""

    damp: float = Field(default=DAMP, gt=0, description="added to the Hessian's diagonal, relative to its mean")


@ROUNDERS.register("gptq", options=Gptq)
def gptq(problem: Problem, options: Gptq) -> Quantized:
    """GPTQ, largest inputs first: columns still to be rounded make up for those that are. Needs data.

    Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR
    2023, arXiv:2210.17323. Differs: scales are those of least squared error and are found before the first column is
    rounded, as in the authors' ``static-groups``: blocks lose their order to the descending diagonal.
    """
    steps = search_scales(problem)
    if problem.hessian is None:
        return steps.quantized(problem)
    return successive(problem, problem.hessian, steps, options.damp)


def successive(problem: Problem, hessian: Floats, steps: Steps, damp: float = DAMP) -> Quantized:
    """Round with given scales. Shapes: hessian (groups, columns, columns)."""
    scale, zero = (
        np.ascontiguousarray(spread(v, problem.block, hessian.shape[-1]).transpose(0, 2, 1))
        for v in (steps.scale, steps.zero)
    )
    codes, groups = np.empty_like(scale), np.arange(len(hessian))

    def choose(columns: NDArray[np.intp], target: Floats) -> Floats:
        step, shift = scale[groups, columns], zero[groups, columns]
        found = problem.grid.round(target, step, shift)
        if problem.nought is not None:
            found = np.where(problem.nought[groups, :, columns], shift, found)
        codes[groups, columns] = found
        return np.asarray((found - shift) * step)

    choose_columns(problem.wanted, hessian, choose, damp)
    return steps.of(problem, codes.transpose(0, 2, 1))
