"""Processes that torchrun started for one training: each takes a part of every batch, and gradients add up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist

Tensor = torch.Tensor


@contextmanager
def together() -> Iterator[None]:
    """Join the other processes, where torchrun started some."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "MASTER_ADDR" not in os.environ:
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, 0 for the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def own_part(rows: np.ndarray) -> np.ndarray:
    """What this process takes of a batch."""
    return np.array_split(rows, dist.get_world_size())[rank()] if dist.is_initialized() else rows


@torch.no_grad()
def sum_gradients(tensors: Iterable[Tensor], loss: float) -> float:
    """Add up the gradients of all processes, and their losses, which are given back."""
    if not dist.is_initialized():
        return loss
    for tensor in tensors:
        tensor.grad = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        dist.all_reduce(tensor.grad)
    total = torch.tensor(loss, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total)


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """What each process has of its own, such as statistics of its part of a batch, becomes the mean of all."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= dist.get_world_size()


def of_first(number: int) -> int:
    """What the first process says."""
    if not dist.is_initialized():
        return number
    told = torch.tensor(number)
    dist.broadcast(told, 0)
    return int(told)
