"""Losses that look at inner tensors of model and teacher. Of a teacher with more channels those that the model kept are given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .loss import FEATURES, LOSSES, TEACHER, Answers

if TYPE_CHECKING:
    from torch import Tensor


def _pairs(answers: Answers) -> Iterator[tuple[Tensor, Tensor]]:
    return ((ours, answers.inner[name]) for name, ours in answers.features.items() if name in answers.inner)


def _mean(terms: list[Tensor]) -> Tensor:
    import torch

    return torch.stack(terms).mean()


class InnerOptions(BaseModel):
    gamma: float = Field(default=20.0, gt=0, description="what it is multiplied by, beside other losses")


@LOSSES.register("ikd", options=InnerOptions, needs=(TEACHER, FEATURES))
def inner_distillation(answers: Answers, options: InnerOptions) -> Tensor:
    """Mean square of what inner tensors differ from the teacher's, of the channels that were kept.

    Source: Aflalo et al., "Knapsack pruning with inner distillation", 2020, arXiv:2002.08258.
    """
    return options.gamma * _mean([(ours - theirs).square().mean() for ours, theirs in _pairs(answers)])


@LOSSES.register("features", needs=(TEACHER, FEATURES))
def features_apart(answers: Answers) -> Tensor:
    """The same, beside the variance of the teacher's. Source: Romero et al., "FitNets", ICLR 2015, arXiv:1412.6550."""
    return _mean([(a - b).square().mean() / b.var(correction=0).clamp_min(1e-12) for a, b in _pairs(answers)])


@LOSSES.register("attention", needs=(TEACHER, FEATURES))
def attention_apart(answers: Answers) -> Tensor:
    """Squared distance of where maps are large, whatever their channels.

    Source: Zagoruyko and Komodakis, "Paying more attention to attention", ICLR 2017, arXiv:1612.03928.
    """
    import torch.nn.functional as F

    maps = [[F.normalize(x.square().sum(1).flatten(1), dim=1) for x in pair] for pair in _pairs(answers)]
    return _mean([(ours - theirs).square().sum(1).mean() for ours, theirs in maps])


class ContrastOptions(BaseModel):
    temperature: float = Field(default=0.1, gt=0, description="what cosines are divided by")
    scales: int = Field(default=2, ge=1, description="maps are cut into 1, 2 x 2, 4 x 4... regions, so many times")


@LOSSES.register("crd", options=ContrastOptions, needs=(TEACHER, FEATURES))
def contrast(answers: Answers, options: ContrastOptions) -> Tensor:
    """Cross-entropy of finding, among all regions of a batch, the teacher's features of the same one.

    Source: Tian et al., "Contrastive representation distillation", ICLR 2020, arXiv:1910.10699; regions at several scales.
    Differs: only samples of the same batch are told apart, and nothing is projected.
    """
    import torch
    import torch.nn.functional as F

    terms = []
    for pair in _pairs(answers):
        for scale in range(options.scales if pair[0].ndim == 4 else 1):
            ours, theirs = (F.normalize(_regions(x, 2**scale), dim=1) for x in pair)
            terms.append(F.cross_entropy(ours @ theirs.T / options.temperature, torch.arange(len(ours))))
    return _mean(terms)


def _regions(x: Tensor, count: int) -> Tensor:
    """Shapes: (samples, channels, ...) -> (samples * regions, channels)."""
    import torch.nn.functional as F

    if x.ndim != 4:
        return x.flatten(2).mean(2)
    return F.adaptive_avg_pool2d(x, count).movedim(1, 3).reshape(-1, x.shape[1])


@LOSSES.register("cka", needs=(TEACHER, FEATURES))
def alignment(answers: Answers) -> Tensor:
    """One minus how alike model and teacher find the samples of a batch.

    Source: Kornblith et al., "Similarity of neural network representations revisited", ICML 2019, arXiv:1905.00414.
    """
    terms = []
    for pair in _pairs(answers):
        ours, theirs = ((x - x.mean(0)).flatten(1) for x in pair)
        a, b = ours @ ours.T, theirs @ theirs.T
        terms.append(1 - (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12))
    return _mean(terms)
