"""Losses of language models: scores of the next token at every place. Shapes: scores (samples, places, tokens)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....graph.errors import UsageError
from .loss import LOSSES, TEACHER, TOKENS, Answers

if TYPE_CHECKING:
    from torch import Tensor


def _scores(answers: Answers, *, theirs: bool = False) -> Tensor:
    outputs = answers.teacher if theirs else answers.outputs
    found = [value for value in outputs.values() if value.ndim == 3 and value.is_floating_point()]
    if not found:
        raise UsageError("no output scores tokens: none has three axes", fix="use --loss mse or ce")
    return found[0]


@LOSSES.register("next-token", needs=(TOKENS,))
def next_token(answers: Answers) -> Tensor:
    """Cross-entropy with the token that follows in the data."""
    import torch.nn.functional as F

    assert answers.tokens is not None, "it says that it needs them"
    return F.cross_entropy(_scores(answers)[:, :-1].flatten(0, 1), answers.tokens[:, 1:].flatten())


@LOSSES.register("token-kd", needs=(TEACHER,))
def tokens_distilled(answers: Answers) -> Tensor:
    """Divergence from the teacher's probabilities at every place. Source: Hinton et al., 2015, arXiv:1503.02531."""
    import torch
    import torch.nn.functional as F

    ours, theirs = (torch.log_softmax(_scores(answers, theirs=which), 2).flatten(0, 1) for which in (False, True))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
