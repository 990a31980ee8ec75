"""The loop: steps down the gradient, the best weights kept, from the first step to the last or from where it stopped."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ....graph.errors import IntaglioError
from ..augmentations.augmentation import Augmented
from ..features import kept_channels
from ..losses.loss import Answers, Loss
from ..methods.method import Method
from ..options import TrainOptions
from ..samples import Samples
from ..teacher import Teacher
from .checkpoint import Checkpoint
from .parallel import average, of_first, own_part, rank, sum_gradients
from .progress import Progress
from .student import State, Student

Tensor = torch.Tensor
Mixed = tuple[np.ndarray, np.ndarray]
_LOOKED_AT = 64
"""Samples by which channels are found that go with each other."""
_LOOKS = (0.5, 0.75, 0.9, 1.0)
"""Fractions of all steps after which weights are held to samples that were held back."""
_KEPT = 20
"""So often a checkpoint is written."""
_HALVINGS = 5
_TRIED = 3
_MOMENTUM = 0.9


@dataclass(frozen=True)
class Lesson:
    """All that steps are taken with. ``seed`` decides on the order of samples; ``fixed`` is the batch that the model insists on.
    ``features`` are inner tensors that somebody looks at, ``tokens`` the input of a language model."""

    student: Student
    samples: Samples
    train: np.ndarray
    held: np.ndarray
    augmented: Augmented
    teacher: Teacher | None
    losses: Sequence[Loss]
    named: Sequence[str]
    method: Method
    labels: np.ndarray | None
    scores: str | None
    probabilities: bool
    options: TrainOptions
    lr: float
    size: int
    bf16: bool
    seed: int
    fixed: int | None = None
    features: Sequence[str] = ()
    tokens: str = ""
    tick: Callable[[int, int | None], None] = lambda done, total: None

    @property
    def batch(self) -> int:
        """Samples of a step, whole batches of those that the model insists on."""
        most, one = min(self.size, len(self.train)), self.fixed or 1
        return max(one, most // one * one)

    def loss(self, places: np.ndarray, variant: int | None, *, training: bool, progress: float = 0.0) -> Tensor:
        """The mean over samples; those of ``variant`` None are as they are. In training, with what the method adds."""
        inputs, mixed = self._inputs(places, variant)
        student, size = self.student, self.fixed
        given = student.in_parts(inputs, size, training=training) if size else student(inputs, training=training)
        given = {name: value.float() if value.is_floating_point() else value for name, value in given.items()}
        answers = self._answers(given, self._told(inputs, places, variant), places, mixed)
        if training:
            answers = self.method.judged(answers, progress)
        total = torch.zeros(())
        for one in self.losses:
            total = total + one(answers)
        more = self.method.loss(self.student, answers, progress) if training else None
        return total if more is None else total + more

    def _inputs(self, places: np.ndarray, variant: int | None) -> tuple[dict[str, np.ndarray], Mixed | None]:
        """Samples as they are run, and what they were mixed with."""
        inputs = self.samples.at(places)
        if variant is None:
            return inputs, None
        inputs = self.augmented(inputs, places, variant)
        if not self.augmented.mixup:
            return inputs, None
        others, share = self.augmented.mixed(self.train, places, variant)
        added = self.augmented(self.samples.at(others), others, variant)
        return {name: _between(value, added[name], share) for name, value in inputs.items()}, (others, share)

    def _answers(
        self, given: Mapping[str, Tensor], told: Mapping[str, Tensor], places: np.ndarray, mixed: Mixed | None
    ) -> Answers:
        labels, others = (
            None if self.labels is None or at is None else torch.from_numpy(self.labels[at])
            for at in (places, mixed[0] if mixed else None)
        )
        share = torch.from_numpy(mixed[1]) if mixed else None
        tokens = torch.from_numpy(self.samples.inputs[self.tokens][places].astype(np.int64)) if self.tokens else None
        ours, theirs = (
            (
                {n: v for n, v in all_.items() if n in self.outputs},
                {n: v for n, v in all_.items() if n in self.features},
            )
            for all_ in (given, told)
        )
        chosen = {n: v[:, self.kept[n]] if n in self.kept else v for n, v in theirs[1].items()}
        return Answers(
            ours[0], theirs[0], labels, self.scores, self.probabilities, ours[1], chosen, others, share, tokens
        )

    def _told(self, inputs: Mapping[str, np.ndarray], places: np.ndarray, variant: int | None) -> dict[str, Tensor]:
        if self.teacher is None:
            return {}
        told = self.teacher(inputs, places, self.augmented.variants if variant is None else variant)
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in told.items()}

    @cached_property
    def kept(self) -> dict[str, Tensor]:
        """Of inner tensors of a teacher with more channels, those that the model kept, found on samples held back."""
        part = self.held[:_LOOKED_AT]
        inputs, _ = self._inputs(part, None)
        with torch.no_grad():
            ours, theirs = self.student(inputs), self._told(inputs, part, None)
        both = ((n, ours[n].numpy(), theirs[n].numpy()) for n in self.features if n in theirs)
        return {n: torch.from_numpy(kept_channels(a, b)) for n, a, b in both if a.shape != b.shape}

    @cached_property
    def outputs(self) -> frozenset[str]:
        return frozenset(value.name for value in self.student.model.graph.output)

    @property
    def rounds(self) -> int:
        """Steps until all samples were seen."""
        return max(1, len(self.train) // self.batch)


def _between(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Floats alone are mixed."""
    part = share.reshape(-1, *[1] * (one.ndim - 1))
    return (part * one + (1 - part) * other).astype(one.dtype) if one.dtype.kind == "f" else one


def train(lesson: Lesson, checkpoint: Checkpoint | None, log: logging.Logger) -> Progress:
    """Take all steps. Raises IntaglioError where the loss is no number whatever the step size."""
    optimizer = _optimizer(lesson)
    state = checkpoint.resumed(lesson.student, optimizer) if checkpoint else None
    if state is None:
        first = _held_loss(lesson)
        least = first if lesson.method.done(0.0) else math.inf
        state = Progress(0, _steps(lesson), lesson.student.state(), least, first)
        state.mean = lesson.student.state() if lesson.options.ema else {}
    try:
        while state.step < state.steps:
            _one(lesson, optimizer, state)
            if state.step in _looks(state.steps):
                _look(lesson, state, log)
            if checkpoint and rank() == 0 and state.step % max(1, state.steps // _KEPT) == 0:
                checkpoint.keep(lesson.student, optimizer, state)
            lesson.tick(state.step, state.steps)
    except KeyboardInterrupt:
        if not (lesson.options.keep_best and state.best_loss < state.first_loss):
            raise
        state.interrupted = True
    return state


def _looks(steps: int) -> set[int]:
    return {max(1, math.ceil(part * steps)) for part in _LOOKS}


def _optimizer(lesson: Lesson) -> torch.optim.Optimizer:
    student, decay = lesson.student, lesson.options.weight_decay
    tensors = [{"params": [tensor], "pace": student.paces.get(name, 1.0)} for name, tensor in student.trained.items()]
    if lesson.options.optimizer == "sgd":
        return torch.optim.SGD(tensors, lr=lesson.lr, momentum=_MOMENTUM, nesterov=True, weight_decay=decay)
    return torch.optim.AdamW(tensors, lr=lesson.lr, weight_decay=decay)


def _steps(lesson: Lesson) -> int:
    """How many steps to take; with ``minutes`` some are tried, and what they move is put back."""
    options = lesson.options
    if options.steps:
        return options.steps
    if options.minutes is None:
        return max(1, round(options.epochs * len(lesson.train) / lesson.batch))
    before, times = lesson.student.state(), []
    for k in range(_TRIED + 1):
        started = time.perf_counter()
        _gradients(lesson, _places(lesson, k)[0], 0, 1, 0.0)
        times.append(time.perf_counter() - started)
    lesson.student.restore(before)
    started = time.perf_counter()
    _held_loss(lesson)
    looks = (time.perf_counter() - started) * (len(_LOOKS) + 1)
    return of_first(max(1, int((60 * options.minutes - looks) / float(np.median(times[1:])))))


def _places(lesson: Lesson, step: int) -> tuple[np.ndarray, int]:
    """The samples of a step, and in which way they are changed: every round takes all, in another order."""
    turn, at = divmod(step, lesson.rounds)
    order = np.random.default_rng([lesson.seed, 3, turn]).permutation(lesson.train)
    return order[at * lesson.batch : (at + 1) * lesson.batch], turn % lesson.augmented.variants


def _one(lesson: Lesson, optimizer: torch.optim.Optimizer, state: Progress) -> None:
    """One step; where the loss is no number, the best weights so far come back, and later steps are half as long."""
    student, method, at = lesson.student, lesson.method, (state.step, state.steps)
    pace = method.pace(state.step / state.steps)
    height = _height(*at, lesson.options.warm_up) if pace is None else pace
    for group in optimizer.param_groups:
        group["lr"] = lesson.lr * group["pace"] * height / 2**state.slower
    method.before_step(student, *at)
    places, variant = _places(lesson, state.step)
    loss = _within_memory(lesson, places, variant, state)
    method.on_gradients(student, *at, lambda: _within_memory(lesson, places, variant, state))
    length = torch.nn.utils.clip_grad_norm_(student.parameters, lesson.options.clip or math.inf)
    if not math.isfinite(loss) or not bool(torch.isfinite(length)):
        _halve(lesson, optimizer, state)
        return
    optimizer.step()
    average(student.statistics.values())
    student.settle()
    method.after_step(student, *at)
    if (state.step + 1) % lesson.rounds == 0:
        method.after_round(student, *at)
    if student.forgets:
        optimizer.state.clear()
        student.forgets = False
    _follow(state.mean, student, lesson.options.ema)
    state.step += 1
    if state.step in _looks(state.steps) or state.step == 1:
        state.history.append({"step": state.step, "loss": loss})


def _height(step: int, steps: int, warm_up: float) -> float:
    """The step size beside its highest: it rises, then falls to zero along a cosine."""
    rise = max(1, round(warm_up * steps))
    return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _within_memory(lesson: Lesson, places: np.ndarray, variant: int, state: Progress) -> float:
    """Gradients of a batch, in twice as many parts where memory does not hold it."""
    while True:
        try:
            return _gradients(lesson, places, variant, state.parts, state.step / state.steps)
        except (RuntimeError, MemoryError) as error:
            full = isinstance(error, MemoryError) or "allocate memory" in str(error)
            if not full or state.parts * 2 > len(places) // (lesson.fixed or 1):
                raise
            state.parts *= 2


def _gradients(lesson: Lesson, places: np.ndarray, variant: int, parts: int, progress: float) -> float:
    for tensor in lesson.student.parameters:
        tensor.grad = None
    total = 0.0
    each = lesson.fixed or 1
    mine = own_part(places.reshape(-1, each))
    for rows in np.array_split(mine, max(1, min(parts, len(mine)))) if len(mine) else ():
        part = rows.reshape(-1)
        with torch.autocast("cpu", torch.bfloat16, enabled=lesson.bf16):
            loss = lesson.loss(part, variant, training=True, progress=progress)
        penalty = lesson.method.penalty(lesson.student, progress)
        whole = loss if penalty is None else loss + penalty
        (whole * (len(part) / len(places))).backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach()) * len(part) / len(places)
    return sum_gradients(lesson.student.parameters, total)


def _halve(lesson: Lesson, optimizer: torch.optim.Optimizer, state: Progress) -> None:
    state.slower += 1
    if state.slower > _HALVINGS:
        raise IntaglioError(
            f"training fails at step {state.step + 1} of {state.steps}: the loss is no number",
            why=f"the step size was halved {_HALVINGS} times, to {lesson.lr / 2**_HALVINGS:.2g}",
            fix="check the data and the model with: intaglio evaluate; or give a smaller --lr",
        )
    lesson.student.restore(state.best)
    optimizer.state.clear()


def _look(lesson: Lesson, state: Progress, log: logging.Logger) -> None:
    """Keep the weights, or their mean, where they do better on samples held back."""
    now = lesson.student.state()
    for weights in filter(None, (state.mean, now)):
        lesson.student.restore(weights)
        loss = _held_loss(lesson)
        log.info(
            "step %d of %d: %.4g on samples held back, %.4g at first", state.step, state.steps, loss, state.first_loss
        )
        state.history[-1]["held_back"] = min(loss, state.history[-1].get("held_back", math.inf))
        if loss < state.best_loss and lesson.method.done(state.step / state.steps):
            state.best, state.best_loss, state.best_step = lesson.student.state(), loss, state.step


@torch.no_grad()
def _held_loss(lesson: Lesson) -> float:
    total = 0.0
    size = max(lesson.batch, lesson.fixed or 1)
    for start in range(0, len(lesson.held), size):
        part = lesson.held[start : start + size]
        total += float(lesson.loss(part, None, training=False)) * len(part)
    return total / len(lesson.held)


@torch.no_grad()
def _follow(mean: State, student: Student, kept: float) -> None:
    """A running mean of all that training moves."""
    if mean:
        for name, tensor in student.state().items():
            mean[name] = mean[name].lerp(tensor, 1 - kept) if tensor.is_floating_point() else tensor
