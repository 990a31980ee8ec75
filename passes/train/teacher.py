"""What the teacher says of each sample, computed once for each way that samples are changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...graph.errors import UsageError
from ...graph.io.load import load
from ...graph.model import Model
from ...measure.run.batch import open_for_batches
from ...measure.run.session import open_session, run
from ...measure.run.tensor_specs import input_specs, output_specs


class Teacher:
    """A session of ONNX Runtime, and its outputs as far as ``memory`` holds them."""

    def __init__(self, model: Model, outputs: Sequence[str], samples: int, variants: int, memory: int) -> None:
        self._session = open_session(model, outputs=outputs)
        self._outputs, self._samples, self._variants, self._memory = list(outputs), samples, variants, memory
        lengths = [spec.shape[0] for spec in input_specs(model) if spec.shape]
        self._fixed = next((n for n in lengths if isinstance(n, int)), None)
        self._held: dict[str, np.ndarray] = {}
        self._known = np.zeros((variants, samples), bool)

    def __call__(self, inputs: Mapping[str, np.ndarray], places: np.ndarray, variant: int) -> dict[str, np.ndarray]:
        """Outputs by name, of samples that stand at these places. Shapes: as the outputs."""
        if self._held and self._known[variant, places].all():
            return {name: held[variant, places] for name, held in self._held.items()}
        size = self._fixed or len(places)
        parts = [{n: v[a : a + size] for n, v in inputs.items()} for a in range(0, len(places), size)]
        each = [run(self._session, part, self._outputs) for part in parts]
        made = each[0] if len(each) == 1 else {name: np.concatenate([one[name] for one in each]) for name in each[0]}
        self._hold(made, places, variant)
        return made

    def _hold(self, made: Mapping[str, np.ndarray], places: np.ndarray, variant: int) -> None:
        rows = {name: value for name, value in made.items() if value.ndim and len(value) == len(places)}
        size = sum(value[0].nbytes for value in rows.values()) * self._samples * self._variants
        if len(rows) < len(made) or size > self._memory:
            return
        for name, value in rows.items():
            if name not in self._held:
                self._held[name] = np.zeros((self._variants, self._samples, *value.shape[1:]), value.dtype)
            self._held[name][variant, places] = value
        self._known[variant, places] = True


def read_teacher(path: str, student: Model) -> Model:
    """The teacher with inputs and outputs named as those of the student.

    Raises UsageError where they do not go together, BadModel where the file is no model.
    """
    teacher, _ = open_for_batches(load(Path(path)))
    for what, theirs, ours in (
        ("inputs", input_specs(teacher), input_specs(student)),
        ("outputs", output_specs(teacher), output_specs(student)),
    ):
        if {one.name for one in theirs} != {one.name for one in ours}:
            raise UsageError(
                f"the teacher {path} has other {what} than the model",
                why=f"it has {', '.join(one.name for one in theirs)}, the model has {', '.join(one.name for one in ours)}",
                fix="give the model that this one was made of",
            )
    return teacher
