"""The plug-ins that CONTRIBUTING shows work from outside: found by entry point, used, and told apart when broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.parser import parse_model

from .conftest import ROOT, Python, install

Command = Callable[..., Any]
DIGITS = ROOT / "examples" / "digits.onnx"
# An operator that only the example package knows; a model-local function lets it run.
FUNCTION = """
<opset_import: ["" : 17], domain: "com.example">
ScaleChannels (x, scale) => (y)
{
  shape = Constant <value_ints: ints = [1, -1, 1, 1]> ()
  tall = Reshape (scale, shape)
  y = Mul (x, tall)
}
"""
ONE = """
<ir_version: 9, opset_import: ["" : 17, "com.example" : 1]>
net (float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y) <float[8, 3, 3, 3] w, float[8] s, float[2, 8, 1, 1] v>
{
  a = Conv <pads = [1, 1, 1, 1]> (x, w)
  b = com.example.ScaleChannels (a, s)
  y = Conv (b, v)
}
"""
# Two branches with one scale.
SHARED = """
<ir_version: 9, opset_import: ["" : 17, "com.example" : 1]>
net (float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[8, 3, 1, 1] w, float[8, 3, 1, 1] u, float[8] s, float[2, 8, 1, 1] v, float[2, 8, 1, 1] t>
{
  a = Conv (x, w)
  b = com.example.ScaleChannels (a, s)
  c = Conv (b, v)
  d = Conv (x, u)
  e = com.example.ScaleChannels (d, s)
  f = Conv (e, t)
  y = Add (c, f)
}
"""


@pytest.fixture(params=[ONE])
def scaled(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A model on disk that holds the operator, with random weights."""
    model = parse_model(request.param + FUNCTION)
    random = np.random.default_rng(1)
    for value in list(model.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(random.normal(size=shape).astype(np.float32), value.name)
        )
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "scaled.onnx")
    return tmp_path / "scaled.onnx"


@pytest.fixture
def perceptron(tmp_path: Path) -> Path:
    random = np.random.default_rng(2)
    shapes = {
        "weight0": (8, 32),
        "bias0": (32,),
        "weight1": (32, 32),
        "bias1": (32,),
        "weight2": (32, 5),
        "bias2": (5,),
    }
    np.savez(tmp_path / "mlp.npz", **{k: random.normal(size=s).astype(np.float32) for k, s in shapes.items()})  # type: ignore[arg-type]
    return tmp_path / "mlp.npz"


def test_every_entry_point_of_the_example_package_is_found_and_listed(
    command: Command, entry_points: dict[str, dict[str, str]]
) -> None:
    kinds = {"criteria": "criterion", "rules": "operator rule", "passes": "pass"}
    kinds |= {"importers": "importer", "exporters": "exporter", "factorizations": "factorization", "ranges": "range"}
    working = {(e["kind"], e["name"]): e["about"] for e in command("passes", "--all")["plugins"] if e["works"]}
    assert {group.partition(".")[2] for group in entry_points} == set(kinds)
    for group, declared in entry_points.items():
        assert all(working[kinds[group.partition(".")[2]], name] for name in declared)


def test_the_criterion_chooses_what_goes_and_the_proof_holds(command: Command, tmp_path: Path) -> None:
    ran = command("prune", DIGITS, "-o", tmp_path / "small.onnx", "--macs", "0.6", "--criterion", "peak")
    assert ran["code"] == 0
    assert ran["verified"]["exact"]
    assert ran["kept"]["macs"] == pytest.approx(0.6, abs=0.01)


def test_the_scheme_splits_layers_and_the_proof_holds(command: Command, tmp_path: Path) -> None:
    options = ("--macs", "0.6", "--scheme", "across", "--no-measure")
    ran = command("factorize", DIGITS, "-o", tmp_path / "small.onnx", *options)
    assert (ran["code"], ran["verified"]["noisy"]) == (0, 0)
    assert {layer["scheme"] for layer in ran["layers"]} == {None, "across"}
    kernels = [list(i.dims[2:]) for i in onnx.load(tmp_path / "small.onnx").graph.initializer if len(i.dims) == 4]
    assert kernels.index([1, 3]) < kernels.index([3, 1])


def test_the_range_gives_activations_their_scales(command: Command, tmp_path: Path) -> None:
    data = ("--data", DIGITS.with_name("digits_calib.npz"), "--samples", "64", "--no-measure")
    ran = command("quantize", DIGITS, "-o", tmp_path / "int8.onnx", "--ranges", "deviations", *data)
    assert ran["code"] == 0
    assert set(ran["ranges"].values()) == {"deviations"}
    assert min(ran["sqnr_db"].values()) > 20


def test_without_the_rule_an_unknown_operator_freezes_what_it_touches(scaled: Path) -> None:
    from intaglio import load
    from intaglio.graph.coupling import analyse

    groups = analyse(load(scaled)).groups
    assert not any(g.prunable for g in groups)
    assert any("ScaleChannels" in str(g.frozen_by) for g in groups)


def test_with_the_rule_its_channels_go_with_their_scales(command: Command, scaled: Path, tmp_path: Path) -> None:
    (group,) = [g for g in command("groups", scaled)["groups"] if g["prunable"]]
    assert {(m["tensor"], m["axis"]) for m in group["members"]} == {("w", 0), ("s", 0), ("v", 1)}
    ran = command("prune", scaled, "-o", tmp_path / "small.onnx", "--channels", "0.5")
    assert ran["verified"]["exact"]
    weights = {i.name: list(i.dims) for i in onnx.load(tmp_path / "small.onnx").graph.initializer}
    assert weights == {"w": [4, 3, 3, 3], "s": [4], "v": [2, 4, 1, 1]}


@pytest.mark.parametrize("scaled", [SHARED], indirect=True)
def test_a_scale_that_two_nodes_share_ties_them_not(command: Command, scaled: Path, tmp_path: Path) -> None:
    groups = [g for g in command("groups", scaled)["groups"] if g["prunable"]]
    assert [{m["tensor"] for m in g["members"]} for g in groups] == [{"w", "s", "v"}, {"u", "s", "t"}]
    assert command("prune", scaled, "-o", tmp_path / "small.onnx", "--channels", "0.5")["verified"]["exact"]


def test_the_pass_changes_a_copy_and_says_when_it_changed_nothing(python: Python) -> None:
    told = python(
        "import json, numpy as np; from intaglio import load; from intaglio.passes import PASSES\n"
        f"zero, model = PASSES['zero-tiny'](below=0.01), load({str(DIGITS)!r})\n"
        "count = lambda m: sum(int((w == 0).sum()) for w in m.weights.values())\n"
        "before = count(model); first = zero.run(model); again = zero.run(first.model)\n"
        "print(json.dumps([first.changed, first.details['zeroed'], count(first.model) - before,\n"
        "                  count(model) - before, again.changed]))"
    )
    changed, zeroed, more, in_original, changed_again = told
    assert (changed, changed_again, in_original) == (True, False, 0)
    assert zeroed == more > 100


def test_a_perceptron_is_imported_pruned_and_exported_again(python: Python, perceptron: Path, tmp_path: Path) -> None:
    widths = python(
        "import json; from pathlib import Path; from intaglio import PruneChannels, save\n"
        "from intaglio.importers import IMPORTERS; from intaglio.exporters import EXPORTERS\n"
        f"folder, read, write = Path({str(tmp_path)!r}), IMPORTERS['mlp'], EXPORTERS['mlp']\n"
        f"whole = read(Path({str(perceptron)!r}))\n"
        "small = PruneChannels(target='channels', keep=0.25).run(whole).model\n"
        "save(small, folder / 'a.onnx'); write(small, folder / 'small.npz')\n"
        "save(read(folder / 'small.npz'), folder / 'b.onnx')\n"
        "print(json.dumps({k: list(w.shape) for k, w in small.weights.items()}))"
    )
    assert widths["weight1"] == [8, 8]
    x = {"x": np.random.default_rng(3).normal(size=(4, 8)).astype(np.float32)}
    a, b = (onnxruntime.InferenceSession(str(tmp_path / f"{n}.onnx")).run(["y"], x)[0] for n in "ab")
    assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (f"EXPORTERS['mlp'](load({str(DIGITS)!r}), folder / 'out.npz')", "IntaglioError"),
        (f"IMPORTERS['mlp'](Path({str(DIGITS)!r}))", "BadModel"),
        (f"IMPORTERS['mlp'](Path({str(DIGITS.with_name('digits_test.npz'))!r}))", "BadModel"),
    ],
)
def test_what_is_no_perceptron_is_refused_with_a_reason(python: Python, tmp_path: Path, use: str, error: str) -> None:
    told = python(
        "import json; from pathlib import Path; from intaglio import IntaglioError, load\n"
        "from intaglio.importers import IMPORTERS; from intaglio.exporters import EXPORTERS\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"try: {use}\n"
        "except IntaglioError as error: print(json.dumps([type(error).__name__, error.why]))"
    )
    assert told[0] == error
    assert told[1]
    assert list(tmp_path.glob("*.npz")) == []


def test_a_broken_plugin_stays_listed_with_its_reason_and_stops_no_other(command: Command, site: Path) -> None:
    criteria = {"hopeless": "intaglio_example.criterion:nothing", "absent": "no_such_module:x", "l2": "json:dumps"}
    install("other_example", {"intaglio.criteria": criteria}, site)
    listed = {e["name"]: e for e in command("passes")["plugins"] if e["kind"] == "criterion"}
    why = {name: e["why"] for name, e in listed.items() if not e["works"]}
    assert listed["peak"]["works"]
    assert "nothing" in why["hopeless"]
    assert "no_such_module" in why["absent"]
    assert "taken" in why["l2"], "a name that is taken stays with who had it"


def test_naming_a_broken_plugin_is_wrong_usage_and_tells_the_reason(
    command: Command, site: Path, tmp_path: Path
) -> None:
    install("other_example", {"intaglio.criteria": {"absent": "no_such_module:x"}}, site)
    ran = command("prune", DIGITS, "-o", tmp_path / "small.onnx", "--macs", "0.5", "--criterion", "absent")
    assert ran["code"] == 2
    assert "no_such_module" in ran["error"]["why"]
    assert not (tmp_path / "small.onnx").exists()
