"""A loss: outputs beside a teacher's, of which a few that are far off do not decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.passes.train import LOSSES, TEACHER, Answers

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register("huber", needs=(TEACHER,))
def huber(answers: Answers) -> Tensor:
    """Huber's loss between the outputs and the teacher's."""
    import torch

    pairs = [(answers.outputs[name], theirs) for name, theirs in answers.teacher.items()]
    return torch.stack([torch.nn.functional.huber_loss(ours, theirs) for ours, theirs in pairs]).sum()
