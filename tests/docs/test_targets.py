"""The page on targets says of integer kernels what the table of operators says."""

from __future__ import annotations

from pathlib import Path

import intaglio
from intaglio.graph.traits import OPERATORS, Runtime
from intaglio.passes.quantize.targets import TARGETS

PAGE = (Path(intaglio.__file__).parent / "docs" / "targets.md").read_text()
MARKS = {"-": (False, False), "yes": (True, False), "float": (True, True)}
"""Whether there is an integer kernel, and one that can give floats."""


def rows(title: str) -> list[list[str]]:
    """Cells of the table below a heading that starts so."""
    lines = PAGE[PAGE.index(title) :].partition("\n")[2].split("\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1 : lines.index("")]]


def test_every_operator_with_an_integer_kernel_is_listed_with_its_runtimes() -> None:
    listed = {op: [MARKS[cell] for cell in cells] for names, *cells in rows("| operators |") for op in names.split()}
    told = {
        op: [(runtime in row.integer, runtime in row.float_out) for runtime in Runtime]
        for op, row in OPERATORS.items()
        if row.integer or row.float_out
    }
    assert listed == told


def test_every_target_and_every_runtime_is_listed() -> None:
    assert sorted(name.strip("`") for name, *_ in rows("| `--target` |")) == list(TARGETS)
    assert len(rows("| runtime | where")) == len(Runtime)
