"""The page of methods names commands, options and files that exist, and every row says which it is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from intaglio.cli.main import load_command
from intaglio.passes.registries import registry
from intaglio.pipeline.recipe.presets import presets

from .conftest import ROOT

PAGE = ROOT / "docs" / "methods.md"
NAMED = {
    "--criterion": "intaglio.criteria",
    "--repair": "intaglio.repairs",
    "--merge": "intaglio.merges",
    "--allocator": "intaglio.allocators",
    "--loss": "intaglio.losses",
    "--augment": "intaglio.augmentations",
    "--solver": "intaglio.solvers",
    "--strategy": "intaglio.strategies",
}
METHODS = {"train": "intaglio.trainers", "quantize": "intaglio.rounders", "sparsify": "intaglio.sparsifiers"}
"""Options whose values are names of plug-ins; what ``--method`` names hangs on the command."""


def rows() -> list[list[str]]:
    """The cells of every row, headings left out."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "system"]


def calls() -> Iterator[list[str]]:
    for row in rows():
        for call in re.findall(r"`intaglio ([^`]+)`", row[2]):
            yield call.split()


def test_each_row_is_built_and_shown_or_not_built() -> None:
    for row in rows():
        assert len(row) == 6, row
        built = "`intaglio " in row[2]
        assert built or row[2].startswith("not built"), row
        assert all(bool(cell) == built for cell in row[3:5]), row


@pytest.mark.parametrize("words", list(calls()), ids=" ".join)
def test_commands_and_their_options_exist(words: list[str]) -> None:
    command, *rest = words
    known = {flag for parameter in load_command(command).params for flag in parameter.opts}
    for option, value in zip(rest, [*rest, ""][1:], strict=True):
        if not option.startswith("-"):
            continue
        assert option in known, option
        if (command, option) == ("compress", "--method"):
            assert value in presets()
            continue
        group = METHODS[command] if option == "--method" else NAMED.get(option)
        if group:
            for name in value.split(","):
                assert name.partition(":")[0] in registry(group), value
