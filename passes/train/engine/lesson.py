"""What a run of training is made of, from options, model and data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....graph.errors import BadData, UsageError
from ....graph.index import index_of
from ....graph.model import Model
from ....graph.spec import Spec, split
from ....graph.traits import Trait, has
from ....measure.accuracy import class_labels
from ....measure.autograd.loss import scored_output
from ....measure.data.source import DataSource
from ...base import Context
from ..augmentations.augmentation import AUGMENTATIONS, Augmented, channels_first, is_colour_image, is_image
from ..features import shared_features
from ..losses.loss import FEATURES, LABELS, LOSSES, SCORES, TEACHER, TOKENS
from ..methods.method import METHODS, Method
from ..options import AUTO, NONE, TrainOptions
from ..samples import FEW, Samples
from ..teacher import Teacher, read_teacher
from ..weights import batch_statistics, weights_to_train
from .loop import Lesson
from .student import Student

_LR, _LR_NORMALIZED, _LR_INTEGERS = 1e-3, 3e-3, 1e-4
_BATCH, _BATCH_COARSE, _COARSE = 128, 32, 15
"""Weights whose integers reach no farther than ``_COARSE`` take many small steps: few of them turn into another integer."""
_HELD = 512
"""So many samples at most are held back: more would take the time that training needs."""
_ALIKE = 0.2
"""Neighbours in pictures are more alike than this, in noise they are not."""
_LEAST = 16
"""Statistics of fewer samples than this are left as they are."""


def prepared(
    model: Model,
    options: TrainOptions,
    samples: Samples,
    data: DataSource,
    context: Context,
) -> tuple[Lesson, list[str]]:
    """The lesson, and notes for the user. Raises UsageError, BadData, NothingChanged where there is nothing to train."""
    _require_pictures(samples)
    scores, probabilities = scored_output(model, data)
    weights = weights_to_train(model, options.include, options.exclude)
    method, losses = _method(options, samples, scores, any(one.is_code for one in weights))
    rewritten = method.prepared(model, data)
    if rewritten is not model:
        model, weights = rewritten, weights_to_train(rewritten, options.include, options.exclude)
    found = read_teacher(options.teacher, model) if options.teacher else None
    features = list(method.features(model))
    if found and any(FEATURES in LOSSES.entry(one).needs for one in losses):
        features = list(dict.fromkeys([*features, *shared_features(model, found, options.features)]))
    train, held = _divided(samples, options, context.seed, data.fixed_batch)
    augmented = Augmented(
        [AUGMENTATIONS[name] for name in _ways(options, samples)], len(samples), context.seed, options.mixup
    )
    coarse = any(0 < one.greatest <= _COARSE and not one.columns for one in weights)
    batch = options.batch or (_BATCH_COARSE if coarse else _BATCH)
    statistics = _moves_statistics(model, options, min(batch, len(train)), data.fixed_batch)
    quantized = any(one.is_code for one in weights) or any(has(node, Trait.QUANTIZES) for node in model.graph.node)
    lr = options.lr or (_LR_INTEGERS if quantized else _LR_NORMALIZED if statistics else _LR)
    teacher = None
    if found:
        asked = [*(value.name for value in model.graph.output), *(n for n in features if n in index_of(found).makers)]
        teacher = Teacher(found, list(dict.fromkeys(asked)), len(samples), augmented.variants + 1, context.memory // 4)
    classes = None
    if samples.labels is not None and scores and any(LABELS in LOSSES.entry(one).needs for one in losses):
        classes = class_labels(samples.labels, _classes(model, samples, data, scores))
    lesson = Lesson(
        student=Student(model, weights, statistics=statistics, method=method, features=features),
        samples=samples,
        train=train,
        held=held,
        augmented=augmented,
        teacher=teacher,
        losses=[LOSSES[name] for name in losses],
        named=losses,
        method=method,
        labels=classes,
        scores=scores,
        probabilities=probabilities,
        options=options,
        lr=lr,
        bf16=options.bf16 and (coarse or not quantized) and _has_bf16(),
        size=batch,
        seed=context.seed,
        fixed=data.fixed_batch,
        features=features,
        tokens=_tokens(samples),
        tick=context.tick,
    )
    return lesson, list(_notes(samples, options))


def _method(options: TrainOptions, samples: Samples, scores: str | None, coded: bool) -> tuple[Method, tuple[str, ...]]:
    """The method and the names of its losses."""
    usual = "distill" if options.teacher else "finetune"
    method = METHODS[_spec(options, "lsq" if coded else usual)]()
    says = method if method.losses or method.otherwise else METHODS[usual]()
    losses = options.losses or (says.losses if scores else says.otherwise)
    if _tokens(samples) and not options.losses and not scores:
        losses = ("token-kd",) if options.teacher else ("next-token",)
    if not losses:
        raise UsageError(
            "the first output does not score classes, and without a teacher nothing says what outputs should be",
            fix="give the original with --teacher",
        )
    for name in losses:
        needs = LOSSES.entry(name).needs
        if TEACHER in needs and not options.teacher:
            raise UsageError(f"the loss {name} needs a teacher", fix="give the original with --teacher, or --loss ce")
        if LABELS in needs and samples.labels is None:
            raise UsageError(
                f"the loss {name} needs labels, and {samples.name} has none",
                fix="give the original with --teacher: then no labels are needed; or add an array named labels",
            )
        if TOKENS in needs and not _tokens(samples):
            raise UsageError(f"the loss {name} needs tokens: an input of whole numbers, (samples, places)")
        if SCORES in needs and scores is None:
            raise UsageError(f"the loss {name} needs an output with one score per class", fix="use --loss mse")
    return method, tuple(losses)


def _spec(options: TrainOptions, usual: str) -> Spec:
    """The method with its options; those of binary networks have flags."""
    own = {name: value for name in ("operator", "estimator") if (value := getattr(options, name))}
    if not own:
        return usual if options.method == AUTO else options.method
    name, values = split("bnn" if options.method == AUTO else options.method, METHODS.kind)
    return {"name": name, **values, **own}


def _tokens(samples: Samples) -> str:
    """The input that holds numbers of tokens: the first of whole numbers."""
    found = (name for name, value in samples.inputs.items() if value.ndim == 2 and value.dtype.kind in "iu")
    return next(found, "")


def _divided(samples: Samples, options: TrainOptions, seed: int, fixed: int | None) -> tuple[np.ndarray, np.ndarray]:
    train, held = samples.divided(min(options.hold_back, _HELD / len(samples)), seed)
    if fixed and fixed > 1:
        train, held = (places[: len(places) // fixed * fixed] for places in (train, held))
        if not len(train) or not len(held):
            raise BadData(f"{samples.name} holds too few samples", why=f"the model takes {fixed} at a time")
    return train, held


def _ways(options: TrainOptions, samples: Samples) -> tuple[str, ...]:
    if NONE in options.augmentations:
        return ()
    if options.augmentations:
        if not any(is_image(value[:1]) for value in samples.inputs.values()):
            raise UsageError(
                "no input is an image, (samples, channels, height, width) in floats", fix="leave out --augment"
            )
        return options.augmentations
    return ("flip", "crop") if all(is_colour_image(value[:1]) for value in samples.inputs.values()) else ()


def _moves_statistics(model: Model, options: TrainOptions, batch: int, fixed: int | None) -> bool:
    enough = min(batch, fixed or batch) >= _LEAST
    return (
        enough
        and not (options.freeze_bn or options.include or options.exclude)
        and any(True for _ in batch_statistics(model))
    )


def _classes(model: Model, samples: Samples, data: DataSource, scores: str) -> int:
    from ....measure.run.session import open_session, run

    batch = next(data.batches(1))
    return int(run(open_session(model), batch.inputs, [scores])[scores].shape[1])


def _has_bf16() -> bool:
    import torch

    known = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(one() for one in known if one is not None)


def _notes(samples: Samples, options: TrainOptions) -> Iterator[str]:
    if len(samples) < FEW:
        yield f"{len(samples):,} samples are few: below {FEW:,} training often gains nothing"


def _require_pictures(samples: Samples) -> None:
    """Raises BadData where what should be images is noise, on which models unlearn."""
    for name, value in samples.inputs.items():
        part = np.asarray(value[:64])
        if not is_colour_image(part) or min(channels_first(part).shape[2:]) < 8:
            continue
        part = channels_first(part)
        centred = (part - part.mean((2, 3), keepdims=True)).astype(np.float64)
        size = float((centred**2).mean())
        if size and float((centred[..., 1:] * centred[..., :-1]).mean()) / size < _ALIKE:
            raise BadData(
                f"{samples.name} is noise for the input {name!r}, not images",
                why="neighbouring pixels have nothing in common; training on noise ruins a model",
                fix="give images like those that the model will see",
            )
