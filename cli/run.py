"""What the commands that change a model take beside the options of their pass, how they carry out a run, and where
they tell of it: gates and reports are those of all commands that judge a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from ..graph.errors import Exit, GateFailed, IntaglioError, UsageError
from . import console
from .options import (
    Debug,
    DryRun,
    Executor,
    Gates,
    GitHub,
    Html,
    Ir,
    Json,
    JUnit,
    Markdown,
    Memory,
    Metrics,
    ModelPath,
    Opset,
    Out,
    Preprocess,
    Resume,
    Runtime,
    Samples,
    Seed,
    Shapes,
    Values,
    Workers,
    option,
    parse_shapes,
    parse_values,
    read_model,
)

if TYPE_CHECKING:
    from ..graph.model import Model
    from ..measure.executors.pieces import Pieces
    from ..passes.base import Pass
    from ..pipeline.report import Report

Proof = Annotated[
    Path | None,
    option(
        "--proof FILE", "Also write the model that the result was proved to equal, so that anyone can check.", "output"
    ),
]


@dataclass(frozen=True, kw_only=True)
class Outlets:
    """Limits of a result, and the files that tell of it."""

    gate: Gates = None
    junit: JUnit = None
    markdown: Markdown = None
    html: Html = None
    github: GitHub = None

    @contextmanager
    def telling(self, model: Path) -> Iterator[None]:
        """Look first whether files can be written; an error on the way is told in them, too."""
        for path in filter(None, (self.junit, self.markdown, self.html)):
            if not path.absolute().parent.is_dir() or path.is_dir():
                raise UsageError(f"cannot write {path}", why="there is no such folder, or it is a folder itself")
        try:
            yield
        except IntaglioError as error:
            self.tell({"model": str(model), "error": console.error_dict(error)})
            raise

    def tell(self, result: Mapping[str, Any]) -> None:
        """Write what was asked for."""
        on_github = self.github or (self.github is None and os.environ.get("GITHUB_ACTIONS") == "true")
        if not (on_github or self.junit or self.markdown or self.html):
            return
        from ..pipeline.envelope import envelope

        told = console.plain({**envelope(console.mode.command), **result})
        if self.junit is not None:
            from ..pipeline.formats import junit

            _write(self.junit, junit.render(told))
        if self.markdown is not None:
            from ..pipeline.formats import markdown

            _write(self.markdown, markdown.render(told))
        if self.html is not None:
            from ..pipeline import html

            _write(self.html, html.render(told))
        if on_github:
            from ..pipeline.formats import github, markdown

            console.raw(github.render(told))
            _append("GITHUB_STEP_SUMMARY", lambda: markdown.render(told))
            _append("GITHUB_OUTPUT", lambda: github.outputs(told))


@dataclass(frozen=True, kw_only=True)
class Fits:
    """What the file may need of a runtime."""

    opset: Opset = None
    ir: Ir = None
    runtime: Runtime = None


@dataclass(frozen=True, kw_only=True)
class Run(Outlets, Fits):
    """A model, where the result goes, and the data of a run."""

    model: ModelPath
    out: Out
    data: Annotated[
        str | None,
        option(
            "--data SOURCE",
            "Calibration data, unlabelled: an .npz named after the graph inputs, a folder of .npy or images, "
            "an ONNX test_data_set folder, or package.module:callable.",
            "data",
        ),
    ] = None
    preprocess: Preprocess = None
    samples: Samples = None
    shape: Shapes = None
    value: Values = None
    eval_data: Annotated[
        str | None, option("--eval-data SOURCE", "Labelled data: report the accuracy before and after.", "accuracy")
    ] = None
    metric: Metrics = None
    measure: Annotated[
        bool, option("--measure/--no-measure", "Time both models on this machine, in turn.", "output")
    ] = True
    force: Annotated[
        bool,
        option(
            "--force",
            "Write what is refused otherwise: a result that is slower, no smaller or of no use, or the model as it is "
            "where nothing can change.",
            "output",
        ),
    ] = False
    save_recipe: Annotated[
        Path | None,
        option(
            "--save-recipe FILE",
            "Also write a recipe that does the same again: intaglio compress MODEL --recipe FILE.",
            "output",
        ),
    ] = None
    dry_run: DryRun = False
    memory: Memory = "512MB"
    resume: Resume = None
    seed: Seed = 0
    json: Json = False
    debug: Debug = False

    def report(self, one: Pass, *, proof: Path | None = None) -> Report:
        """What one pass made of the model; the file is written, aside where the report has failed."""
        with self.telling(self.model):
            report = judged(lambda: self._run(one, proof))
            self.tell(report.as_dict())
            return report

    def unwritten(self, one: Pass) -> Report:
        """The same in a process that helps another one: nothing is told or written."""
        return self._run(one, None, write=False)

    def _plan(self, model: Model, one: Pass, proof: Path | None) -> NoReturn:
        from ..pipeline.data import Data as Named
        from ..pipeline.gates import read_gates
        from ..pipeline.outputs import Outputs
        from ..pipeline.plan import planned
        from ..pipeline.run import ready

        named = Named(self.data, self.eval_data, self.preprocess, self.samples, self.seed, self.metric or ())
        read, steps = ready(model, (one,), named)
        Outputs(self.out, proof, self.save_recipe).check(read, aside=bool(read_gates(self.gate or ())))
        tell_plan({**planned(steps, read, named), "out": str(self.out)})

    def _run(self, one: Pass, proof: Path | None, *, write: bool = True) -> Report:
        from ..measure.run.released import large_apart
        from ..pipeline.run import run

        large_apart()
        model = read_model(self.model, self.shape, self.value)
        if self.dry_run:
            self._plan(model, one, proof)
        with self._pieces(one) as pieces:
            return run(
                model,
                one,
                **self._given(),
                out=self.out if write else None,
                proof=proof,
                save_recipe=self.save_recipe if write else None,
                measure=self.measure,
                gates=self.gate or (),
                pieces=pieces,
                resume=self.resume,
                view=console,
            )

    def _given(self) -> dict[str, Any]:
        """Data and all else that decides the result."""
        from ..graph.io.fit import Fit
        from ..pipeline.units import parse_size

        return {
            "data": self.data,
            "eval_data": self.eval_data,
            "preprocess": self.preprocess,
            "samples": self.samples,
            "metrics": self.metric or (),
            "seed": self.seed,
            "force": self.force,
            "memory": parse_size(self.memory),
            "fit": Fit.of(self.opset, self.ir, self.runtime),
        }

    def _pieces(self, one: Pass) -> AbstractContextManager[Pieces]:
        """What does work that may be done apart."""
        return apart("local", 1, dict)


@dataclass(frozen=True, kw_only=True)
class RunApart(Run):
    """A run some of which workers may do."""

    executor: Executor = "local"
    workers: Workers = 1

    def _pieces(self, one: Pass) -> AbstractContextManager[Pieces]:
        def task() -> dict[str, Any]:
            from ..pipeline.study.helping import run_task

            given = self._given() | {"shapes": parse_shapes(self.shape), "values": parse_values(self.value)}
            return run_task(self.model, one, **given)

        return apart(self.executor, self.workers, task)


@contextmanager
def apart(executor: str, workers: int, task: Callable[[], Mapping[str, Any]]) -> Iterator[Pieces]:
    """What does work that may be done apart, ``task`` being what workers need to help: this process, or an executor."""
    from ..measure.executors.pieces import HERE

    if executor == "local":
        yield HERE
        return
    from ..pipeline.study.helping import shared_out

    with shared_out(executor, workers, task()) as pieces:
        yield pieces


def tell_plan(plan: Mapping[str, Any]) -> NoReturn:
    """What would be done and is expected; the command ends with it."""
    rows = []
    for one in plan["passes"]:
        options = [f"{name}={value}" for name, value in one.items() if name not in ("pass", "expected")]
        kept = [console.percent(value, 1) for value in one["expected"].values()]
        rows.append((one["pass"], " ".join(options), *kept))

    def show() -> None:
        if plan.get("limits"):
            told = ", ".join(f"{name} {value}" for name, value in plan["limits"].items())
            console.line(f"a search would try chains of passes and keep {told}")
        else:
            console.table("plan", ("pass", "options", "MACs", "parameters", "file"), rows)
        console.line("nothing was run or written; figures are expected of what each pass is asked for")

    console.emit({**plan, "dry_run": True}, show)
    raise console.Told(Exit.DONE)


def judged(do: Callable[[], Report]) -> Report:
    """What a run tells, also where it missed a gate."""
    try:
        return do()
    except GateFailed as error:
        failed: Report | None = error.report
        if failed is None:  # nothing was measured that could be told
            raise
        return failed


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    from ..graph.io.place import temporary

    with temporary(path.absolute().parent) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
        file.flush()
        os.replace(file.name, path)


def _append(variable: str, text: Callable[[], str]) -> None:
    if name := os.environ.get(variable):
        with open(name, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text())
