"""The model that is trained, in torch: weights as tensors that move, and what must hold of them after each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from ....graph.model import Model
from ....measure.autograd.network import Network
from ....measure.autograd.quantized import rounded
from ..weights import Weight, batch_statistics

Tensor = torch.Tensor
State = dict[str, Tensor]


class Student:
    """``weights`` are trained. Weights stored as integers are moved as floats and rounded in every run, with the gradient
    of what was not rounded.

    Source: learned from the straight-through estimator, Jacob et al., CVPR 2018, arXiv:1712.05877.
    """

    def __init__(self, model: Model, weights: Sequence[Weight], *, statistics: bool) -> None:
        """``statistics`` says that normalizations use and update those of each batch."""
        self.model, self.weights = model, weights
        plain = [one.name for one in weights if not one.is_code]
        self.codes = {one.name: one for one in weights if one.is_code}
        self.network = Network(model, trained=plain, fed=self.codes)
        latent = {
            name: torch.tensor(one.start(model.weights[one.source]), requires_grad=True)
            for name, one in self.codes.items()
        }
        self._steps = {name: torch.tensor(one.step) for name, one in self.codes.items()}
        self.moving: State = {**self.network.trained, **latent}
        self.first: State = {name: tensor.detach().clone() for name, tensor in self.moving.items()}
        self._masks = {one.name: torch.tensor(one.mask) for one in weights if one.mask is not None}
        self._statistics = list(dict.fromkeys(batch_statistics(model))) if statistics else []

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.moving.values())

    def __call__(self, inputs: Mapping[str, np.ndarray], *, training: bool = False) -> dict[str, Tensor]:
        self.network.training = training and bool(self._statistics)
        return self.network({**inputs, **{name: self._rounded(name) for name in self.codes}})

    def _rounded(self, name: str) -> Tensor:
        one = self.codes[name]
        return torch.clamp(rounded(self.moving[name] / self._steps[name]), one.least, one.greatest)

    @torch.no_grad()
    def settle(self) -> None:
        """What was zero by a mask is zero again, and integers are within their limits."""
        for name, mask in self._masks.items():
            self.moving[name].mul_(mask)
        for name, one in self.codes.items():
            ends = one.least * self._steps[name], one.greatest * self._steps[name]
            self.moving[name].clamp_(torch.minimum(*ends), torch.maximum(*ends))

    def state(self) -> State:
        """A copy of all that training moves."""
        return {name: tensor.detach().clone() for name, tensor in self._all()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self._all():
            tensor.copy_(state[name])

    def _all(self) -> Iterable[tuple[str, Tensor]]:
        yield from self.moving.items()
        for name in self._statistics:
            tensor = self.network.weights[name]
            assert isinstance(tensor, Tensor), "statistics are floats"
            yield name, tensor

    def written(self, state: Mapping[str, Tensor]) -> Model:
        """The model with these weights, each stored as it was."""
        result = self.model.copy()
        kinds = {one.name: one for one in self.weights}
        for name, tensor in state.items():
            one = kinds.get(name, Weight(name))
            old = self.model.weights[one.source]
            new = one.stored(tensor.numpy(), old)
            if not np.array_equal(new, old):
                result.put(one.source, new)
        return result
