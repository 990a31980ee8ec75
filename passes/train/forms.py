"""The form in which a model is trained, where it is another than that of the file, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...graph.model import Model
from .nbits import Opened, close_nbits, open_nbits
from .normalized import Inserted, fold, insert
from .samples import Samples


@dataclass(frozen=True)
class Form:
    model: Model
    products: Sequence[Opened] = ()
    normalizations: Sequence[Inserted] = ()

    def closed(self, trained: Model) -> Model:
        """A model made of ``model``, in the form of the file."""
        return close_nbits(fold(trained, self.normalizations), self.products)


def opened(model: Model, samples: Samples, fixed: int | None, *, normalizing: bool) -> Form:
    """``fixed`` is the batch that the model insists on. Raises NothingChanged where there is nothing to normalize."""
    plain, products = open_nbits(model)
    made, normalizations = insert(plain, samples, fixed) if normalizing else (plain, [])
    return Form(made, products, normalizations)
