"""A method of training: what is smallest in each weight goes, a little more with every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.passes.train import METHODS, Method

if TYPE_CHECKING:
    from intaglio.passes.train import Student


@METHODS.register("gradual")
class Gradual(Method):
    """Distill while the smallest half of each weight is driven to zero."""

    losses = ("kd",)
    otherwise = ("mse",)

    def done(self, progress: float) -> bool:
        return progress >= 0.5

    def after_step(self, student: Student, step: int, steps: int) -> None:
        for tensor in student.moving.values():
            if tensor.ndim > 1:
                share = 0.5 * min(1.0, 2 * (step + 1) / steps)
                least = tensor.detach().abs().flatten().kthvalue(max(1, int(share * tensor.numel()))).values
                tensor.data[tensor.detach().abs() <= least] = 0
