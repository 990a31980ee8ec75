"""The pass that trains: weights move until outputs are those of a teacher, or what labels say."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...graph.errors import NothingChanged, UsageError
from ...graph.io.save import to_bytes
from ...graph.model import Model
from ...measure.data.source import DataSource
from ..base import PASSES, Context, Pass
from ..change import Change
from ..masks import looks_masked, masks, set_masks
from .forms import opened
from .options import TrainOptions
from .samples import Samples, read_samples
from .weights import Weight, told

if TYPE_CHECKING:
    from .engine.loop import Lesson
    from .engine.progress import Progress


@PASSES.register("train")
class Train(TrainOptions, Pass):
    """Train the weights of a model, with labels or toward a teacher; the graph stays what it is.

    Weights that a mask keeps at zero stay zero, integers stay integers of the same scale.
    Source: Hinton et al., 2015, arXiv:1503.02531 (distillation); Loshchilov and Hutter, 2019, arXiv:1711.05101 (steps).
    """

    name: ClassVar[str] = "train"
    doing: ClassVar[str] = "training"
    sees_through: ClassVar[bool] = True
    smaller: ClassVar[bool] = False

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Train a copy. Raises UsageError, BadData, NothingChanged where nothing was gained, IntaglioError where it fails."""
        context = context or Context()
        _require_torch()
        if context.data is None:
            raise UsageError(
                "there is nothing to train on",
                fix="add --data SOURCE, at best 2,000 inputs or more like those it will see; or --dialect distilled",
            )
        from ...measure.autograd.network import threads_of
        from .engine.parallel import together

        with (
            tempfile.TemporaryDirectory(prefix="intaglio-", dir=context.folder) as folder,
            threads_of(self.threads),
            together(),
        ):
            return self._run(model, context.data, context, Path(folder))

    def imagines_with(self, model: Model) -> Model:
        """The teacher: passes fold normalizations of what they change."""
        if not self.teacher:
            return model
        from .teacher import read_teacher

        return read_teacher(self.teacher, model)

    def _run(self, model: Model, data: DataSource, context: Context, folder: Path) -> Change:
        from .engine.checkpoint import Checkpoint
        from .engine.lesson import prepared
        from .engine.loop import train

        started = time.perf_counter()
        samples = read_samples(data, context.memory, folder)
        form = opened(model, samples, data.fixed_batch, normalizing=self.insert_bn)
        lesson, notes = prepared(form.model, self, samples, data, context)
        key = self._key(model, samples, context)
        kept = Checkpoint(Path(self.checkpoint), key) if self.checkpoint else None
        state = train(lesson, kept, context.log)
        _require_gain(state, lesson)
        trained = lesson.student.written(state.best)
        result = form.closed(trained)
        _tell_masks(result, lesson)
        pairs = [(model, result), (form.model, trained)]
        moved = [_moved(*pair, one) for one in lesson.student.weights for pair in _first(pairs, one)]
        details = {
            "training": {
                **state.as_dict(),
                "interrupted": state.interrupted,
                "samples": len(lesson.train),
                "held_back": len(lesson.held),
                "labels": lesson.labels is not None,
                "teacher": self.teacher,
                "losses": list(lesson.named),
                "lr": lesson.lr,
                "batch": lesson.batch,
                "bf16": lesson.bf16,
                "seconds": time.perf_counter() - started,
            }
        }
        return Change(model, result, moved, details=details, notes=[*notes, *_remarks(state, lesson)], units="weights")

    def recipe(self, change: Change) -> dict[str, Any]:
        """With the steps that were taken in the place of minutes, which another machine uses otherwise."""
        options = super().recipe(change)
        if self.minutes is not None and not change.details["training"].get("interrupted"):
            options = {name: value for name, value in options.items() if name != "minutes"}
            options["steps"] = change.details["training"]["steps"]
        return options

    def _key(self, model: Model, samples: Samples, context: Context) -> str:
        options = self.model_dump_json(exclude={"checkpoint", "keep_best", "threads"})
        parts = [to_bytes(model), options.encode(), str(context.seed).encode(), *samples.fingerprint()]
        parts += [Path(self.teacher).read_bytes()] if self.teacher else []
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _require_torch() -> None:
    if find_spec("torch") is None:
        raise UsageError(
            "training needs torch, which is not installed",
            why="gradients are computed with it",
            fix="pip install 'intaglio[torch]'",
        )


def _require_gain(state: Progress, lesson: Lesson) -> None:
    if state.best_step:
        return
    raise NothingChanged(
        f"training gained nothing: after {state.step} steps samples that were held back are no better than at first",
        why=f"the loss on them is {state.first_loss:.4g} at first and {state.history[-1].get('held_back', float('nan')):.4g} now",
        fix=f"give more inputs (now {len(lesson.train):,}), more --epochs, or a smaller --lr",
    )


def _tell_masks(result: Model, lesson: Lesson) -> None:
    """Zeros that training kept, or made, are to stay in later passes too."""
    kept = {one.source for one in lesson.student.weights if one.name in lesson.student.masks and not one.is_code}
    floats = {
        one.source: result.weights.get(one.source, np.ones(1)) for one in lesson.student.weights if not one.is_code
    }
    made = {name: "any" for name, value in floats.items() if looks_masked(value) or (name in kept and not value.all())}
    set_masks(result, {**made, **masks(result)})


def _first(pairs: Sequence[tuple[Model, Model]], one: Weight) -> Sequence[tuple[Model, Model]]:
    """The first models between which a weight is the same number of numbers, if any."""
    for pair in pairs:
        before, after = (each.weights.get(one.source) for each in pair)
        if before is not None and after is not None and before.shape == after.shape:
            return [pair]
    return []


def _moved(model: Model, result: Model, one: Weight) -> dict[str, Any]:
    before, after = (one.start(each.weights[one.source]) for each in (model, result))
    size = float(np.linalg.norm(before))
    return {
        "name": one.source,
        "node": told(model, one.source),
        "shape": list(before.shape),
        "kept_zero": 0.0 if one.mask is None else float(1 - one.mask.mean()),
        "integers": one.is_code,
        "moved": float(np.linalg.norm(after - before)) / size if size else float(np.linalg.norm(after)),
    }


def _remarks(state: Progress, lesson: Lesson) -> list[str]:
    found = []
    if state.interrupted:
        found.append(f"interrupted after {state.step} of {state.steps} steps: these are the best weights so far")
    if state.slower:
        found.append(f"the loss was no number {state.slower} times: each time the step size was halved")
    if state.parts > 1:
        found.append(f"memory does not hold a batch of {lesson.batch}: it was taken in {state.parts} parts")
    return found
