"""Options of training."""

from __future__ import annotations

from typing import Annotated, Literal

from ..options import LayerOptions, Registered, option

AUTO, NONE = "auto", "none"
"""No augmentation."""


class TrainOptions(LayerOptions):
    teacher: str | None = option(
        None,
        "The model whose outputs are to be reached again, usually the original: labels are not needed then.",
        "target",
        unit="model",
    )
    dialect: Literal["distilled"] | None = option(
        None,
        "Train without data, on inputs distilled from what BatchNormalization of the teacher, or of the model, kept: "
        "128 unless --samples says how many.",
        "data",
    )
    method: Annotated[str, Registered("intaglio.trainers", also=(AUTO,))] = option(
        AUTO,
        "How to train: distill from a teacher, finetune on labels; see intaglio passes.",
        "method",
        shown="distill with --teacher, finetune without",
    )
    losses: tuple[Annotated[str, Registered("intaglio.losses")], ...] = option(
        (),
        "What is made small, such as kd:temperature=2; several are added. Repeatable.",
        "method",
        flag="--loss",
        shown="what the method says",
    )
    operator: Annotated[str, Registered("intaglio.binary_operators")] | None = option(
        None, "Of a binary network, what is around its signs; --method bnn is meant then.", "method", shown="react"
    )
    estimator: Annotated[str, Registered("intaglio.estimators")] | None = option(
        None, "The gradient that signs of a binary network have.", "method", shown="what the operator says"
    )
    epochs: float = option(10.0, "How often each sample is seen.", "method", unit="number", gt=0)
    steps: int | None = option(None, "Take so many steps, whatever the number of samples.", "method", gt=0)
    minutes: float | None = option(
        None,
        "Take as many steps as fit into so many minutes here; they are counted after the first few.",
        "method",
        gt=0,
    )
    batch: int | None = option(
        None, "Samples of one step.", "method", gt=0, shown="32 for weights of 4 bits and less, else 128"
    )
    lr: float | None = option(
        None,
        "The highest step size.",
        "method",
        unit="number",
        gt=0,
        shown="0.003 with BatchNormalization, 0.0001 for 8 bits and less, else 0.001",
    )
    optimizer: Literal["adamw", "sgd"] = option("adamw", "How steps follow from gradients.", "advanced")
    weight_decay: float = option(0.0, "Draw weights to zero so much.", "advanced", unit="number", ge=0)
    clip: float = option(1.0, "Gradients are no longer than this; 0 for any length.", "advanced", unit="number", ge=0)
    warm_up: float = option(0.05, "The fraction of the steps in which the step size rises.", "advanced", ge=0, lt=1)
    augmentations: tuple[Annotated[str, Registered("intaglio.augmentations", also=(NONE,))], ...] = option(
        (),
        "Change each image in this way, such as flip or crop:pixels=2; none leaves them alone. Repeatable.",
        "data",
        flag="--augment",
        shown="flip and crop for colour images, else none",
    )
    mixup: float = option(
        0.0,
        "Mix each sample with another, in shares of a beta distribution of this number; 0 for none.",
        "data",
        unit="number",
        ge=0,
    )
    features: tuple[str, ...] = option(
        (),
        "An inner tensor that losses such as ikd or attention look at. Repeatable.",
        "method",
        flag="--feature",
        unit="tensor",
        shown="the last of each size",
    )
    ema: float = option(0.0, "Keep a running mean of the weights, with so much of the old.", "advanced", ge=0, lt=1)
    hold_back: float = option(
        0.1,
        "The fraction of the samples that is not trained on, and says which weights are the best.",
        "accuracy",
        unit="fraction",
        gt=0,
        le=0.5,
    )
    freeze_bn: bool = option(
        False,
        "Leave statistics of BatchNormalization as they are; so they are left with --include and --exclude.",
        "method",
    )
    insert_bn: bool = option(
        False,
        "Put a BatchNormalization behind each convolution without one, as the identity; it is trained, and folded back.",
        "method",
    )
    bf16: bool = option(True, "Compute products in bfloat16 where this machine is faster at it.", "advanced")
    threads: int = option(0, "Threads of torch.", "advanced", ge=0, shown="as many as torch takes")
    checkpoint: str | None = option(
        None, "Keep the state of training in this file, and go on from it where it exists.", "output", unit="file"
    )
    keep_best: bool = option(True, "When interrupted, keep the best weights so far.", "output")
