"""The model that is trained, in torch: weights as tensors that move, and what must hold of them after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch

from ....graph.errors import IntaglioError
from ....graph.model import Model
from ....measure.autograd.call import Value, as_tensor, is_float
from ....measure.autograd.network import Network
from ....measure.autograd.quantized import rounded
from ..weights import Weight, batch_statistics

Tensor = torch.Tensor
State = dict[str, Tensor]
_FLIPS = 80.0
"""Signs move so much faster than weights: about so many steps into one direction turn one by a step size of 2e-4."""

_COMPARED, _SAME = 3, 1e-4


class Hooks(Protocol):
    """What a method does to weights: see ``Method``."""

    def also(self, model: Model, weights: Sequence[Weight], /) -> Sequence[str]: ...
    def operators(self) -> Mapping[str, Callable[[Any], Any]]: ...
    def start(self, student: Any, /) -> None: ...
    def seen(self, student: Any, name: str, value: Tensor, /) -> Tensor: ...
    def finished(self, model: Model, student: Any, /) -> Model: ...


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
        method: Hooks,
        features: Sequence[str] = (),
    ) -> None:
        """``statistics`` says that normalizations use and update those of each batch; ``features`` are given with outputs."""
        self.model, self.weights = model, weights
        self._method = method
        plain = [one.name for one in weights if not one.is_code]
        self.given: State = {
            name: torch.tensor(model.weights[name], dtype=torch.float32) for name in self._method.also(model, weights)
        }
        """Weights that follow from what the method trains."""
        self.codes = {one.name: one for one in weights if one.is_code}
        outputs = dict.fromkeys([*(value.name for value in model.graph.output), *features])
        self.network = Network(
            model, list(outputs), trained=plain, fed={*self.codes, *self.given}, operators=self._method.operators()
        )
        latent = {
            name: torch.tensor(one.start(model.weights[one.source]), requires_grad=True)
            for name, one in self.codes.items()
        }
        self._steps = {name: torch.tensor(1 if one.step is None else one.step) for name, one in self.codes.items()}
        self._noughts = {name: torch.tensor(one.nought) for name, one in self.codes.items()}
        self.moving: State = {**self.network.trained, **latent}
        self.first: State = {name: tensor.detach().clone() for name, tensor in self.moving.items()}
        self.masks: State = {one.name: torch.tensor(one.mask) for one in weights if one.mask is not None}
        """Where weights may differ from zero. A method may put others here."""
        self.own: State = {}
        """What the method added."""
        self.paces = {name: _FLIPS for name, one in self.codes.items() if one.columns}
        """How large steps of a tensor are beside those of weights."""
        self._learned: list[str] = []
        self.training = False
        """Whether a step is being taken: what a method draws, it draws then."""
        self.forgets = False
        """Set it where weights were moved afar: what the optimizer remembers of older steps goes."""
        self._frozen = set[str]()
        self._at_once: bool | None = None
        self._statistics = list(dict.fromkeys(batch_statistics(model))) if statistics else []
        self._method.start(self)

    def add(self, name: str, value: Tensor, *, pace: float | None = None) -> Tensor:
        """A tensor of the method. With ``pace`` it is trained, with steps so many times as large as those of weights."""
        assert name not in self.own, "a method names its tensors differently"
        if pace is not None:
            value.requires_grad_()
            self.paces[name] = pace
            self._learned.append(name)
        self.own[name] = value
        return value

    def freeze(self, names: Iterable[str]) -> None:
        """Weights that no step moves."""
        self._frozen |= set(names)

    @property
    def trained(self) -> State:
        """All that steps move: weights, and what the method added to be trained."""
        weights = {name: tensor for name, tensor in self.moving.items() if name not in self._frozen}
        return {**weights, **{name: self.own[name] for name in self._learned}}

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.trained.values())

    def __call__(self, inputs: Mapping[str, Value], *, training: bool = False) -> dict[str, Tensor]:
        """Outputs and features by name."""
        self.training = training
        self.network.training = training and bool(self._statistics)
        fed = {name: self.seen(name) for name in (*self.moving, *self.given)}
        return self.network({**inputs, **{n: self._rounded(n, v) if n in self.codes else v for n, v in fed.items()}})

    def in_parts(self, inputs: Mapping[str, np.ndarray], size: int, *, training: bool = False) -> dict[str, Tensor]:
        """The same of a model that insists on ``size`` samples a run: all runs at once where its operators allow that."""
        if self._at_once is None:
            self._at_once = not self._statistics and self._agrees(inputs, size)
        return self._vectorized(inputs, size, training) if self._at_once else self._in_turn(inputs, size, training)

    def _in_turn(self, inputs: Mapping[str, np.ndarray], size: int, training: bool) -> dict[str, Tensor]:
        count = len(next(iter(inputs.values())))
        made = [
            self({name: value[a : a + size] for name, value in inputs.items()}, training=training)
            for a in range(0, count, size)
        ]
        return made[0] if len(made) == 1 else {name: torch.cat([one[name] for one in made]) for name in made[0]}

    def _vectorized(self, inputs: Mapping[str, np.ndarray], size: int, training: bool) -> dict[str, Tensor]:
        runs = {
            name: as_tensor(value, torch.float32).reshape(-1, size, *value.shape[1:]) for name, value in inputs.items()
        }
        made = torch.func.vmap(lambda one: self(one, training=training))(runs)
        return {name: value.flatten(0, 1) for name, value in made.items()}

    @torch.no_grad()
    def _agrees(self, inputs: Mapping[str, np.ndarray], size: int) -> bool:
        """Whether a few runs at once give what they give in turn. Whole numbers decide on shapes, so that runs differ."""
        if not all(is_float(value) for value in inputs.values()):
            return False
        few = {name: value[: _COMPARED * size] for name, value in inputs.items()}
        try:
            both = self._in_turn(few, size, False), self._vectorized(few, size, False)
        except (IntaglioError, RuntimeError):
            return False
        return all(torch.allclose(one, both[1][name], rtol=_SAME, atol=_SAME) for name, one in both[0].items())

    def seen(self, name: str) -> Tensor:
        """A weight as the method has it computed with."""
        return self._method.seen(self, name, self.moving[name] if name in self.moving else self.given[name])

    def _step(self, one: Weight) -> Tensor:
        """What integers of a weight stand for."""
        if one.columns or one.scale not in self.given:
            return self._steps[one.name]
        return self.seen(one.scale).reshape(-1)[torch.from_numpy(one.which)]

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        one = self.codes[name]
        if one.columns:
            return torch.where(value < 0, -1.0, 1.0) + (value - value.detach())
        return torch.clamp(rounded(value / self._step(one)) + self._noughts[name], one.least, one.greatest)

    @torch.no_grad()
    def settle(self) -> None:
        """What was zero by a mask is zero again, and integers are within their limits."""
        for name, mask in self.masks.items():
            self.moving[name].mul_(mask)
        for name, one in self.codes.items():
            step = self._step(one)
            zero = self._noughts[name]
            ends = (one.least - zero) * step, (one.greatest - zero) * step
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
        yield from self.statistics.items()

    @property
    def statistics(self) -> State:
        """Running ones of normalizations, as far as they move."""
        found = {name: self.network.weights[name] for name in self._statistics}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    @torch.no_grad()
    def written(self, state: Mapping[str, Tensor]) -> Model:
        """The model with these weights, each stored as it was."""
        self.restore(state)
        self.training = False
        result = self.model.copy()
        for one in self.weights:
            kept = one if one.step is None else replace(one, step=self._step(one).numpy())
            self._put(result, kept, self.seen(one.name))
        for name in self.given:
            self._put(result, Weight(name), self.seen(name))
        for name in self._statistics:
            self._put(result, Weight(name), state[name])
        return self._method.finished(result, self)

    def _put(self, result: Model, one: Weight, value: Tensor) -> None:
        old = self.model.weights[one.source]
        new = one.stored(value.numpy(), old)
        if not np.array_equal(new, old):
            result.put(one.source, new)
