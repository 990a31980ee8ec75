"""What documents quote is what programs print now, and what they show as Python runs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from intaglio.kernels import loader

from .conftest import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PYTHON = re.compile(r"(?<!-->\n)^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def python_blocks() -> list[tuple[Path, str]]:
    """Blocks of Python that are not copies of files, which have tests of their own."""
    return [(document, block) for document in DOCUMENTS for block in PYTHON.findall(document.read_text())]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_says_what_is(generate: ModuleType, document: Path) -> None:
    stale = [str(found) for found in generate.check(document)]
    assert stale == [], "python docs/generate.py writes it anew"


def test_the_schema_of_answers_is_that_of_the_program(generate: ModuleType) -> None:
    assert generate.ANSWERS.read_text() == generate.answers(), "python docs/generate.py writes it anew"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("wrote a.onnx in 0.2 s", "wrote a.onnx in 3.1 s"),
        ("found in 9 ms", "found in 120 ms"),
        ("largest relative difference 0.0e+00)", "largest relative difference 5.4e-07)"),
        ("top1  99.00 %", "top1    98.83 %"),
        ("MACs 1.37 M", "MACs 1.38 M"),
        (
            "latency 0.106 ms 0.163 ms 153.8 %\nnote: the result is slower: try\nend",
            "latency 0.1 ms 0.1 ms 98.1 %\nend",
        ),
    ],
)
def test_times_rounding_and_alignment_make_no_document_stale(generate: ModuleType, old: str, new: str) -> None:
    assert generate.agrees(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stem 24 17", "stem 24 18"),
        ("7 groups, 6 prunable", "7 groups, 5 prunable"),
        ("top1 99.00 %", "top1 97.00 %"),
        ("exact", "inexact"),
        ("MACs 1.37 M", "MACs 1.37 k"),
        ("two lines\nof text", "two lines"),
    ],
)
def test_other_words_and_whole_numbers_do(generate: ModuleType, old: str, new: str) -> None:
    assert not generate.agrees(old, new)


def test_marked_parts_are_found_and_end_where_they_should(generate: ModuleType) -> None:
    text = (
        "<!-- session -->\n```console\n$ a\nb\n```\ntext\n"
        "<!-- figures: x -->\n| a |\n|---|\n| 1 |\n\nmore\n\n| other |\n<!-- nothing -->\ntext\n"
    )
    found = [(marker, part) for _, marker, part in generate.MARKED.findall(text)]
    assert found == [("session", "```console\n$ a\nb\n```"), ("figures: x", "| a |\n|---|\n| 1 |\n")]


def test_a_session_is_written_anew_from_its_commands(generate: ModuleType, tmp_path: Path) -> None:
    block = "```console\n$ echo one\nold\n\n$ echo two \\\n  three  # comment\nold\n```"
    assert generate.session(block, tmp_path) == (
        "```console\n$ echo one\none\n\n$ echo two \\\n  three  # comment\ntwo three\n```"
    )


@pytest.mark.parametrize(("document", "block"), python_blocks(), ids=lambda part: getattr(part, "name", ""))
def test_python_in_documents_runs(document: Path, block: str, tmp_path: Path) -> None:
    if "intaglio.register" in block and not loader.available():
        pytest.skip(str(loader.why_absent()))
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_script_of_the_small_graphs_makes_them(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "examples" / "graphs.py", "--out", tmp_path], check=True)
    made = sorted(tmp_path.glob("*.onnx"))
    assert [f.name for f in made] == ["attention.onnx", "residual.onnx"]
    for file in made:
        old, new = onnx.load(ROOT / "examples" / file.name).graph, onnx.load(file).graph
        assert old.node == new.node
        assert [i.name for i in old.initializer] == [i.name for i in new.initializer]
        for a, b in zip(old.initializer, new.initializer, strict=True):
            assert np.allclose(onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b))


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(f.name for f in folder.glob("0*.md"))
