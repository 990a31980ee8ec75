"""Options that several commands share, declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..graph.errors import UsageError
from .mode import mode

if TYPE_CHECKING:
    from ..graph.model import Model


def option(flags: str, help: str, panel: str | None = None, **more: Any) -> Any:
    """How help shows a parameter: ``-o --out FILE``, the last word of which stands for a value, in one of its panels."""
    names = [word for word in flags.split() if word.startswith("-")]
    value = next((word for word in flags.split() if word not in names), None)
    return typer.Option(*names, help=help, metavar=value, rich_help_panel=panel, **more)


def complete_metric(incomplete: str) -> list[str]:
    """What a shell offers for a metric."""
    from ..measure.accuracy import METRICS

    return [name for name in METRICS if name.startswith(incomplete)]


ModelPath = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="ONNX file to read, or any source that intaglio import takes.", show_default=False
    ),
]
Out = Annotated[Path, option("--out -o", "ONNX file to write.", "output")]
# main reads these two off the raw command line, so that they hold even when parsing fails; here they get their help.
Json = Annotated[bool, option("--json", "Print one JSON object on stdout and nothing else there.", "output")]
Debug = Annotated[bool, option("--debug", "Show full tracebacks.", "output")]
Shapes = Annotated[
    list[str] | None,
    option(
        "--shape NAME:DIMS",
        "Pin an input's shape, such as image:1,3,224,224; -1 leaves a dimension open. Repeatable.",
        "data",
    ),
]
Values = Annotated[
    list[str] | None,
    option(
        "--input NAME=VALUE",
        "Make an input a constant, such as sr=16000 or sizes=1,2; branches that it decides are folded. Repeatable.",
        "data",
    ),
]
Measured = Annotated[
    Path | None,
    option("--measured FILE", "Times from another machine, as a bundle writes them: intaglio bench A B --bundle DIR."),
]
Bundle = Annotated[
    Path | None,
    option(
        "--bundle DIR",
        "Time nothing here: write a folder that does it on another machine, with numpy and onnxruntime alone.",
    ),
]
Opset = Annotated[int | None, option("--opset N", "Operator set of the file.", "output")]
Ir = Annotated[int | None, option("--ir N", "IR version of the file.", "output")]
Runtime = Annotated[
    str | None,
    option(
        "--runtime ort>=X.Y",
        "The oldest ONNX Runtime that must read the file; without it 1.20, where the model allows that.",
        "output",
    ),
]
Data = Annotated[
    str | None,
    option(
        "--data SOURCE",
        "Real inputs: an .npz named after the graph inputs (plus labels), a folder of .npy or images, "
        "an ONNX test_data_set folder, or package.module:callable.",
        "data",
    ),
]
Preprocess = Annotated[
    str | None,
    option(
        "--preprocess STEPS",
        "What is done to the data, from left to right, such as scale=1/255,layout=nchw. Steps: scale= offset= "
        "mean= std= layout= channels= shape= dtype= resize= crop=; presets: imagenet, cifar10, unit, none.",
        "data",
    ),
]
Samples = Annotated[
    int | None, option("--samples N", "Use only the first N samples of the data.", "data", min=1, show_default="all")
]
Robust = Annotated[
    bool,
    option(
        "--robust",
        "Also tell which answers change, by class, and how near to wrong the others are: what B forgets.",
        "accuracy",
    ),
]
Corruptions = Annotated[
    bool,
    option(
        "--corruptions",
        "Also on images made worse: noise, blur, contrast, brightness and JPEG at five severities.",
        "accuracy",
    ),
]
Reference = Annotated[
    Path | None,
    option(
        "--reference MODEL", "With --corruptions: what is left of this model's accuracy, not of its own.", "accuracy"
    ),
]
Runs = Annotated[int | None, option("--runs N", "Timed runs of each model, instead of --seconds.", "method", min=1)]
Seconds = Annotated[float, option("--seconds S", "Time to spend on each model; 20 runs at least.", "method", min=0.0)]
Batch = Annotated[int, option("--batch N", "Samples run at once.", "method", min=1)]
Threads = Annotated[int, option("--threads N", "Threads one model may use.", "method", min=1)]
Executor = Annotated[
    str, option("--executor NAME", "Where work that may be done apart runs: local, processes, ray.", "advanced")
]
Workers = Annotated[int, option("--workers N", "How much of it at the same time.", "advanced", min=1)]
Seed = Annotated[int, option("--seed N", "Seed of everything random.", "output", min=0)]


Gates = Annotated[
    list[str] | None,
    option(
        "--gate LIMIT",
        'Exit with 3 unless this holds, such as "drop <= 1.0" (points), "accuracy >= 0.9", "size <= 500KB", '
        '"latency <= 0.8x", "macs <= 0.5x", "params <= 200k", "agreement >= 0.98", "sqnr >= 20dB", or a metric; what '
        "misses it is kept aside as NAME.gate-failed.onnx. Repeatable.",
        "accuracy",
    ),
]
Metrics = Annotated[
    list[str] | None,
    option(
        "--metric NAME",
        "What to measure on labelled data, such as mse, f1:average=micro or FILE.py:FUNCTION; the first is the accuracy. "
        "By default top1 and top5. Repeatable.",
        "accuracy",
        autocompletion=complete_metric,
    ),
]
JUnit = Annotated[Path | None, option("--junit FILE", "Also write the gates as test cases, in JUnit XML.", "output")]
Markdown = Annotated[
    Path | None, option("--markdown FILE", "Also write the report as Markdown, for a pull request's comment.", "output")
]
Html = Annotated[
    Path | None, option("--html FILE", "Also write the report as one HTML page that needs nothing else.", "output")
]
GitHub = Annotated[
    bool | None,
    option(
        "--github/--no-github",
        "Annotate the job on GitHub, and write its summary and outputs; by itself where GITHUB_ACTIONS is set.",
        "output",
    ),
]
DryRun = Annotated[
    bool,
    option(
        "--dry-run", "Say what would be done and what that is expected to leave; run nothing, write nothing.", "output"
    ),
]
Memory = Annotated[
    str,
    option(
        "--memory SIZE",
        "Tensors held at once while calibrating and proving, such as 256MB or 2GB; more is done in turns.",
        "advanced",
    ),
]

Resume = Annotated[
    Path | None,
    option(
        "--resume DIR",
        "Keep there what each layer became, and go on behind the last one where an earlier run of the same command was "
        "ended: quantize, binarize, sparsify, factorize, prune.",
        "advanced",
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
    """Read a model of any kind, its inputs as ``--shape`` and ``--input`` say."""
    from ..pipeline.importing import read_model

    mode.models.append((path, shape, value))
    return read_model(path, shapes=parse_shapes(shape), values=parse_values(value))
