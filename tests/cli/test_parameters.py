"""What the commands take is what the passes' fields say: each option is stated once, and appears wherever options do."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from intaglio import Binarize, Factorize, PruneChannels, Quantize
from intaglio.cli.run import Run, RunApart
from intaglio.graph.errors import UsageError
from intaglio.passes.options import PANELS, Option, Options, Spelling, options_of

from .conftest import Command
from .test_main import GOLDEN, HEAVY

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits.onnx"
COMMANDS: dict[str, type[Options]] = {
    "binarize": Binarize,
    "factorize": Factorize,
    "prune": PruneChannels,
    "quantize": Quantize,
}
FIELDS = [(name, one) for name, options in COMMANDS.items() for one in options_of(options)]
SHARED = {"force", "measure"}
"""What a pass and a run both act on: one parameter fills both."""


def named(value: Any) -> str:
    return value if isinstance(value, str) else value.name


@pytest.mark.parametrize(("command", "one"), FIELDS, ids=named)
def test_every_field_says_what_it_means_and_where_help_shows_it(command: str, one: Option) -> None:
    assert isinstance(one.field.json_schema_extra, Spelling)
    assert one.help.endswith(".")
    assert one.spelling.panel in PANELS
    assert one.flag or one.spelling.targets or one.name == "keep"


@pytest.mark.parametrize(("command", "one"), FIELDS, ids=named)
def test_every_field_is_in_help_under_its_panel_and_in_the_documents(command: str, one: Option) -> None:
    text = (GOLDEN / f"{command}.txt").read_text()
    panel = text.partition(f"\n{one.spelling.panel.capitalize()}:\n")[2].partition("\n\n")[0]
    document = (
        (ROOT / "docs" / "commands.md").read_text().partition(f"## intaglio {command}\n")[2].partition("\n## ")[0]
    )
    for flag in [one.flag, *(target.flag for target in one.spelling.targets)]:
        assert flag in panel
        assert flag in document
    assert f"\n| {one.name} |" in document


@pytest.mark.parametrize(("command", "one"), FIELDS, ids=named)
def test_every_field_is_in_the_schema_with_its_help_and_limits(command: str, one: Option) -> None:
    told = COMMANDS[command].model_json_schema()["properties"][one.name]
    assert (told["description"], told["panel"]) == (one.help, one.spelling.panel)
    text = json.dumps(told)
    own = [kind for kind in told.get("anyOf", ()) if kind.get("type") != "object"]
    limits = json.dumps({**told, "items": "", "anyOf": own})  # entries, and options of what is named, have their own
    for kind, key in {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}.items():
        assert (f'"{key}"' in limits) == (kind in one.bounds)
    for choice in one.choices or (one.registered.registries[0] if one.registered else ()):
        assert f'"{choice}"' in text


@pytest.mark.parametrize(("command", "one"), FIELDS, ids=named)
def test_the_page_of_a_pass_tells_every_field(intaglio: Command, command: str, one: Option) -> None:
    assert one.help in intaglio("passes", command).out
    assert one.name in intaglio("passes", command, "--json").json["plugins"][0]["options_schema"]["properties"]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_is_declared_twice(command: str) -> None:
    """Neither by a command beside its pass's field, nor by two passes in the same words."""
    function = getattr(import_module(f"intaglio.cli.commands.{command}"), command)
    own = set(inspect.signature(function.__wrapped__).parameters) | {one.name for one in fields(Run)}
    assert own & {one.name for one in options_of(COMMANDS[command])} <= SHARED
    said = [one.help for options in COMMANDS.values() for one in options_of(options) if _declares(options, one.name)]
    assert len(said) == len(set(said))


def _declares(options: type[Options], name: str) -> bool:
    """Whether a field stands in the pass's own options rather than in what passes share."""
    shared = next(base for base in options.__mro__ if base.__module__ == Options.__module__)
    return name not in getattr(shared, "model_fields", {})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_that_help_shows_are_all_accounted_for(command: str) -> None:
    """The other way round: a parameter is a field, a target of one, or of the run."""
    function = getattr(import_module(f"intaglio.cli.commands.{command}"), command)
    known = {one.name for one in fields(RunApart)} | {"proof"}
    for one in options_of(COMMANDS[command]):
        known |= {one.name, *(target.flag[2:].replace("-", "_") for target in one.spelling.targets)}
        known |= {f"{one.name}_{place}" for place in range(len(one.spelling.old))}
    assert set(inspect.signature(function).parameters) <= known


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_no_algorithm(command: str) -> None:
    heavy = [*(name for name in HEAVY if name != "pydantic"), "scipy"]  # typer itself imports pydantic
    code = (
        f"import sys; from intaglio.cli.main import main; main(['{command}', '--help']); "
        f"sys.exit(','.join(m for m in {heavy!r} if m in sys.modules) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(("command", "one"), FIELDS, ids=named)
def test_every_default_is_allowed(command: str, one: Option) -> None:
    made = COMMANDS[command].model_validate({one.name: one.field.get_default()})
    assert getattr(made, one.name) == one.field.get_default()


@pytest.mark.parametrize(("command", "one"), [pair for pair in FIELDS if pair[1].bounds and pair[1].flag], ids=named)
def test_limits_hold_on_the_command_line_in_its_words(
    intaglio: Command, tmp_path: Path, command: str, one: Option
) -> None:
    bounds = one.bounds
    beyond = bounds["le"] + 1 if "le" in bounds else bounds.get("lt", bounds.get("gt", bounds.get("ge", 0)) - 1)
    target = ["--macs", "0.5"] if command in ("prune", "factorize") else []
    value = str(int(beyond)) if one.type is int else str(beyond)
    ran = intaglio(command, DIGITS, "-o", tmp_path / "a.onnx", *target, one.flag, value)
    assert ran.code == 2
    assert ran.err.startswith(f"error: {one.flag} ")
    assert "fix: give a " in ran.err
    with pytest.raises(UsageError, match=f"`{one.name}` cannot be "):
        COMMANDS[command].model_validate({one.name: beyond})


def test_what_contradicts_is_told_in_the_words_of_whoever_said_it(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("quantize", DIGITS, "-o", tmp_path / "a.onnx", "--bits", "3", "--size", "0.5")
    assert ran.err.startswith("error: --bits and --size exclude each other")
    with pytest.raises(UsageError, match="`bits` and `size` exclude each other"):
        Quantize(bits=3, size=0.5)


def test_text_and_values_of_an_entry_mean_the_same() -> None:
    texts = {"ranks": ["conv1=4", "a=b=16"], "target": "rank"}
    assert Factorize.model_validate(texts).ranks == (("conv1", 4), ("a=b", 16))
    assert Factorize.model_validate(texts) == Factorize(target="rank", ranks=(("conv1", 4), ("a=b", 16)))
    told = Quantize.model_validate({"input_ranges": ["image:0:-1,2.5"]})
    assert told.input_ranges == (("image:0", -1.0, 2.5),)


@pytest.mark.parametrize("options", COMMANDS.values())
def test_options_survive_being_written_as_json(options: type[Options]) -> None:
    made = options()
    assert options.model_validate_json(made.model_dump_json()) == made


def test_an_old_name_goes_on_working_unseen(intaglio: Command, tmp_path: Path) -> None:
    wanted = [tmp_path / "new.onnx", tmp_path / "old.onnx"]
    for flag, out in zip(("--include-first-last", "--edges"), wanted, strict=True):
        assert intaglio("binarize", DIGITS, "-o", out, "--no-measure", "--no-verify", flag).code == 0
    assert wanted[0].read_bytes() == wanted[1].read_bytes()
    assert "--edges" not in (GOLDEN / "binarize.txt").read_text()
    old: dict[str, Any] = {"edges": True}
    assert Binarize(**old) == Binarize(include_first_last=True)


def test_a_target_flag_is_a_target_and_how_much_of_it(intaglio: Command, tmp_path: Path) -> None:
    quiet = ("-o", tmp_path / "a.onnx", "--no-measure", "--json")
    assert intaglio("factorize", DIGITS, *quiet, "--evbmf").json["recipe"]["passes"][0]["target"] == "evbmf"
    ranked = intaglio("factorize", DIGITS, *quiet, "--rank", "/narrow/narrow.0/Conv=8").json["recipe"]["passes"][0]
    assert (ranked["target"], ranked["keep"]) == ("rank", 1.0)


def test_a_name_that_is_not_registered_is_refused_with_near_ones(intaglio: Command) -> None:
    ran = intaglio("passes", "quantise")
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean quantize" in ran.err


def test_a_name_that_stands_for_two_things_shows_both(intaglio: Command) -> None:
    told = intaglio("passes", "greedy", "--json").json["plugins"]
    assert {one["kind"] for one in told} == {"bit allocator", "budget solver"}
    assert "bit allocator greedy" in intaglio("passes", "greedy").out


@pytest.mark.parametrize("name", ["norm", "prune", "quantize"])
def test_schemas_refuse_options_that_are_not_there(intaglio: Command, name: str) -> None:
    assert intaglio("passes", name, "--json").json["plugins"][0]["options_schema"]["additionalProperties"] is False


def test_schemas_tell_the_options_of_what_is_named() -> None:
    text, _, *mappings = COMMANDS["prune"].model_json_schema()["properties"]["criterion"]["anyOf"]
    norm, plain = (next(m for m in mappings if m["properties"]["name"]["const"] == name) for name in ("norm", "l1"))
    assert norm["properties"]["p"]["maximum"] == 64
    assert (set(plain["properties"]), plain["additionalProperties"]) == ({"name"}, False)
    assert re.fullmatch(text["pattern"], "norm:p=2")
    assert not re.fullmatch(text["pattern"], "l1:p=2"), "it takes no options"


@pytest.mark.parametrize("given", ["nan", "inf", "-inf"])
def test_what_is_no_finite_number_is_refused(intaglio: Command, tmp_path: Path, given: str) -> None:
    ran = intaglio("quantize", DIGITS, "-o", tmp_path / "half.onnx", "--scheme", "fp16", "--min-sqnr", given)
    assert (ran.code, ran.err.partition("\n")[0]) == (2, f"error: --min-sqnr cannot be {given}")


def test_a_seed_below_zero_is_wrong_usage(intaglio: Command) -> None:
    told = intaglio("check", DIGITS, "--seed", "-1", "--json")
    assert told.code == 2
    assert "--seed" in told.json["error"]["what"]
