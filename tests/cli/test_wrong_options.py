"""Options that do not exist or cannot have their value: one wording for commands, Python and what is plugged in."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import onnx
import pytest
from pydantic import BaseModel

from intaglio import Binarize, Edit, Factorize, PruneChannels, Quantize
from intaglio.cli.commands import COMMANDS
from intaglio.cli.main import load_command
from intaglio.graph.errors import BadData, UsageError
from intaglio.graph.lazy import imported
from intaglio.passes.options import Options, options_of
from intaglio.passes.prune import CRITERIA

from .conftest import Command

NUMBERS = [
    (name, param.opts[0])
    for name in COMMANDS
    for param in load_command(name).params
    if param.param_type_name == "option"
    and param.metavar in ("N", "S", "X", "FRACTION", "POINTS", "BITS", "ALPHA", "DB")
]
OF_TARGETS = {"--opset": "onnx", "--ir": "onnx", "--bos": "genai", "--eos": "genai", "--context": "genai"}
"""Options of ``export`` that are those of a target: its exporter words the error."""
DIGITS = Path(__file__).parents[2] / "examples" / "digits.onnx"
RAW = re.compile(r"input should|pydantic|errors\.|field required", re.IGNORECASE)
WRONG: list[tuple[type[Options], dict[str, Any], str, str]] = [
    (Quantize, {"shceme": "w8"}, "Quantize has no option 'shceme'", "did you mean scheme?"),
    (Edit, {}, "edit needs `function`", "package.module:callable"),
    (PruneChannels, {"keep": 2}, "`keep` cannot be 2", "give a number above 0 and up to 1"),
    (PruneChannels, {"keep": "half"}, "`keep` cannot be 'half'", "give a number above 0"),
    (PruneChannels, {"steps": 2.5}, "`steps` cannot be 2.5", "give a whole number not below 1 and up to 1000"),
    (PruneChannels, {"scope": "glob"}, "`scope` cannot be 'glob'", "did you mean global?"),
    (PruneChannels, {"axis": "tall"}, "`axis` cannot be 'tall'", "choose one of both, depth, experts, heads, width"),
    (PruneChannels, {"verify": "perhaps"}, "`verify` cannot be 'perhaps'", "give yes or no"),
    (PruneChannels, {"criterion": 5}, "`criterion` cannot be 5", "give text"),
    (Binarize, {"exclude": "conv1"}, "`exclude` cannot be 'conv1'", "give a list"),
    (Factorize, {"target": "rank", "ranks": [("conv1", 0)]}, "`ranks` cannot be 0", "give a number above 0"),
    (Quantize, {"scheme": "w9x"}, "there is no scheme 'w9x'", "choose one of"),
    (Quantize, {"scheme": "w9a4"}, "scheme 'w9a4' cannot be stored", "2 to 8 bits"),
]


@pytest.mark.parametrize("name", ["prune", "quantize", "compress"])
def test_an_empty_name_of_what_is_written_is_refused(name: str, intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio(name, tmp_path / "m.onnx", "-o", "")
    assert ran.code == 2
    assert "--out names nothing" in ran.err


@pytest.mark.parametrize(("options", "values", "what", "fix"), WRONG, ids=[what for *_, what, _ in WRONG])
def test_python_is_told_what_is_wrong_and_how_to_mend_it(
    options: type[Options], values: dict[str, Any], what: str, fix: str
) -> None:
    makers: list[Callable[[], Options]] = [lambda: options(**values), lambda: options.model_validate(values)]
    for make in makers:
        with pytest.raises(UsageError) as caught:
            make()
        assert caught.value.what == what
        assert fix in caught.value.fix
        assert not RAW.search(str(caught.value))


@pytest.mark.parametrize(("command", "flag"), NUMBERS, ids=" ".join)
def test_what_is_no_number_is_told_in_our_words(intaglio: Command, command: str, flag: str) -> None:
    theirs = command == "export" and flag in OF_TARGETS
    whole = (DIGITS, "--to", OF_TARGETS[flag], "-o", "o") if theirs else ()
    what = f"option {flag[2:]} of exporter {OF_TARGETS[flag]}" if theirs else flag
    ran = intaglio(command, *whole, flag, "many", "--json")
    assert (ran.code, ran.json["error"]["what"]) == (2, f"{what} cannot be 'many'")
    assert re.match(r"give a (whole )?number", ran.json["error"]["fix"])
    assert not RAW.search(ran.out)


def test_every_command_with_numbers_is_tried() -> None:
    assert len(NUMBERS) > 40
    assert {name for name, _ in NUMBERS} == {*COMMANDS} - {"env", "groups", "passes"}


@pytest.mark.parametrize(
    ("args", "what", "fix"),
    [
        (["bench", "m.onnx", "--batch", "0"], "--batch cannot be '0'", "give a number not below 1; see intaglio bench"),
        (["check", "m.onnx", "--rtol", "-1"], "--rtol cannot be '-1'", "give a number not below 0; see intaglio check"),
        (["prune", "m.onnx", "-o", "a.onnx", "--macs", "0.5", "-c", "norm:"], "cannot read '' in criterion", "OPTION="),
        (
            ["prune", "m.onnx", "-o", "a.onnx", "--macs", "0.5", "-c", "norm:p=1,,"],
            "cannot read 'p=1,,'",
            "OPTION=VALUE",
        ),
        (["prune", "m.onnx", "-o", "a.onnx", "--macs", "2"], "--macs cannot be 2", "above 0 and up to 1"),
        (["binarize", "m.onnx", "-o", "a.onnx", "--edges", "--include-first-last"], "are the same", "give one"),
    ],
)
def test_commands_tell_it_with_their_flags(intaglio: Command, args: list[str], what: str, fix: str) -> None:
    told = intaglio(*args, "--json").json["error"]
    assert what in told["what"]
    assert fix in told["fix"]


NAMED = [
    (options, one)
    for options in (Binarize, Factorize, PruneChannels, Quantize)
    for one in options_of(options)
    if one.registered is not None
]


@pytest.mark.parametrize(("options", "one"), NAMED, ids=lambda value: getattr(value, "name", ""))
def test_schemas_hold_names_to_what_is_registered(options: type[Options], one: Any) -> None:
    told = options.model_json_schema()["properties"][one.name]
    kinds = told.get("items", told)["anyOf"]
    text = next(kind for kind in kinds if kind.get("type") == "string")
    mapped = [kind["properties"]["name"]["const"] for kind in kinds if kind.get("type") == "object"]
    entries = {name: registry.entry(name) for registry in one.registered.registries for name in registry}
    assert sorted(mapped) == sorted(entries)
    for name, entry in entries.items():
        assert re.search(text["pattern"], name)
        assert bool(re.search(text["pattern"], f"{name}:option=1")) == (entry.options is not None)
        assert not re.search(text["pattern"], f"{name}-")
    assert not re.search(text["pattern"], "nothing")
    default = one.field.get_default()
    assert not isinstance(default, str) or re.search(text["pattern"], default)


def test_the_schema_of_a_scheme_takes_bits_of_choice() -> None:
    pattern = Quantize.model_json_schema()["properties"]["scheme"]["anyOf"][0]["pattern"]
    assert re.search(pattern, "w4a8")
    assert not re.search(pattern, "w4a")


@pytest.mark.parametrize("name", ["json", "json:", ":dumps"])
def test_a_callable_has_a_module_and_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="does not say what to call") as caught:
        imported(name, BadData)
    assert "package.module:callable" in caught.value.fix
    graph = onnx.parser.parse_graph("net (float[1] x) => (float[1] y) { y = Relu (x) }")
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
    from intaglio import load

    with pytest.raises(UsageError, match="does not say what to call"):
        Edit(function=name).run(load(tmp_path / "m.onnx"))


class Way(Enum):
    UP = "up"
    DOWN = "down"


class Kinds(BaseModel):
    way: Way = Way.UP


def test_schemas_take_options_whose_types_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CRITERIA, "_found", dict(CRITERIA._found))
    CRITERIA.register("kinds", options=Kinds)(CRITERIA["l1"])
    told = PruneChannels.model_json_schema()
    kinds = next(k for k in told["properties"]["criterion"]["anyOf"] if "way" in k.get("properties", ()))
    assert kinds["properties"]["way"]["$ref"] == "#/$defs/Way"
    assert told["$defs"]["Way"]["enum"] == ["up", "down"]
