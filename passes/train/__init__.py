"""Training of the file itself: other weights, the same graph."""

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .augmentations.augmentation import AUGMENTATIONS as AUGMENTATIONS
    from .binary.estimators import ESTIMATORS as ESTIMATORS
    from .binary.operators import BINARY_OPERATORS as BINARY_OPERATORS
    from .binary.operators import BinaryOperator as BinaryOperator
    from .engine.student import Student as Student
    from .losses.loss import LABELS as LABELS
    from .losses.loss import LOSSES as LOSSES
    from .losses.loss import SCORES as SCORES
    from .losses.loss import TEACHER as TEACHER
    from .losses.loss import Answers as Answers
    from .methods.method import METHODS as METHODS
    from .methods.method import Method as Method
    from .train import Train as Train

__getattr__, __all__ = lazily(
    __name__,
    {
        ".augmentations.augmentation": "AUGMENTATIONS",
        ".losses.loss": "LABELS LOSSES SCORES TEACHER Answers",
        ".methods.method": "METHODS Method",
        ".binary.estimators": "ESTIMATORS",
        ".binary.operators": "BINARY_OPERATORS BinaryOperator",
        ".engine.student": "Student",
        ".train": "Train",
    },
)
