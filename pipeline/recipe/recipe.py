"""What a recipe is: a model, its data, passes in order or limits to search within, gates, and what is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from ...graph.errors import UsageError
from ...graph.spec import split
from ...passes.base import PASSES, Pass
from ...passes.options import Options, Registered, option


def pass_of(given: Any) -> Any:
    """A pass from ``{pass: NAME, OPTION: VALUE}`` or ``NAME:OPTION=VALUE``. Raises UsageError."""
    if not isinstance(given, (str, Mapping)):
        return given
    name, values = split({"name": given.get("pass"), **given} if isinstance(given, Mapping) else given, "pass")
    values.pop("pass", None)
    return PASSES[name](**values)


class RecipeData(Options):
    """Data, as ``--data`` and ``--eval-data`` take them."""

    calibration: str | None = option(None, "Real inputs, unlabelled: as --data takes them.", "data")
    evaluation: str | None = option(None, "Labelled data: as --eval-data takes them.", "data")
    preprocess: str | None = option(None, "What is done to the data, as --preprocess takes it.", "data")
    metrics: tuple[str, ...] = option((), "What is measured on labelled data; the first is the accuracy.", "data")
    samples: int | None = option(None, "Use only the first so many samples.", "data", shown="all", ge=1)


class RecipeLimits(Options):
    """What a search keeps: a fraction of the original's, or an amount with its unit, such as 500KB or 5ms."""

    size: float | str | None = option(None, "Bytes of the file.", "target")
    macs: float | str | None = option(None, "Multiply-accumulates.", "target")
    params: float | str | None = option(None, "Parameters.", "target")
    latency: float | str | None = option(None, "Time of a run.", "target")
    max_drop: float | None = option(None, "Accuracy that may be lost; needs evaluation data.", "target", ge=0)


class MadeBy(Options):
    """Who wrote a recipe down: the version of intaglio, and of packages that registered what it names."""

    intaglio: str = option(..., "Its version.", "advanced")
    plugins: dict[str, str] = option({}, "Versions of packages.", "advanced")


class Recipe(Options):
    """What is done to a model. Paths are as seen from the folder in which a command runs."""

    about: str = option("", "What it is for.", "advanced")
    model: str | None = option(None, "ONNX file to read; the command line may name another.", "data")
    shapes: dict[str, tuple[int, ...]] = option({}, "Pinned shapes of inputs; -1 leaves a dimension open.", "data")
    inputs: dict[str, Any] = option({}, "Inputs that are made constants.", "data")
    data: RecipeData = option(RecipeData(), "Real inputs, and labels.", "data")
    target: Annotated[str | None, Registered("intaglio.targets")] = option(
        None, "What will run it: for every pass that asks and does not say so itself.", "target"
    )
    passes: tuple[Annotated[Pass, BeforeValidator(pass_of)], ...] = option((), "What is done, in order.", "method")
    limits: RecipeLimits | None = option(None, "In the place of passes: what a search keeps.", "target")
    gates: tuple[str, ...] = option((), 'What the result must keep, such as "drop <= 1.0".', "accuracy")
    exports: tuple[Annotated[str, Registered("intaglio.exporters")], ...] = option(
        ("onnx",), "Formats to write.", "output"
    )
    seed: int = option(0, "Seed of everything random.", "advanced", ge=0)
    memory: str | None = option(None, "Tensors held at once, such as 256MB.", "advanced", shown="512MB")
    force: bool = option(False, "Write what a pass advises against, and take passes that change nothing.", "output")
    opset: int | None = option(None, "Operator set of the file.", "output")
    ir: int | None = option(None, "IR version of the file.", "output")
    runtime: str | None = option(None, "The oldest ONNX Runtime that must read it, such as ort>=1.20.", "output")
    made_by: MadeBy | None = option(None, "Who wrote it down.", "advanced")

    @model_validator(mode="after")
    def _one_way(self) -> Recipe:
        if self.passes and self.limits:
            raise UsageError("`passes` and `limits` exclude each other", fix="give one of them")
        if not self.passes and not self.limits:
            raise UsageError("a recipe has neither `passes` nor `limits`", fix="list passes, such as - pass: quantize")
        return self

    def steps(self) -> tuple[Pass, ...]:
        """The passes, with the recipe's target where they have none of their own."""
        target = self.target
        if target is None:
            return self.passes
        return tuple(one if "target" in one.model_fields_set else aimed(one, target) for one in self.passes)


def aimed(one: Pass, target: str) -> Pass:
    """A pass that asks what will run its result, for that target; any other as it is."""
    field = type(one).model_fields.get("target")
    asked = [kind for kind in (field.metadata if field else ()) if isinstance(kind, Registered)]
    aims = any(kind.group == "intaglio.targets" for kind in asked)
    return one.model_copy(update={"target": target}) if aims else one
