"""What training makes small: a number for each batch, of what the model gives and what it should give.

Third parties add a loss through the entry point group ``intaglio.losses``. A loss is a function of ``Answers`` that
returns the mean over the samples as a tensor; it says what it needs, ``labels``, a ``teacher`` or ``features``: inner tensors of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ....graph.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

LABELS, TEACHER, SCORES, FEATURES, TOKENS = "labels", "teacher", "scores", "features", "tokens"


@dataclass(frozen=True)
class Answers:
    """``outputs`` of the model that is trained, those of the ``teacher``, and ``labels`` as class numbers.

    ``scores`` names the output with one score per class, None where there is none; ``probabilities`` says that a Softmax
    made them. ``features`` are inner tensors of the model, ``inner`` those of the same names of the teacher; only losses that
    need them get the latter. Mixed samples are ``share`` of a sample and the rest of another, whose classes are ``others``. ``tokens`` are the numbers of tokens that a language model reads.
    """

    outputs: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]
    labels: Tensor | None
    scores: str | None
    probabilities: bool
    features: Mapping[str, Tensor] = field(default_factory=dict)
    inner: Mapping[str, Tensor] = field(default_factory=dict)
    others: Tensor | None = None
    share: Tensor | None = None
    tokens: Tensor | None = None

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
    "loss", "intaglio.losses", "intaglio.passes.train.losses", offers=(LABELS, TEACHER, SCORES, FEATURES, TOKENS)
)
"""Each says what it needs."""
