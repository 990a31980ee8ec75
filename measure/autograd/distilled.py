"""Inputs in which a network finds the statistics that its BatchNormalization kept of real data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from ...graph.errors import UsageError
from ...graph.model import Model
from ...graph.nodes import is_standard
from .network import Network, one_thread

Tensor = torch.Tensor
STEPS = 100
_LR = 0.1


def distill_inputs(
    model: Model, start: Mapping[str, np.ndarray], steps: int = STEPS
) -> tuple[dict[str, np.ndarray], float, float]:
    """The inputs, and how far statistics are off at first and at last.

    Source: Cai et al., "ZeroQ: a novel zero shot quantization framework", CVPR 2020, arXiv:2001.00281.
    Differs: it starts from images of 1/f noise; statistics are those of the batch, each in units of the kept deviation; and
    inputs keep the mean, the deviation and the limits of each channel that the noise has.

    Raises UsageError where there is no BatchNormalization.
    """
    names = [n.name for n in model.graph.input if n.name in start]
    kept = _statistics(model)
    network = Network(model, list(kept))
    moving = {name: torch.tensor(start[name], dtype=torch.float32, requires_grad=True) for name in names}
    first = {name: _moments(tensor.detach()) for name, tensor in moving.items()}
    ends = {
        name: (tensor.detach().amin(_others(tensor), True), tensor.detach().amax(_others(tensor), True))
        for name, tensor in moving.items()
    }
    optimizer = torch.optim.Adam(moving.values(), lr=_LR)
    losses = []
    with one_thread():
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = _LR * 0.5 * (1 + np.cos(np.pi * step / steps))
            optimizer.zero_grad()
            seen = network({**moving})
            apart = sum((_apart(_moments(seen[tensor]), *both) for tensor, both in kept.items()), torch.zeros(()))
            own = sum((_apart(_moments(moving[name]), m, d) for name, (m, d) in first.items()), torch.zeros(()))
            (apart + own).backward()  # type: ignore[no-untyped-call]
            losses.append(float(apart.detach()))
            optimizer.step()
            with torch.no_grad():
                for name, tensor in moving.items():
                    tensor.clamp_(*ends[name])
    return {name: tensor.detach().numpy() for name, tensor in moving.items()}, losses[0], losses[-1]


def _statistics(model: Model) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and deviation of each normalized tensor."""
    nodes = [n for n in model.graph.node if n.op_type == "BatchNormalization" and is_standard(n)]
    nodes = [n for n in nodes if all(name in model.weights for name in n.input[3:5])]
    if not nodes:
        raise UsageError(
            "no inputs can be distilled from this model",
            why="it has no BatchNormalization that kept statistics of real data: they were folded, or there never were any",
            fix="export the model with BatchNormalization kept, or give data with --data",
        )
    return {
        n.input[0]: (
            torch.tensor(model.weights[n.input[3]], dtype=torch.float32),
            torch.tensor(model.weights[n.input[4]], dtype=torch.float32).clamp_min(1e-10).sqrt(),
        )
        for n in nodes
    }


def _others(x: Tensor) -> list[int]:
    return [a for a in range(x.ndim) if a != 1]


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, _others(x), correction=0)
    return mean, (variance + 1e-10).sqrt()


def _apart(found: tuple[Tensor, Tensor], mean: Tensor, deviation: Tensor) -> Tensor:
    return ((found[0] - mean) / deviation).square().mean() + (found[1] / deviation - 1).square().mean()
