"""The model that is trained, in torch: weights as tensors that move, and what must hold of them after each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from ....graph.model import Model
from ....measure.autograd.network import Network
from ....measure.autograd.quantized import rounded
from ..methods.method import Method
from ..weights import Weight, batch_statistics

Tensor = torch.Tensor
State = dict[str, Tensor]


class Student:
    """``weights`` are trained. Weights stored as integers are moved as floats and rounded in every run, with the gradient
    of what was not rounded.

    Source: learned from the straight-through estimator, Jacob et al., CVPR 2018, arXiv:1712.05877.
    """

    def __init__(
        self,
        model: Model,
        weights: Sequence[Weight],
        *,
        statistics: bool,
        method: Method | None = None,
        features: Sequence[str] = (),
    ) -> None:
        """``statistics`` says that normalizations use and update those of each batch; ``features`` are given with outputs."""
        self.model, self.weights = model, weights
        self._method = method or _Plain()
        plain = [one.name for one in weights if not one.is_code]
        self.codes = {one.name: one for one in weights if one.is_code}
        outputs = dict.fromkeys([*(value.name for value in model.graph.output), *features])
        self.network = Network(model, list(outputs), trained=plain, fed=self.codes, operators=self._method.operators())
        latent = {
            name: torch.tensor(one.start(model.weights[one.source]), requires_grad=True)
            for name, one in self.codes.items()
        }
        self._steps = {name: torch.tensor(one.step) for name, one in self.codes.items()}
        self.moving: State = {**self.network.trained, **latent}
        self.first: State = {name: tensor.detach().clone() for name, tensor in self.moving.items()}
        self.masks: State = {one.name: torch.tensor(one.mask) for one in weights if one.mask is not None}
        """Where weights may differ from zero. A method may put others here."""
        self.own: State = {}
        """What the method added."""
        self.paces: dict[str, float] = {}
        self.forgets = False
        """Set it where weights were moved afar: what the optimizer remembers of older steps goes."""
        self._frozen = set[str]()
        self._statistics = list(dict.fromkeys(batch_statistics(model))) if statistics else []
        self._method.start(self)

    def add(self, name: str, value: Tensor, *, pace: float | None = None) -> Tensor:
        """A tensor of the method. With ``pace`` it is trained, with steps so many times as large as those of weights."""
        assert name not in self.own, "a method names its tensors differently"
        if pace is not None:
            value.requires_grad_()
            self.paces[name] = pace
        self.own[name] = value
        return value

    def freeze(self, names: Iterable[str]) -> None:
        """Weights that no step moves."""
        self._frozen |= set(names)

    @property
    def trained(self) -> State:
        """All that steps move: weights, and what the method added to be trained."""
        weights = {name: tensor for name, tensor in self.moving.items() if name not in self._frozen}
        return {**weights, **{name: self.own[name] for name in self.paces}}

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.trained.values())

    def __call__(self, inputs: Mapping[str, np.ndarray], *, training: bool = False) -> dict[str, Tensor]:
        """Outputs and features by name."""
        self.network.training = training and bool(self._statistics)
        seen = {name: self.seen(name) for name in self.moving}
        fed = {name: value for name, value in seen.items() if name in self.codes or value is not self.moving[name]}
        return self.network(
            {**inputs, **{name: self._rounded(name, v) if name in self.codes else v for name, v in fed.items()}}
        )

    def seen(self, name: str) -> Tensor:
        """A weight as the method has it computed with."""
        return self._method.seen(self, name, self.moving[name])

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        one = self.codes[name]
        return torch.clamp(rounded(value / self._steps[name]), one.least, one.greatest)

    @torch.no_grad()
    def settle(self) -> None:
        """What was zero by a mask is zero again, and integers are within their limits."""
        for name, mask in self.masks.items():
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
        yield from ((f"method/{name}", tensor) for name, tensor in self.own.items())
        yield from ((f"mask/{name}", mask) for name, mask in self.masks.items())
        for name in self._statistics:
            tensor = self.network.weights[name]
            assert isinstance(tensor, Tensor), "statistics are floats"
            yield name, tensor

    @torch.no_grad()
    def written(self, state: Mapping[str, Tensor]) -> Model:
        """The model with these weights, each stored as it was."""
        self.restore(state)
        result = self.model.copy()
        for one in self.weights:
            self._put(result, one, self.seen(one.name))
        for name in self._statistics:
            self._put(result, Weight(name), state[name])
        return self._method.finished(result, self)

    def _put(self, result: Model, one: Weight, value: Tensor) -> None:
        old = self.model.weights[one.source]
        new = one.stored(value.numpy(), old)
        if not np.array_equal(new, old):
            result.put(one.source, new)


class _Plain(Method):
    """Leaves everything to the loop."""
