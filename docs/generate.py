"""Write what the documents quote: the command reference, terminal sessions, files and figures.

    python docs/generate.py            # bring all of it up to date
    python docs/generate.py --check    # exit code 1 and a list of what is stale

In a document a comment line says what the fenced block (or the table) after it holds:

    <!-- session -->           commands after ``$``, run in a fresh folder with ``examples/``, and what they print
    <!-- file: PATH -->        a file of the repository
    <!-- figures: resnet20 --> a table that is measured
    <!-- keys: NAME -->        the keys of a form of what commands print with --json
    <!-- results: real -->     what the tests of real models found, from the tables that they are held to

What names ``$INTAGLIO_DATA`` is left as it is where that folder of real models is absent.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(1, str(ROOT))
DATA = Path(os.environ.get("INTAGLIO_DATA", ROOT.parent / "shared" / "data"))
REFERENCE = ROOT / "docs" / "commands.md"
ANSWERS = ROOT / "docs" / "schema" / "intaglio-1.json"
SCHEMA = ROOT / "docs" / "recipe.schema.json"
COLUMNS = "100"

MARKED = re.compile(r"^(<!-- (.+?) -->\n+)(```\w*\n.*?^```$|(?:^\|[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
SPEED = re.compile(r"^(?:latency\b|note: the result is (?:slower|faster)\b).*\n?", re.MULTILINE)
TIME = re.compile(r"\b\d+(?:\.\d+)? (?:ms|s)\b")
PROGRESS = re.compile(r"^[\w ]+: \d+%?\n", re.MULTILINE)
"""Told on a machine that is busy: a line for what takes long."""
DIFFERENCE = re.compile(r"(?<=difference )[\d.e+-]+")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
POINTS = 0.5
"""Decimals may differ by so much, or by 2 %: processors round differently, and one image of 600 is 0.17 points."""


@dataclass(frozen=True)
class Stale:
    """A place in a document that no longer says what is."""

    document: Path
    what: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}: {self.what}"


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def renewed(document: Path, text: str, *, every_figure: bool) -> Iterator[tuple[str, str, str]]:
    """Every marked part of a document: its marker, what it says, and what it should say."""
    with tempfile.TemporaryDirectory(prefix="intaglio-docs-") as folder:
        shutil.copytree(ROOT / "examples", Path(folder) / "examples")
        for _, marker, part in MARKED.findall(text):
            kind, _, argument = marker.partition(":")
            if "$INTAGLIO_DATA" in part and not DATA.is_dir():
                continue
            if kind == "session":
                yield marker, part, session(part, Path(folder))
            elif kind == "file":
                yield marker, part, quoted(part, ROOT / argument.strip())
            elif kind == "keys":
                yield marker, part, keys(argument.strip())
            elif kind == "results":
                yield marker, part, RESULTS[argument.strip()]()
            elif kind == "figures" and DATA.is_dir():
                yield marker, part, FIGURES[argument.strip()](part, Path(folder), all_rows=every_figure)


def session(block: str, folder: Path) -> str:
    """The same commands with what they print now, both streams as a terminal shows them."""
    lines = ["```console"]
    for command in re.findall(r"^\$ (?:.*\\\n)*.*$", block, re.MULTILINE):
        shown = run(re.sub(r"\s+#.*$", "", command[2:]), folder)
        lines += [command, *shown.rstrip("\n").split("\n")]
        if shown:
            lines.append("")
    return "\n".join(lines).rstrip() + "\n```"


def run(command: str, folder: Path) -> str:
    """What a command prints. Its exit code is for the test that runs every command of the documents."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    settings = {"PATH": path, "INTAGLIO_DATA": str(DATA), "COLUMNS": COLUMNS, "TERMINAL_WIDTH": COLUMNS}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return PROGRESS.sub("", done.stdout).replace(str(DATA), "$INTAGLIO_DATA")


def quoted(block: str, file: Path) -> str:
    """A file in the fence that is there."""
    return f"{block.partition(chr(10))[0]}\n{file.read_text().rstrip()}\n```"


def resnet20(table: str, folder: Path, *, all_rows: bool) -> str:
    """Accuracy of two exports of one network after pruning, by target. Measures the first row, or all of them."""
    rows = table.rstrip("\n").split("\n")
    for number, row in list(enumerate(rows))[2 : None if all_rows else 3]:
        macs = row.split("|")[1].strip()
        cells = [macs]
        for name in ("resnet20-bn.onnx", "resnet20.onnx"):
            command = (
                f"intaglio prune $INTAGLIO_DATA/{name} -o r20.onnx --macs {macs} --preprocess cifar10 "
                "--eval-data $INTAGLIO_DATA/cifar10_test_first2000.npz --json"
            )
            result = json.loads(run(f"{command} 2>/dev/null", folder))
            before, after = (100 * result["accuracy"][when]["top1"] for when in ("before", "after"))
            cells.append(f"{before:.2f} % → {after:.2f} %")
        rows[number] = f"| {' | '.join(cells)} |"
    return "\n".join(rows) + "\n"


FIGURES = {"resnet20": resnet20}


def real_models() -> str:
    """A row for each model: parameters frozen, and for each command the size that is left, with the noise of it."""
    from tests.real.fetch import HERE, entries
    from tests.real.runs import COMMANDS, EXACT, READS, Result

    writing = [command for command in COMMANDS if command not in READS]
    lines = [f"| model | frozen | {' | '.join(writing)} |", "| --- " * (len(writing) + 2) + "|"]
    for entry in entries():
        rows = (HERE / "results" / f"{entry.name}.tsv").read_text().splitlines()
        found = {result.command: result for result in map(Result.of, rows)}
        frozen = found["groups"].told.partition("prunable, ")[2].partition(" ")[0]
        cells = []
        for command in writing:
            one = found.get(command)
            if one is None or one.kept is None:
                cells.append(f"exit {one.code}" if one else "")
                continue
            noise = "proved" if command == "prune" else "equal" if one.noise == EXACT else f"{one.noise:.0f} dB"
            cells.append(f"{one.kept:.0f} %, {noise}")
        lines.append(f"| {entry.name} | {frozen} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def reasons() -> str:
    """Why commands wrote nothing."""
    from tests.real.fetch import HERE, entries
    from tests.real.runs import Result

    lines = ["| model | command | exit | what was said |", "| --- | --- | --- | --- |"]
    for entry in entries():
        for row in (HERE / "results" / f"{entry.name}.tsv").read_text().splitlines():
            result = Result.of(row)
            if result.code and result.kept is None:
                lines.append(f"| {entry.name} | {result.command} | {result.code} | {result.told.replace('|', ', ')} |")
    return "\n".join(lines) + "\n"


RESULTS = {"real": real_models, "reasons": reasons}


def reference() -> str:
    """The command reference, as ``--help`` tells it."""
    from intaglio.cli.commands import COMMANDS, about

    parts = [
        "# Commands",
        "What `intaglio --help` and `intaglio COMMAND --help` print. `python docs/generate.py` writes this page.",
        *(f"- [`intaglio {name}`](#intaglio-{name}): {about(name)}" for name in COMMANDS),
    ]
    text = f"{parts[0]}\n\n{parts[1]}\n\n" + "\n".join(parts[2:]) + "\n"
    for name in ("", *COMMANDS):
        words = f"intaglio {name}".strip()
        text += f"\n## {words}\n\n```text\n{run(f'{words} --help', ROOT).rstrip()}\n```\n{fields(name)}"
    return text


def schema() -> str:
    """The JSON Schema of recipes, without plug-ins."""
    from intaglio.passes.base import PASSES
    from intaglio.pipeline.recipe.schema import recipe_schema

    return json.dumps(recipe_schema(PASSES.builtin), indent=1) + "\n"


def fields(command: str) -> str:
    """A table of the fields of a command's pass, as Python and recipes name them."""
    from intaglio.passes.base import PASSES
    from intaglio.passes.options import options_of

    if command not in PASSES:
        return ""
    text = (
        f"\nFields of `{PASSES[command].__name__}`, for Python:\n\n| field | value | default |\n| --- | --- | --- |\n"
    )
    for one in options_of(PASSES[command]):
        cells = one.name, " ".join(filter(None, (one.value or "yes, no", one.limits))), one.default
        text += "| " + " | ".join(cell.replace("|", ", ").replace("<", "\\<") for cell in cells) + " |\n"
    return text


def answers() -> str:
    """JSON Schema of what commands print with --json."""
    from intaglio.pipeline.schema import json_schema

    return json.dumps(json_schema(), indent=1) + "\n"


def keys(name: str) -> str:
    """A table of the keys of one form of answers, without those that others it is made of have."""
    from intaglio.pipeline.schema import json_schema, model_of

    form, bases = json_schema()["$defs"][name], model_of(name).__mro__[1:]
    shared = {"schema", *(key for base in bases for key in getattr(base, "model_fields", ()))}
    lines = ["| key | value | what it is |", "| --- | --- | --- |"]
    for key, one in form["properties"].items():
        if key not in shared or name == "Failure":
            told = one.get("description", "") + ("" if key in form.get("required", ()) else " (may be absent)")
            lines.append(f"| `{key}` | {kind_of(one)} | {told.strip()} |")
    return "\n".join(lines) + "\n"


def kind_of(schema: dict[str, Any]) -> str:
    """The type of a value in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(kind_of(one) for one in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema['items'])}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"map to {kind_of(inner)}" if isinstance(inner, dict) else "object"
    return str(schema.get("type", "anything"))


def agrees(old: str, new: str) -> bool:
    """The same words and whole numbers; decimals nearly the same; speed, alignment and rounding errors set aside."""
    a, b = (DIFFERENCE.sub("TINY", TIME.sub("TIME", SPEED.sub("", text))) for text in (old, new))
    if NUMBER.sub("0", a).split() != NUMBER.sub("0", b).split():
        return False
    return all(map(_near, NUMBER.findall(a), NUMBER.findall(b)))


def _near(a: str, b: str) -> bool:
    if a == b or "." not in a + b:
        return a == b
    return abs(float(a) - float(b)) <= max(POINTS, 0.02 * abs(float(a)))


def check(document: Path) -> list[Stale]:
    """What is stale in a document."""
    text = document.read_text()
    if document == REFERENCE:
        told = [] if SCHEMA.read_text() == schema() else [Stale(SCHEMA, "options have changed")]
        return told if text == reference() else [*told, Stale(document, "the help texts have changed")]
    return [
        Stale(document, f"{marker}: {_first_change(old, new)}")
        for marker, old, new in renewed(document, text, every_figure=False)
        if not (old == new if marker.startswith("file") else agrees(old, new))
    ]


def _first_change(old: str, new: str) -> str:
    pairs = zip(old.split("\n"), new.split("\n"), strict=False)
    return next((f"{a!r} is now {b!r}" for a, b in pairs if not agrees(a, b)), "lines were added or removed")


def write(document: Path) -> None:
    text = document.read_text()
    for _, old, new in renewed(document, text, every_figure=True):
        text = text.replace(old, new, 1)
    document.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write what the documents quote.")
    parser.add_argument("--check", action="store_true", help="change nothing, tell what is stale")
    parser.add_argument("document", nargs="*", type=Path, help="only these documents")
    options = parser.parse_args()
    chosen = [d.resolve() for d in options.document] or documents()
    if options.check:
        stale = [found for document in chosen for found in check(document)]
        stale += [] if ANSWERS.read_text() == answers() else [Stale(ANSWERS, "the forms have changed")]
        print("\n".join([*map(str, stale), "run: python docs/generate.py"]) if stale else "all up to date")
        return int(bool(stale))
    if REFERENCE in chosen or not options.document:
        REFERENCE.write_text(reference())
        ANSWERS.write_text(answers())
        SCHEMA.write_text(schema())
    for document in chosen:
        if document.is_file() and document != REFERENCE:
            write(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
