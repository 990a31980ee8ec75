"""Options that several commands share, declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..graph.errors import UsageError

if TYPE_CHECKING:
    from ..graph.model import Model

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX file to read.", show_default=False)]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="ONNX file to write.", show_default=False, rich_help_panel="output")
]
# main reads these two off the raw command line, so that they hold even when parsing fails; here they get their help.
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout and nothing else there.", rich_help_panel="output"),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show full tracebacks.", rich_help_panel="output")]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME:DIMS",
        help="Pin an input's shape, such as image:1,3,224,224; -1 leaves a dimension open. Repeatable.",
        rich_help_panel="data",
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="Make an input a constant, such as sr=16000 or sizes=1,2; branches that it decides are folded. Repeatable.",
        rich_help_panel="data",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="Real inputs: an .npz named after the graph inputs (plus labels), a folder of .npy or images, "
        "an ONNX test_data_set folder, or package.module:callable.",
        rich_help_panel="data",
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="STEPS",
        help="What is done to the data, from left to right, such as scale=1/255,layout=nchw. Steps: scale= offset= "
        "mean= std= layout= channels= shape= dtype= resize= crop=; presets: imagenet, cifar10, unit, none.",
        rich_help_panel="data",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        "--samples",
        min=1,
        metavar="N",
        help="Use only the first N samples of the data.",
        show_default="all",
        rich_help_panel="data",
    ),
]
Runs = Annotated[
    int | None,
    typer.Option(
        "--runs",
        min=1,
        metavar="N",
        help="Timed runs of each model, instead of --seconds.",
        rich_help_panel="method",
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds",
        min=0.0,
        metavar="S",
        help="Time to spend on each model; 20 runs at least.",
        rich_help_panel="method",
    ),
]
Batch = Annotated[
    int, typer.Option("--batch", min=1, metavar="N", help="Samples run at once.", rich_help_panel="method")
]
Threads = Annotated[
    int, typer.Option("--threads", min=1, metavar="N", help="Threads one model may use.", rich_help_panel="method")
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, metavar="N", help="Seed of everything random.", rich_help_panel="output")
]


Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="LIMIT",
        help='Exit with 3 unless this holds, such as "drop <= 1.0" (points), "accuracy >= 0.9", "size <= 500KB", '
        '"latency <= 0.8x", "macs <= 0.5x", "params <= 200k", "agreement >= 0.98", "sqnr >= 20dB", or a metric; what '
        "misses it is kept aside as NAME.gate-failed.onnx. Repeatable.",
        rich_help_panel="accuracy",
    ),
]
JUnit = Annotated[
    Path | None,
    typer.Option(
        "--junit",
        metavar="FILE",
        help="Also write the gates as test cases, in JUnit XML.",
        show_default=False,
        rich_help_panel="output",
    ),
]
Markdown = Annotated[
    Path | None,
    typer.Option(
        "--markdown",
        metavar="FILE",
        help="Also write the report as Markdown, for a pull request's comment.",
        show_default=False,
        rich_help_panel="output",
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Also write the report as one HTML page that needs nothing else.",
        show_default=False,
        rich_help_panel="output",
    ),
]
GitHub = Annotated[
    bool | None,
    typer.Option(
        "--github/--no-github",
        help="Annotate the job on GitHub, and write its summary and outputs; by itself where GITHUB_ACTIONS is set.",
        show_default=False,
        rich_help_panel="output",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what would be done and what that is expected to leave; run nothing, write nothing.",
        rich_help_panel="output",
    ),
]
Memory = Annotated[
    str,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Tensors held at once while calibrating and proving, such as 256MB or 2GB; more is done in turns.",
        rich_help_panel="advanced",
    ),
]


def parse_shapes(texts: list[str] | None) -> dict[str, list[int]] | None:
    """``["x:1,3,8,8"]`` as ``{"x": [1, 3, 8, 8]}``. Raises UsageError on anything else."""
    shapes: dict[str, list[int]] = {}
    for text in texts or ():
        name, colon, dims = text.rpartition(":")  # the last colon: TensorFlow names end in ":0"
        if not colon or not name or not re.fullmatch(r"-?\d{1,18}(,-?\d{1,18})*", dims.replace(" ", "")):
            raise UsageError(f"cannot read --shape {text!r}", fix="write it like --shape image:1,3,224,224")
        if name in shapes:
            raise UsageError(f"--shape pins {name!r} twice")
        shapes[name] = [int(d) for d in dims.split(",")]
    return shapes or None


def parse_values(texts: list[str] | None) -> dict[str, Any] | None:
    """``["sr=16000", "sizes=1,2"]`` as ``{"sr": 16000, "sizes": [1, 2]}``. Raises UsageError on anything else."""
    values: dict[str, Any] = {}
    for text in texts or ():
        name, equals, given = text.rpartition("=")
        if not equals or not name or not given:
            raise UsageError(f"cannot read --input {text!r}", fix="write it like --input sr=16000")
        if name in values:
            raise UsageError(f"--input gives {name!r} twice")
        words = [_value(word.strip()) for word in given.split(",")]
        values[name] = words if len(words) > 1 else words[0]
    return values or None


def _value(word: str) -> Any:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def read_model(path: Path, shape: list[str] | None, value: list[str] | None) -> Model:
    """Load a model, its inputs as ``--shape`` and ``--input`` say."""
    from ..graph.io.load import load

    return load(path, shapes=parse_shapes(shape), values=parse_values(value))
