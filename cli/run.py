"""What the commands that change a model take beside the options of their pass, and how they carry out a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..graph.errors import GateFailed
from . import console
from .options import (
    Debug,
    Gates,
    Json,
    Memory,
    ModelPath,
    Out,
    Preprocess,
    Samples,
    Seed,
    Shapes,
    Values,
    parse_size,
    read_model,
)

if TYPE_CHECKING:
    from ..passes.base import Pass
    from ..pipeline.report import Report

Proof = Annotated[
    Path | None,
    typer.Option(
        "--proof",
        metavar="FILE",
        help="Also write the model that the result was proved to equal, so that anyone can check.",
        show_default=False,
        rich_help_panel="output",
    ),
]


@dataclass(frozen=True)
class Run:
    """A model, where the result goes, and the data of a run."""

    model: ModelPath
    out: Out
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="SOURCE",
            help="Calibration data, unlabelled: an .npz named after the graph inputs, a folder of .npy or images, "
            "an ONNX test_data_set folder, or package.module:callable.",
            rich_help_panel="data",
        ),
    ] = None
    preprocess: Preprocess = None
    samples: Samples = None
    shape: Shapes = None
    value: Values = None
    eval_data: Annotated[
        str | None,
        typer.Option(
            "--eval-data",
            metavar="SOURCE",
            help="Labelled data: report the accuracy before and after.",
            rich_help_panel="accuracy",
        ),
    ] = None
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure", help="Time both models on this machine, in turn.", rich_help_panel="output"
        ),
    ] = True
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Write the result though it is slower than the original, or the model as it is where nothing can change.",
            rich_help_panel="output",
        ),
    ] = False
    gate: Gates = None
    memory: Memory = "512MB"
    seed: Seed = 0
    json: Json = False
    debug: Debug = False

    def report(self, one: Pass, *, proof: Path | None = None) -> Report:
        """What one pass made of the model; the file is written, aside where the report has failed."""
        try:
            return self._run(one, proof)
        except GateFailed as error:
            if error.report is None:
                raise
            return error.report

    def _run(self, one: Pass, proof: Path | None) -> Report:
        from ..pipeline.run import run

        memory = parse_size(self.memory)
        return run(
            read_model(self.model, self.shape, self.value),
            one,
            data=self.data,
            eval_data=self.eval_data,
            preprocess=self.preprocess,
            samples=self.samples,
            seed=self.seed,
            out=self.out,
            proof=proof,
            measure=self.measure,
            gates=self.gate or (),
            force=self.force,
            memory=memory,
            view=console,
        )
