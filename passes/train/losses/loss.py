"""What training makes small: a number for each batch, of what the model gives and what it should give.

Third parties add a loss through the entry point group ``intaglio.losses``. A loss is a function of ``Answers`` that
returns the mean over the samples as a tensor; it says what it needs, ``labels`` or a ``teacher``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ....graph.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

LABELS, TEACHER, SCORES = "labels", "teacher", "scores"


@dataclass(frozen=True)
class Answers:
    """``outputs`` of the model that is trained, those of the ``teacher``, and ``labels`` as class numbers.

    ``scores`` names the output with one score per class, None where there is none; ``probabilities`` says that a Softmax
    made them.
    """

    outputs: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]
    labels: Tensor | None
    scores: str | None
    probabilities: bool

    def logarithms(self, outputs: Mapping[str, Tensor], temperature: float = 1.0) -> Tensor:
        """Logarithms of the probability of each class. Shapes: (samples, classes)."""
        import torch

        assert self.scores is not None, "a loss that looks at scores is refused where there are none"
        flat = outputs[self.scores].flatten(1)
        if self.probabilities:
            flat = flat.clamp_min(torch.finfo(flat.dtype).tiny).log()
        return torch.log_softmax(flat / temperature, 1)


Loss = Callable[[Answers], "Tensor"]
LOSSES: Registry[Loss] = Registry(
    "loss", "intaglio.losses", "intaglio.passes.train.losses", offers=(LABELS, TEACHER, SCORES)
)
"""Each says what it needs."""
