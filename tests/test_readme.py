"""What the documents tell a reader to type works, and what they point to exists.

Every ``intaglio`` command in a fenced ``sh`` or ``console`` block (there after ``$``) runs in a fresh folder that
holds ``examples/``, in the order of the document. A comment ``# exit code 3`` states an outcome other than 0; a
command that names ``$INTAGLIO_DATA`` is skipped where that data is absent.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\.venv/bin/)?(intaglio\s.*)$")
EXIT_CODE = re.compile(r"# exit code (\d)\s*$")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)")


def blocks(text: str) -> Iterator[str]:
    """The shell blocks of a document, as the lines a reader would type."""
    for language, body in FENCE.findall(text):
        if language == "sh":
            yield body.replace("\\\n", " ")
        elif language == "console":
            joined = body.replace("\\\n", " ")
            yield "\n".join(line[2:] for line in joined.splitlines() if line.startswith("$ "))


def commands(text: str) -> list[str]:
    """Every ``intaglio`` command of a document, also those chained behind a set-up with ``&&``."""
    pieces = (piece.strip() for block in blocks(text) for line in block.splitlines() for piece in line.split("&&"))
    return [found.group(1) for piece in pieces if (found := COMMAND.match(piece))]


def marked(text: str, marker: str) -> str:
    """The fenced block after the comment line that names it."""
    found = re.search(rf"^<!-- {marker} -->\n+```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() if found else ""


def data_folder() -> Path:
    return Path(os.environ.get("INTAGLIO_DATA", ROOT.parent / "shared" / "data"))


def environment() -> dict[str, str]:
    """The reader's: the installed command is found by its name, and output is plain."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "INTAGLIO_DATA": str(data_folder()), "NO_COLOR": "1"}


@pytest.mark.skipif(not DOCUMENTS, reason="no documents yet")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_document_run(document: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    absent = not data_folder().is_dir()
    for command in commands(document.read_text()):
        if absent and "$INTAGLIO_DATA" in command:
            continue
        stated = EXIT_CODE.search(command)
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == int(stated.group(1) if stated else 0), f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.skipif(not README.exists(), reason="no README yet")
def test_readme_shows_the_tool_at_work() -> None:
    text = README.read_text()
    assert commands(text), "the README must hold a command that can be tried"
    assert marked(text, "test command"), "the command that runs the tests, which .ci/run takes from there"


def test_readme_has_a_row_for_every_command() -> None:
    told = set(re.findall(r"^\| `([a-z]+)` \|", README.read_text(), re.MULTILINE))
    files = {file.stem.strip("_") for file in (ROOT / "cli" / "commands").rglob("[a-z]*.py")}
    assert files - told == set()


@pytest.mark.skipif(not DOCUMENTS, reason="no documents yet")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_point_to_files(document: Path) -> None:
    broken = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert broken == []


def test_commands_are_found_wherever_a_reader_would_copy_them_from() -> None:
    text = """
```sh
python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/intaglio prune a.onnx \\
  -o b.onnx
pip install intaglio
intaglio bench b.onnx  # exit code 3
```
```python
intaglio no
```
```console
$ intaglio inspect a.onnx
intaglio prints this
```
"""
    found = [" ".join(command.split()) for command in commands(text)]
    assert found == [
        "intaglio prune a.onnx -o b.onnx",
        "intaglio bench b.onnx # exit code 3",
        "intaglio inspect a.onnx",
    ]
