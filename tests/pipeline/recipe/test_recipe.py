"""Recipes are read from files, with includes and variables; what is wrong is told with its place."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from intaglio.graph.errors import UsageError
from intaglio.graph.version import VERSION
from intaglio.passes.factorize import Factorize
from intaglio.passes.prune import PruneChannels
from intaglio.passes.quantize import Quantize
from intaglio.pipeline.recipe.load import load_recipe, otherwise_made, parse_settings
from intaglio.pipeline.recipe.presets import presets
from intaglio.pipeline.recipe.recipe import Recipe
from intaglio.pipeline.recipe.schema import recipe_schema
from intaglio.pipeline.recipe.text import MOST_BYTES, parse, scalar
from intaglio.pipeline.recipe.write import as_yaml


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(text: str | bytes) -> UsageError:
    Path("r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        load_recipe("r.yaml")
    return caught.value


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("passes:\n- pass: prune\n  keep: 3\n", "r.yaml:3: passes[0].keep cannot be 3", "above 0 and up to 1"),
        ("passes:\n- pass: prune\n  keep: a\n", "r.yaml:3: passes[0].keep cannot be 'a'", "give a number"),
        ("passes:\n- pass: prune\n\n  kep: 0.3\n", "r.yaml:4: passes[0]: there is no option 'kep'", "keep"),
        ("passes:\n- pass: prune\n  target: mac\n", "r.yaml:3: passes[0].target cannot be 'mac'", "macs"),
        ("passes:\n- pass: quantze\n", "r.yaml:2: passes[0]: there is no pass 'quantze'", "quantize"),
        ("passes:\n- pass: quantize\n  scheme: ink8\n", "r.yaml:3: passes[0]: there is no scheme 'ink8'", "int8"),
        ("passes:\n- quantize\n- quantize:scheme=w9\n", "r.yaml:3: passes[1]: there is no scheme 'w9'", "w8"),
        ("passes:\n- prune:criterion=norm:pp=2", "r.yaml:2: passes[0]: criterion norm has no option 'pp'", "p?"),
        ("passes:\n- pass: quantize\n  bits: 3\n  size: 0.2\n", "r.yaml:3: passes[0].bits and", "give one"),
        ("passes:\n- keep: 0.5\n", "r.yaml:2: passes[0] names no pass", "- pass: NAME"),
        ("passes: quantize\n", "r.yaml:1: passes are a list", "- pass: NAME"),
        ("passses: []\n", "r.yaml:1: a recipe has no key 'passses'", "passes"),
        ("passes: [quantize]\ntarget: amr\n", "r.yaml:2: there is no target 'amr'", "arm"),
        ("passes: [quantize]\nexports:\n- onxx\n", "r.yaml:3: there is no exporter 'onxx'", "onnx"),
        ("passes: [quantize]\nseed: -1\n", "r.yaml:2: seed cannot be -1", "not below 0"),
        ("passes: [quantize]\ndata:\n  samples: 0\n", "r.yaml:3: data.samples cannot be 0", "not below 1"),
        ("passes: [quantize]\ndata:\n  sample: 9\n", "r.yaml:3: data: there is no option 'sample'", "samples"),
        ("passes: [quantize]\ndata: photos\n", "r.yaml:2: data is a mapping", "data: {calibration"),
        ("passes: [quantize]\nlimits: {size: 1}\n", "r.yaml:1: passes and limits exclude", "give one"),
        (
            "passes: [quantize]\ngates:\n- drop <= 1\n- sise <= 3\n",
            "r.yaml:4: gates[1]: there is no figure 'sise'",
            "size",
        ),
        ("passes: [quantize]\ngates:\n- size <= -1KB\n", "r.yaml:3: gates[0]: gate 'size <= -1KB' means", "500KB"),
        ("limits:\n  macs: 0.5\n  size: lots\n", "r.yaml:3: limits.size", "500KB"),
        ("limits:\n  max_drop: -1\n", "r.yaml:2: limits.max_drop cannot be -1", "not below 0"),
        ("seed: 3\n", "r.yaml:1: a recipe has neither passes nor limits", "list passes"),
        ("passes:\n- pass: prune\n  keep: ${much}\n", "r.yaml:3: passes[0].keep: variable 'much'", "--set much=VALUE"),
        ("variables: [1]\npasses: [quantize]\n", "r.yaml:1: variables are names and plain values", "{keep: 0.5}"),
        ("seed: 1\ninclude: nothing.yaml\n", "r.yaml:2: there is no recipe 'nothing.yaml'", "edge-int8"),
        ("include: [[a]]\n", "r.yaml:1: include names files", "include: base.yaml"),
        ("include: r.yaml\n", "r.yaml is included by itself", "leave one"),
        ("passes:\n- pass: prune\n  keep:\n", "r.yaml:3: passes[0].keep cannot be nothing", "a number above 0"),
        ("passes:\n- pass: prune\n\tkeep: 1\n", "r.yaml:3: is no YAML", "spaces, not tabs"),
        ("- quantize\n", "r.yaml:1: a recipe is a mapping", "passes:"),
        ("", "r.yaml is empty", "edge-int8"),
        ("# nothing\n", "r.yaml is empty", "edge-int8"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_key_and_what_is_allowed(text: str, what: str, fix: str) -> None:
    error = error_of(text)
    assert what in error.what
    assert fix in error.fix


@pytest.mark.usefixtures("folder")
def test_files_that_include_each_other_through_folders_are_told_once() -> None:
    Path("sub").mkdir()
    Path("sub/a.yaml").write_text("include: ../sub/b.yaml\n")
    Path("sub/b.yaml").write_text("include: a.yaml\n")
    assert error_of("include: sub/a.yaml\n").what == "sub/b.yaml:1: sub/a.yaml is included by itself"


LAUGHS = "a0: &a0 ha\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "r.yaml:1: recipes have no anchors and aliases"),
        ("passes: *what\n", "no anchors and aliases"),
        ("passes: !!python/object/apply:os.system ['true']\n", "r.yaml:1: recipes have no tags"),
        ("passes: !!python/name:os.system\n", "no tags"),
        ("passes: !mine x\n", "no tags"),
        ("[" * 100_000, "nested deeper"),
        ("a: " + "{b: " * 5_000, "nested deeper"),
        ("- " * 50_000, "nested deeper"),
        ("a: " + "x" * (1 << 20), "too large"),
        ("a: [1\nb: 2\n", "r.yaml:2: is no YAML"),
        ("a: 1\na: 2\n", "r.yaml:2: a stands twice"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: a second document"),
        ("? [a]\n: b\n", "a key is no plain word"),
        ("a: \x00\n", "is no YAML"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "no text in UTF-8"),
    ],
)
def test_hostile_files_are_refused_at_once(text: str | bytes, said: str) -> None:
    started = time.process_time()
    assert said in error_of(text).what + error_of(text).why
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("no", "on", "1:30", "2026-11-30", "0x10", "a.b", "1_000")),
        *(("1e-3", 1e-3), ("0.5", 0.5), ("7", 7), ("-2", -2), ("true", True), ("null", None), ("~", None)),
    ],
)
def test_plain_words_are_what_they_look_like(text: str, value: object) -> None:
    """As YAML 1.2 has it: no country becomes false, no time becomes a number."""
    assert scalar(text) == value
    assert parse(f"key: {text}", "r").value == {"key": value}
    assert parse(f"key: '{text}'", "r").value == {"key": text}


def test_variables_stand_for_values_and_within_texts(folder: Path) -> None:
    text = "variables: {keep: 0.25, name: calib}\ndata:\n  calibration: data/${name}.npz\n"
    (folder / "r.yaml").write_text(text + "passes: [{pass: prune, keep: '${keep}'}]\n")
    recipe = load_recipe("r.yaml")
    assert recipe.passes == (PruneChannels(keep=0.25),)
    assert recipe.data.calibration == "data/calib.npz"
    changed = load_recipe("r.yaml", parse_settings(["keep=0.75", "name=$x"]))
    assert changed.passes == (PruneChannels(keep=0.75),)
    assert changed.data.calibration == "data/$x.npz"
    with pytest.raises(UsageError, match="no variable 'kep'") as caught:
        load_recipe("r.yaml", {"kep": 1})
    assert "keep" in caught.value.fix


@pytest.mark.parametrize("text", ["keep", "=1", "a b=1"])
def test_settings_are_names_and_values(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_settings([text])
    with pytest.raises(UsageError, match="twice"):
        parse_settings(["a=1", "a=2"])


def test_includes_lie_beside_the_file_and_what_includes_them_counts_more(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/base.yaml").write_text("data: {samples: 8, preprocess: unit}\nseed: 3\npasses: [quantize]\n")
    (folder / "sub/r.yaml").write_text("include: base.yaml\ndata: {samples: 9}\npasses: [{pass: prune, keep: 0.3}]\n")
    recipe = load_recipe(folder / "sub/r.yaml")
    assert (recipe.data.samples, recipe.data.preprocess, recipe.seed) == (9, "unit", 3)
    assert recipe.passes == (PruneChannels(keep=0.3),)
    (folder / "p.yaml").write_text("include: [sub/base.yaml, half-macs]\nvariables: {keep: 0.4}\n")
    recipe = load_recipe("p.yaml")
    assert recipe.passes == (PruneChannels(target="macs", keep=0.4, round_to=8),)
    assert recipe.seed == 3
    (folder / "sub/base.yaml").write_text("passes:\n- pass: prune\n  keep: 7\n")
    (folder / "q.yaml").write_text("include: sub/base.yaml\n")
    with pytest.raises(UsageError, match=r"sub/base.yaml:3: passes\[0\].keep"):
        load_recipe("q.yaml")


def test_what_a_recipe_was_made_with_and_is_not_here_is_told() -> None:
    made = {"intaglio": "9.9", "plugins": {"no-such-package": "1.2", "numpy": "0.1"}}
    told = otherwise_made(load_recipe({"passes": ["quantize"], "made_by": made}).made_by)
    assert [one.partition(",")[0].rpartition(" with ")[2] for one in told] == [
        "intaglio 9.9", "no-such-package 1.2", "numpy 0.1",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no pass 'theirs'") as caught:
        load_recipe({"passes": ["theirs"], "made_by": {**made, "intaglio": VERSION}})
    assert "no-such-package 1.2, here is none" in caught.value.why
    assert otherwise_made(None) == otherwise_made(load_recipe({"passes": ["quantize"]}).made_by) == []
    for strange in ("x", {"plugins": 3, "intaglio": [1]}, {"intaglio": 3, "plugins": {"": ""}}):
        with pytest.raises(UsageError):
            load_recipe({"passes": ["quantize"], "made_by": strange})


def test_the_target_of_a_recipe_is_for_passes_that_ask_and_say_none() -> None:
    passes = ["prune", "quantize:scheme=w8", {"pass": "quantize", "target": "generic"}]
    steps = load_recipe({"target": "arm", "passes": passes}).steps()
    assert steps == (PruneChannels(), Quantize(scheme="w8", target="arm"), Quantize(target="generic"))


@pytest.mark.parametrize("name", presets())
def test_presets_say_what_they_are_for_and_are_read_as_they_are_written(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.about
    told = [{"pass": one.name, **one.model_dump(exclude_unset=True)} for one in recipe.passes]
    assert load_recipe(parse(as_yaml({"passes": told}), name).value).passes == recipe.passes


@pytest.mark.parametrize(
    "one",
    [
        Quantize(input_ranges=(("image", -2.1, 1e-7),), include=("1e5", "re:^a$", "${x}", "no", "ü\x1b", "x: y")),
        PruneChannels(target="latency", keep=0.3, criterion="norm:p=1"),
        Factorize(target="macs", keep=0.7),
    ],
)
def test_what_is_written_is_read_again(one: Quantize | PruneChannels | Factorize, folder: Path) -> None:
    told = {"passes": [{"pass": one.name, **one.model_dump(mode="json")}], "seed": 3}
    (folder / "r.yaml").write_text(as_yaml(told))
    recipe = load_recipe("r.yaml")
    assert recipe.passes == (one,)
    assert recipe.seed == 3


def test_the_schema_names_every_option_and_what_it_may_be() -> None:
    schema = recipe_schema()
    assert set(schema["properties"]) == {*Recipe.model_fields, "include", "variables"}
    by_pass = {
        one["properties"]["pass"]["const"]: one
        for one in schema["properties"]["passes"]["anyOf"][0]["items"]["anyOf"][1:]
    }
    keep = by_pass["prune"]["properties"]["keep"]["anyOf"]
    assert {"exclusiveMinimum": 0, "type": "number"}.items() <= keep[0].items()
    assert not by_pass["prune"]["additionalProperties"]
    assert "arm" in json.dumps(schema["properties"]["target"])


def test_a_recipe_of_any_size_that_is_read_is_read_quickly(folder: Path) -> None:
    names = "".join(f"  - layer{n}\n" for n in range(MOST_BYTES // 20))
    (folder / "r.yaml").write_text(f"passes:\n- pass: quantize\n  exclude:\n{names}")
    assert len(load_recipe("r.yaml").passes[0].exclude) == MOST_BYTES // 20  # type: ignore[attr-defined]
