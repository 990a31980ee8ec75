"""What every pass is: frozen options and one ``run`` from a model to a report with a new model."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from ..graph.model import Model
from ..graph.registry import Registry

if TYPE_CHECKING:
    from ..measure.data.source import DataSource

PASSES: Registry[type[Pass]] = Registry("pass", "intaglio.passes", "intaglio.passes")


def name_in(registry: Registry[Any], *also: str) -> AfterValidator:
    """For options that name something registered, or one of a few more words: ``Annotated[str, name_in(SOLVERS)]``."""

    def check(name: str | None) -> str | None:
        if name is not None and name not in also:
            registry[name]
        return name

    return AfterValidator(check)


@dataclass(frozen=True)
class Context:
    """What a pass may use beside the model.

    ``data`` is calibration data, ``None`` if the user gave none: a pass never makes any up. ``tick`` is told how much
    is done, of how much (None if unknown). ``folder`` is for temporary files.
    """

    data: DataSource | None = None
    seed: int = 0
    tick: Callable[[int, int | None], None] = lambda done, total: None
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("intaglio"))
    folder: Path | None = None


@dataclass(frozen=True)
class PassReport:
    """The new model and what was done. ``changed`` is False for a pass that found nothing to do, and why is told."""

    model: Model
    changed: bool
    details: Mapping[str, Any] = field(default_factory=dict)


class Pass(BaseModel, ABC):
    """Base of all passes: its fields are its options. ``run`` never changes the model it is given.

    Same model, options and seed give the same bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str]

    @abstractmethod
    def run(self, model: Model, context: Context | None = None) -> PassReport:
        """Apply the pass. Raises IntaglioError where the request cannot be met; the input stays as it was."""
