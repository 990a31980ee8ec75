"""Distillation that looks most where the teacher is in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .loss import LOSSES, SCORES, TEACHER, Answers

if TYPE_CHECKING:
    from torch import Tensor


class Deviation(BaseModel):
    temperature: float = Field(default=2.0, gt=0, description="what scores are divided by")
    power: float = Field(
        default=1.0, ge=0, description="of the teacher's entropy, which samples count by; 0: all alike"
    )


@LOSSES.register("dad", options=Deviation, needs=(TEACHER, SCORES))
def deviation_aware(answers: Answers, options: Deviation) -> Tensor:
    """Divergence from the teacher, of each sample times its entropy beside the mean: ambiguous samples count more.

    Source: Chen et al., DB-LLM, 2024, arXiv:2402.11960. Differs: the teacher's entropy alone, as the exact weights were not at hand.
    """
    heat = options.temperature
    theirs, ours = (answers.logarithms(one, heat) for one in (answers.teacher, answers.outputs))
    entropy = -(theirs.exp() * theirs).sum(1)
    weights = entropy.clamp_min(1e-6) ** options.power
    apart = (theirs.exp() * (theirs - ours)).sum(1)
    return (weights / weights.mean() * apart).mean() * heat**2
