"""A run or an evaluation some pieces of which are shared out: what workers need to go the same way, and how they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ...graph.errors import UsageError
from ...graph.io.fit import Fit
from ...graph.io.load import load
from ...graph.spec import Spec
from ...measure.accuracy import evaluate_session
from ...measure.data.source import open_data
from ...measure.executors.executor import EXECUTORS
from ...measure.executors.files import Named, located, named, share
from ...measure.executors.pieces import Asked, Handed, Pieces, Reached
from ...measure.run.session import session_as_given
from ...passes.base import Pass
from ..importing import read_model
from ..recipe.recipe import pass_of
from ..run import run
from ..text import plain

FUNCTION = f"{__name__}:helped"


@contextmanager
def shared_out(executor: Spec, workers: int, task: Mapping[str, Any]) -> Iterator[Pieces]:
    """What has pieces done by an executor; ``task`` is that of ``run_task`` or ``evaluate_task``."""
    if workers < 1:
        raise UsageError("workers are counted from 1")
    with closing(EXECUTORS[executor](workers)) as made:
        share(made, list(task["files"].values()))
        yield Handed(made, workers, FUNCTION, task)


def files_of(model: str | Path, **data: str | None) -> dict[str, Named]:
    """A model and data by what is in them, those that are files or folders here."""
    path, found = Path(model), dict[str, Named]()
    if path.suffix == ".onnx" and path.is_file():
        file = load(path).file
        found["model"] = named(path, file.data_files if file else ())
    elif path.exists():
        found["model"] = named(path)
    return found | {name: named(Path(one)) for name, one in data.items() if one is not None and Path(one).exists()}


def place_of(task: Mapping[str, Any], name: str) -> str | None:
    """Where a worker finds what ``files_of`` named, or what else was said, such as ``package.module:callable``."""
    found = task["files"].get(name)
    return str(located(found)) if found else task[name]


def run_task(
    model: str | Path, one: Pass, *, data: str | None, eval_data: str | None, fit: Fit, **given: Any
) -> dict[str, Any]:
    """Of a pass on a model; ``given`` are further words of ``run``, and ``shapes`` and ``values`` of inputs."""
    told = {"way": "run", "model": str(model), "data": data, "eval_data": eval_data, "fit": fit.as_dict(), **given}
    asked = {"pass": one.name, **one.model_dump(mode="json", exclude_unset=True)}
    return {**plain(told), "pass": plain(asked), "files": files_of(model, data=data, eval_data=eval_data)}


def evaluate_task(model: str | Path, data: str, **given: Any) -> dict[str, Any]:
    """Of scores of a model; ``given`` are ``shapes`` and ``values`` of inputs, and what the evaluation is of."""
    told = {"way": "evaluate", "model": str(model), "data": data, **given}
    return {**plain(told), "files": files_of(model, data=data)}


def helped(task: Mapping[str, Any]) -> Sequence[str]:
    """The pieces that were asked for, as text."""
    asked = Asked(task["first"], task["last"], [*task["known"]])
    try:
        {"run": _run, "evaluate": _evaluate}[task["way"]](task, asked)
    except Reached as reached:
        return reached.found
    raise RuntimeError("a worker did not come to where work is shared out")


def _run(task: Mapping[str, Any], asked: Asked) -> None:
    words = {name: task[name] for name in ("preprocess", "samples", "metrics", "seed", "memory", "force")}
    run(
        read_model(place_of(task, "model") or "", shapes=task["shapes"], values=task["values"]),
        pass_of(task["pass"]),
        data=place_of(task, "data"),
        eval_data=place_of(task, "eval_data"),
        measure=False,
        fit=Fit.of(**task["fit"]),
        pieces=asked,
        **words,
    )


def _evaluate(task: Mapping[str, Any], asked: Asked) -> None:
    path = Path(place_of(task, "model") or "")
    model = read_model(path, shapes=task["shapes"], values=task["values"])
    pinned = bool(task["shapes"] or task["values"])
    session, _ = session_as_given(path, model, pinned=pinned, threads=task["threads"])
    source = open_data(place_of(task, "data") or "", model, preprocess=task["preprocess"], samples=task["samples"])
    evaluate_session(session, source, output=task["output"], batch=task["batch"], pieces=asked)
