"""Losses that look at outputs alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .loss import LABELS, LOSSES, SCORES, TEACHER, Answers

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropyOptions(BaseModel):
    smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the probability that goes to all classes")


@LOSSES.register("ce", options=CrossEntropyOptions, needs=(LABELS, SCORES))
def cross_entropy(answers: Answers, options: CrossEntropyOptions) -> Tensor:
    """Cross-entropy with the labels, of mixed samples with those of both.

    Source of smoothing: Szegedy et al., CVPR 2016, arXiv:1512.00567; of mixing: Zhang et al., ICLR 2018, arXiv:1710.09412.
    """
    import torch.nn.functional as F

    assert answers.labels is not None, "it says that it needs them"
    logs = answers.logarithms(answers.outputs)
    told = F.nll_loss(logs, answers.labels)
    if answers.others is not None and answers.share is not None:
        first, second = (F.nll_loss(logs, one, reduction="none") for one in (answers.labels, answers.others))
        told = (answers.share * first + (1 - answers.share) * second).mean()
    return (1 - options.smoothing) * told - options.smoothing * logs.mean()


class DistillationOptions(BaseModel):
    temperature: float = Field(default=4.0, gt=0, description="what scores are divided by")
    normalized: bool = Field(default=False, description="whether scores are first divided by their own deviation")


@LOSSES.register("kd", options=DistillationOptions, needs=(TEACHER, SCORES))
def distillation(answers: Answers, options: DistillationOptions) -> Tensor:
    """Divergence from the teacher's probabilities at a temperature, times its square.

    Source: Hinton et al., 2015, arXiv:1503.02531; deviations of scores: Sun et al., CVPR 2024, arXiv:2403.01427.
    """
    import torch.nn.functional as F

    heat = options.temperature
    theirs, ours = (
        answers.logarithms(_standardized(v, answers) if options.normalized else v, heat)
        for v in (answers.teacher, answers.outputs)
    )
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * heat**2


def _standardized(outputs: Mapping[str, Tensor], answers: Answers) -> Mapping[str, Tensor]:
    assert answers.scores is not None
    flat = outputs[answers.scores].flatten(1)
    size = flat.std(1, keepdim=True).clamp_min(1e-6)
    return {answers.scores: flat / size}


@LOSSES.register("mse", needs=(TEACHER,))
def outputs_apart(answers: Answers) -> Tensor:
    """Mean square of what the outputs differ from the teacher's, beside the variance of the teacher's."""
    import torch

    total = torch.zeros(())
    for name, theirs in answers.teacher.items():
        ours = answers.outputs[name]
        if theirs.is_floating_point() and theirs.numel():
            total = total + (ours - theirs).square().mean() / theirs.var(correction=0).clamp_min(1e-12)
    return total


@LOSSES.register("cosine", needs=(TEACHER,))
def directions_apart(answers: Answers) -> Tensor:
    """One minus the cosine between the outputs of each sample and the teacher's."""
    import torch
    import torch.nn.functional as F

    total = torch.zeros(())
    for name, theirs in answers.teacher.items():
        if theirs.is_floating_point():
            total = total + 1 - F.cosine_similarity(answers.outputs[name].flatten(1), theirs.flatten(1)).mean()
    return total
