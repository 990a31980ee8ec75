"""Schemes: what becomes of a model's layers. Each is an object in a file of its own; ``auto`` asks them whether they fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...graph.model import Model
from ...graph.registry import Registry
from ..precision.result import LayerNote, Request, Result
from .options import BinarizeOptions

Job = Request[BinarizeOptions]


@dataclass(frozen=True)
class BitNote(LayerNote):
    """What became of one layer in bits.

    ``bits`` are all that is stored for it, scales and maps included, for each of its weights; ``expected`` is the squared
    error of its weights that the algorithm leaves on independent ones, ``weight_error`` what it is, relative to the
    weights' squares.
    """

    bits: float = 0.0
    weights_count: int = 0
    expected: float | None = None
    weight_error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return {
            "name": self.name,
            "scheme": self.method,
            "numbers": self.weights,
            "activations": self.activations,
            "bits": self.bits,
            "weights": self.weights_count,
            "expected_error": self.expected,
            "weight_error": self.weight_error,
            "output_error": self.error,
        }


@dataclass(frozen=True)
class Scheme:
    """``run`` makes the result; its layers are ``BitNote``s. ``about`` is shown to users. ``fits`` says whether a model was
    made for it: ``auto`` then takes it, if it is a built-in one.
    """

    run: Callable[[Job], Result]
    about: str
    fits: Callable[[Model], bool] = lambda model: False


SCHEMES: Registry[Scheme] = Registry("binarization", "intaglio.binarize_schemes", "intaglio.passes.binarize", of=Scheme)
"""Beside weights in bits by a binarizer, which needs no scheme of its own."""
