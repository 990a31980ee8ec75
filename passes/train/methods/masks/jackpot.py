"""Which weights of a network stay, learned while the weights themselves are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..method import METHODS, Method
from .masked import Density, kept, prunable, random_like

if TYPE_CHECKING:
    from torch import Tensor

    from ...engine.student import Student


class Jackpot(Density):
    pace: float = Field(default=10.0, gt=0, description="steps of scores beside those of weights")


class Scored(Method):
    """Each weight has a score that is trained; those of the highest scores are there, with the gradient of all."""

    def __init__(self, options: Jackpot) -> None:
        self.options = options

    def start(self, student: Student) -> None:
        weights = prunable(student)
        student.freeze(weights)
        for name, value in weights.items():
            student.add(f"score/{name}", self.scores(value.detach()), pace=self.options.pace)
            student.add(f"there/{name}", value.detach().clone())
        self._choose(student)

    def scores(self, weight: Tensor) -> Tensor:
        """At first."""
        return (weight.abs() / weight.abs().mean().clamp_min(1e-12)).clone()

    def _choose(self, student: Student) -> None:
        scores = {name: student.own[f"score/{name}"].abs() for name in prunable(student)}
        for name, mask in kept(scores, self.options.density, self.options.layers).items():
            student.own[f"there/{name}"].copy_(mask)

    def seen(self, student: Student, name: str, value: Tensor) -> Tensor:
        if f"score/{name}" not in student.own:
            return value
        score = student.own[f"score/{name}"].abs()
        return value.detach() * (student.own[f"there/{name}"] + (score - score.detach()))

    def after_step(self, student: Student, step: int, steps: int) -> None:
        self._choose(student)


@METHODS.register("jackpot", options=Jackpot)
class LotteryJackpot(Scored):
    """Masks are learned, from magnitudes on; weights of layers stay what they are, normalizations and biases follow.

    Source: Zhang et al., Lottery Jackpots Exist in Pre-trained Models, 2021, arXiv:2104.08700.
    """


class Popup(Jackpot):
    density: float = Field(default=0.5, gt=0, le=1, description="share of the weights that stay")
    seed: int = Field(default=0, ge=0, description="of the random weights")
    recycle: int = Field(
        default=0, ge=0, description="after so many steps weights that are out become others; 0: never"
    )
    share: float = Field(default=0.2, gt=0, lt=1, description="of a layer's weights that become others")


@METHODS.register("edge-popup", options=Popup)
class EdgePopup(Scored):
    """Which of random weights make a network; those that are out may become copies of the most important ones.

    Source: Ramanujan et al., CVPR 2020, arXiv:1911.13299 (scores); Gorbett and Whitley, 2023, arXiv:2303.15953 (recycling).
    """

    options: Popup

    def start(self, student: Student) -> None:
        """All weights of a layer get one size, of Kaiming's normal distribution, and random signs."""
        for k, value in enumerate(prunable(student).values()):
            size = (2 / max(1, value[0].numel()) / self.options.density) ** 0.5
            value.data.copy_((random_like(value, self.options.seed + k) - 0.5).sign() * size)
        super().start(student)

    def scores(self, weight: Tensor) -> Tensor:
        return random_like(weight, self.options.seed + 1000 + weight.numel()) + 0.5

    def after_step(self, student: Student, step: int, steps: int) -> None:
        super().after_step(student, step, steps)
        if self.options.recycle and (step + 1) % self.options.recycle == 0:
            self.recycled(student)

    def recycled(self, student: Student) -> None:
        """The outputs stay: what becomes another weight is out."""
        for name, value in prunable(student).items():
            score = student.own[f"score/{name}"].detach().abs()
            score = score.where(student.own[f"there/{name}"] > 0, -1 / (1 + score)).flatten()
            count = min(round(self.options.share * len(score)), int((score < 0).sum()))
            worst, best = score.topk(count, largest=False).indices, score.topk(count).indices
            flat = value.data.view(-1)
            flat[worst] = flat[best]

    def done(self, progress: float) -> bool:
        return progress > 0
