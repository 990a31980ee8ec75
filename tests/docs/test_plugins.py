"""The plug-ins that CONTRIBUTING shows work from outside: found by entry point, used, and told apart when broken."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.parser import parse_model

from intaglio.passes.registries import REGISTRIES, registry
from intaglio.pipeline.envelope import envelope

from .conftest import ROOT, Python, Terminal, install

Command = Callable[..., Any]
DIGITS = ROOT / "examples" / "digits.onnx"
CALIBRATION = DIGITS.with_name("digits_calib.npz")
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


def test_the_example_package_has_a_plugin_for_every_entry_point_group(entry_points: dict[str, dict[str, str]]) -> None:
    assert entry_points.keys() == REGISTRIES.keys()


def test_the_table_of_extensions_tells_the_lines_that_each_takes(entry_points: dict[str, dict[str, str]]) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| \[.+?\]\((examples/plugins/\S+)\) \| (\d+) \| `(\S+)` \|", text, re.MULTILINE)
    assert {group for _, _, group in rows} == entry_points.keys()
    for file, lines, _ in rows:
        assert sum(bool(line.strip()) for line in (ROOT / file).read_text().splitlines()) == int(lines), file
        assert f"<!-- file: {file} -->" in text


def test_every_registry_of_the_source_is_in_the_table() -> None:
    """A registry that is missing there would be listed nowhere and tried by no test."""
    source = "".join(
        path.read_text() for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] in package_folders()
    )
    assert set(re.findall(r"= Registry\(\s*\"[^\"]+\",\s*\"([^\"]+)\"", source)) == REGISTRIES.keys()


def package_folders() -> set[str]:
    return {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}


def test_every_entry_point_of_the_example_package_is_found_and_listed(
    command: Command, entry_points: dict[str, dict[str, str]]
) -> None:
    listed = command("passes", "--all")["plugins"]
    working = {(e["kind"], e["name"]): e for e in listed if e["works"]}
    assert [e for e in listed if not e["works"]] == []
    for group, declared in entry_points.items():
        for name in declared:
            assert working[registry(group).kind, name]["about"]
            assert working[registry(group).kind, name]["module"].startswith("intaglio_example.")


def test_nothing_changes_for_those_who_name_no_plugin(
    command: Command, site: Path, entry_points: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """Binarizers, ranges, factorizations and more are chosen from by themselves: never from plug-ins.

    Not from those whose names and package come first in any order, either.
    """
    install(
        "aaa", {group: {f"0-{name}": one for name, one in found.items()} for group, found in entry_points.items()}, site
    )
    listed = {one["name"] for one in command("passes", "--all")["plugins"] if one["works"]}
    assert {"0-peak", "0-deviations", "0-across", "0-w6"} <= listed
    for name, *options in (
        ("quantize", "--data", CALIBRATION, "--samples", "64"),
        ("binarize",),
        ("factorize", "--macs", "0.7"),
        ("prune", "--macs", "0.7"),
    ):
        with_plugins, without = tmp_path / f"{name}.onnx", tmp_path / f"{name}-alone.onnx"
        assert command(name, DIGITS, "-o", with_plugins, "--no-measure", *options)["code"] == 0
        words = [name, str(DIGITS), "-o", str(without), "--no-measure", *map(str, options)]
        code = f"import sys; from intaglio.cli.main import main; sys.exit(main({words!r}))"
        alone = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert alone.returncode == 0, alone.stderr
        assert with_plugins.read_bytes() == without.read_bytes(), name


def test_the_criterion_chooses_what_goes_and_the_proof_holds(command: Command, tmp_path: Path) -> None:
    ran = command("prune", DIGITS, "-o", tmp_path / "small.onnx", "--macs", "0.6", "--criterion", "peak")
    assert ran["code"] == 0
    assert ran["verified"]["exact"]
    assert ran["kept"]["macs"] == pytest.approx(0.6, abs=0.01)


def test_reports_name_the_packages_that_took_part_and_gates_the_metrics_of_others(
    command: Command, tmp_path: Path
) -> None:
    data = ("--eval-data", DIGITS.with_name("digits_test.npz"), "--gate", "balanced >= 0.5", "--no-measure")
    ran = command("prune", DIGITS, "-o", tmp_path / "a.onnx", "--macs", "0.6", "--criterion", "peak", *data)
    plugin = {"kind": "criterion", "name": "peak", "package": "intaglio-example", "version": "1.0"}
    assert ran["plugins"] == [plugin]
    assert ran["gates"][0]["value"] == ran["accuracy"]["after"]["balanced"] > 0.5
    assert set(ran["accuracy"]["before"]) == {"top1", "top5", "balanced"}
    assert set(ran["accuracy"]["drop"]) == {"top1", "top5", "balanced"}
    assert command("prune", DIGITS, "-o", tmp_path / "b.onnx", "--macs", "0.6", "--no-measure")["plugins"] == []


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


def test_a_criterion_is_handed_the_moments_of_activations_and_its_options(command: Command, tmp_path: Path) -> None:
    options = ("prune", DIGITS, "-o", tmp_path / "small.onnx", "--macs", "0.6", "--no-measure")
    data = ("--data", CALIBRATION, "--samples", "64")
    kept = []
    for criterion in ("energy", "energy:power=1"):
        ran = command(*options, *data, "--criterion", criterion)
        assert (ran["code"], ran["criterion"]) == (0, criterion)
        assert ran["verified"]["exact"]
        kept.append((tmp_path / "small.onnx").read_bytes())
    assert kept[0] != kept[1]
    without = command(*options, "--criterion", "energy")
    assert without["code"] == 2
    assert "second_moments" in without["error"]["why"]
    assert "--data" in without["error"]["fix"]


def test_a_criterion_is_handed_the_gradients_of_the_loss(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    options = ("prune", DIGITS, "-o", tmp_path / "small.onnx", "--macs", "0.6", "--no-measure", "--criterion", "slope")
    ran = command(*options, "--data", CALIBRATION, "--samples", "64")
    assert (ran["code"], ran["criterion"]) == (0, "slope")
    assert ran["verified"]["exact"]
    assert any("gradients are of the cross-entropy of 'logits'" in note for note in ran["notes"])
    without = command(*options)
    assert without["code"] == 2
    assert "gradients" in without["error"]["why"]


@pytest.mark.parametrize(
    ("criterion", "what"),
    [
        ("energy:powr=1", "has no option 'powr'"),
        ("energy:power=9", "option power of criterion energy cannot be '9'"),
        ("energie", "there is no criterion 'energie'"),
        ("peak:power=1", "criterion peak takes no options"),
    ],
)
def test_options_of_plugins_are_checked_as_well_as_ours(
    command: Command, tmp_path: Path, criterion: str, what: str
) -> None:
    ran = command("prune", DIGITS, "-o", tmp_path / "small.onnx", "--macs", "0.6", "--criterion", criterion)
    assert ran["code"] == 2
    assert what in ran["error"]["what"]
    assert ran["error"]["fix"]


def test_the_repair_scales_what_stays(command: Command, tmp_path: Path) -> None:
    options = ("--macs", "0.6", "--criterion", "l2", "--repair", "lengths", "--no-measure")
    ran = command("prune", DIGITS, "-o", tmp_path / "small.onnx", *options)
    assert ran["repair"]["scaled"] > 0
    assert ran["verified"]["exact"]


def test_the_method_the_loss_and_the_augmentation_train(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data = ("--data", DIGITS.with_name("digits_test.npz"), "--batch", "64", "--steps", "6", "--no-measure")
    ways = ("--method", "gradual", "--loss", "huber", "--augment", "fade", "--lr", "1e-5")
    small, out = tmp_path / "small.onnx", tmp_path / "sparse.onnx"
    assert command("prune", DIGITS, "-o", small, "--params", "0.3", "--criterion", "l1", "--no-measure")["code"] == 0
    ran = command("train", small, "-o", out, "--teacher", DIGITS, *data, *ways)
    assert ran["code"] == 0, ran
    assert ran["training"]["losses"] == ["huber"]
    weights = [onnx.numpy_helper.to_array(i) for i in onnx.load(out).graph.initializer]
    assert max(float((w == 0).mean()) for w in weights if w.ndim == 4) == pytest.approx(0.5, abs=0.05)


def test_the_solver_divides_the_target(command: Command, tmp_path: Path) -> None:
    options = ("--params", "0.6", "--solver", "costliest", "--no-measure")
    ran = command("factorize", DIGITS, "-o", tmp_path / "small.onnx", *options)
    assert ran["code"] == 0
    assert ran["kept"]["params"] <= 0.6


@pytest.mark.parametrize(
    ("options", "weights", "method"),
    [
        (("--scheme", "w6"), {"int6"}, None),
        (("--scheme", "w4", "--method", "stochastic:draws=2"), {"int4"}, "stochastic:draws=2"),
        (("--bits", "4", "--allocator", "even"), {"int4"}, None),
    ],
)
def test_schemes_roundings_and_allocators_decide_what_weights_become(
    command: Command, tmp_path: Path, options: tuple[str, ...], weights: set[str], method: str | None
) -> None:
    data = ("--data", CALIBRATION, "--samples", "64", "--no-measure")
    scheme = () if "--scheme" in options else ("--scheme", "mixed")
    ran = command("quantize", DIGITS, "-o", tmp_path / "few.onnx", *scheme, *options, *data)
    assert ran["code"] == 0, ran
    layers = [one for one in ran["layers"] if one["weight_error"] is not None]
    assert {one["weights"] for one in layers} == weights
    assert method is None or {one["method"] for one in layers} == {method}


def test_a_rounding_that_needs_data_says_so(command: Command, tmp_path: Path) -> None:
    ran = command("quantize", DIGITS, "-o", tmp_path / "w4.onnx", "--scheme", "w4", "--method", "stochastic")
    assert ran["code"] == 2
    assert ran["error"]["what"] == "rounding stochastic needs calibration data"


@pytest.fixture
def one_product(tmp_path: Path) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """A model of one product and its data; the weight, outputs first, and the mean squared gradients of the
    cross-entropy with the class that the model takes, by the formula, over batches of 16."""
    random = np.random.default_rng(3)
    weight, x = random.normal(size=(32, 64)).astype(np.float32), random.normal(size=(40, 32)).astype(np.float32)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["N", n]) for name, n in (("x", 32), ("y", 64))]
    graph = onnx.helper.make_graph([node], "one", ends[:1], ends[1:], [onnx.numpy_helper.from_array(weight, "w")])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10),
        tmp_path / "one.onnx",
    )
    np.savez(tmp_path / "x.npz", x=x)
    squares = np.zeros((64, 32))
    for rows in (x[:16], x[16:32], x[32:]):
        scores = (rows @ weight).astype(np.float64)
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        gaps = chances - np.eye(64)[scores.argmax(axis=1)]
        squares += len(rows) * np.square(gaps.T @ rows / len(rows))
    return tmp_path / "one.onnx", tmp_path / "x.npz", weight.T.astype(np.float64), squares / len(x)


GRADIENTS = "gradients are of the cross-entropy of 'y' with the classes that the network itself takes (no labels)"


def test_a_rounding_is_handed_gradients(
    command: Command, tmp_path: Path, one_product: tuple[Path, Path, np.ndarray, np.ndarray]
) -> None:
    pytest.importorskip("torch")
    model, data, weight, counts = one_product
    options = ("--scheme", "w4", "--method", "fisher", "--target", "openvino", "--no-measure", "--force")
    ran = command("quantize", model, "-o", tmp_path / "w4.onnx", "--data", data, *options)
    assert ran["code"] == 0, ran
    assert GRADIENTS in ran["notes"]
    codes = np.rint(weight / (np.maximum(weight.max(axis=1) / 7, -weight.min(axis=1) / 8)[:, None]))
    wanted = (counts * codes * weight).sum(axis=1) / (counts * codes**2).sum(axis=1)
    held = [onnx.numpy_helper.to_array(i) for i in onnx.load(tmp_path / "w4.onnx").graph.initializer]
    (scale,) = [value for value in held if value.dtype == np.float32 and value.size == 64]
    np.testing.assert_allclose(scale.reshape(-1), wanted, rtol=1e-3)


def test_a_binarizer_is_handed_gradients(
    command: Command, tmp_path: Path, one_product: tuple[Path, Path, np.ndarray, np.ndarray]
) -> None:
    pytest.importorskip("torch")
    model, data, weight, counts = one_product
    options = ("--scheme", "felt", "--include-first-last", "--form", "dense", "--no-measure")
    ran = command("binarize", model, "-o", tmp_path / "bits.onnx", "--data", data, *options)
    assert ran["code"] == 0, ran
    assert GRADIENTS in ran["notes"]
    held = [onnx.numpy_helper.to_array(i) for i in onnx.load(tmp_path / "bits.onnx").graph.initializer]
    (dense,) = [value for value in held if value.shape == (32, 64)]
    wanted = (counts * np.abs(weight)).sum(axis=1) / counts.sum(axis=1)
    np.testing.assert_allclose(dense.T, np.sign(weight) * wanted[:, None], rtol=1e-3)


@pytest.mark.parametrize(
    ("words", "whose"),
    [
        (("binarize", "--scheme", "felt"), "binarization felt"),
        (("quantize", "--scheme", "w4", "--method", "fisher"), "rounding fisher"),
    ],
)
def test_gradients_take_data(command: Command, tmp_path: Path, words: tuple[str, ...], whose: str) -> None:
    ran = command(words[0], DIGITS, "-o", tmp_path / "few.onnx", *words[1:])
    assert (ran["code"], ran["error"]["what"]) == (2, f"{whose} needs calibration data")
    assert "gradients" in ran["error"]["why"]


def test_the_target_says_what_kernels_want(command: Command, tmp_path: Path) -> None:
    data = ("--data", CALIBRATION, "--samples", "64", "--no-measure")
    assert command("quantize", DIGITS, "-o", tmp_path / "int8.onnx", "--target", "dsp", *data)["code"] == 0
    model = onnx.load(tmp_path / "int8.onnx")
    values = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    zeros = [values[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2]
    assert all(not zero.any() for zero in zeros)


@pytest.mark.parametrize("scheme", ["rms", "by-size"])
def test_binarizers_and_schemes_give_weights_in_bits(command: Command, tmp_path: Path, scheme: str) -> None:
    ran = command("binarize", DIGITS, "-o", tmp_path / "bits.onnx", "--scheme", scheme, "--no-measure")
    assert (ran["code"], ran["scheme"]) == (0, scheme)
    assert {one["scheme"] for one in ran["layers"]} == {"rms" if scheme == "rms" else "planes"}


def test_the_metric_is_measured(command: Command) -> None:
    ran = command("evaluate", DIGITS, "--data", DIGITS.with_name("digits_test.npz"), "--metric", "balanced")
    assert 0.9 < ran["metrics"]["balanced"] <= 1


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


def test_a_perceptron_is_imported_pruned_and_exported_again(command: Command, perceptron: Path, tmp_path: Path) -> None:
    whole, a, small, b = (tmp_path / name for name in ("whole.onnx", "a.onnx", "small.npz", "b.onnx"))
    told = command("import", perceptron, "-o", whole)
    assert (told["importer"], told["outputs"]["y"]["not_finite"]) == ("mlp", 0)
    command("prune", perceptron, "-o", a, "--channels", 0.25, "--no-measure")
    assert command("export", a, "--to", "mlp", "-o", small, "--seconds", 0)["passed"]
    assert np.load(small)["weight1"].shape == (8, 8)
    command("import", small, "-o", b)
    x = {"x": np.random.default_rng(3).normal(size=(4, 8)).astype(np.float32)}
    one, other = (onnxruntime.InferenceSession(str(file)).run(["y"], x)[0] for file in (a, b))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "words",
    [
        ("export", DIGITS, "--to", "mlp", "-o", "out.npz"),
        ("import", DIGITS, "--from", "mlp", "-o", "out.onnx"),
        ("import", DIGITS.with_name("digits_test.npz"), "-o", "out.onnx"),
    ],
)
def test_what_is_no_perceptron_is_refused_with_a_reason(
    command: Command, tmp_path: Path, words: tuple[Any, ...]
) -> None:
    told = command(*words[:-1], tmp_path / words[-1])
    assert (told["code"], bool(told["error"]["why"])) == (1, True)
    assert list(tmp_path.glob("*out.*")) == []


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


# Commands -------------------------------------------------------------------------------------------------------------

BAD_COMMANDS = """
import sys
print("printed while it was imported")
def chatty(json: bool = False):
    '''Print, and give back a number.'''
    print("noise")
    from intaglio.cli import console
    console.emit({"said": 1}, lambda: None)
    return 7
def leaves(json: bool = False):
    '''End the program as if all were well.'''
    sys.exit(0)
def fails(json: bool = False):
    '''Divide by nought.'''
    return 1 / 0
def gate(json: bool = False):
    '''Miss a gate.'''
    from intaglio.graph.errors import GateFailed
    raise GateFailed("missed", fix="aim better")
def unparsable(what: object):
    '''Take what no command line can give.'''
"""


@pytest.fixture
def bad_commands(site: Path) -> None:
    (site / "bad_commands.py").write_text(BAD_COMMANDS)
    names = {name: f"bad_commands:{name}" for name in ("chatty", "leaves", "fails", "gate", "unparsable")}
    names |= {"prune": "bad_commands:chatty", "absent": "no_such_module:x"}
    install("bad", {"intaglio.commands": names}, site)


def test_a_command_of_another_package_is_listed_and_runs_like_ours(command: Command, terminal: Terminal) -> None:
    ran = command("operators", DIGITS, "--least", "2")
    assert (ran["code"], ran["operators"]["Conv"] > 1) == (0, True)
    assert command("operators", DIGITS, "--least", "1000")["code"] == 4
    assert command("operators", DIGITS.with_name("none.onnx"))["code"] == 1
    assert command("operators", DIGITS, "--least", "x")["code"] == 2
    assert "operators  Count the operators of a model." in terminal("--help").stdout
    assert "--least" in terminal("operators", "--help").stdout


@pytest.mark.usefixtures("bad_commands")
def test_broken_commands_are_listed_with_their_reasons_and_shadow_none_of_ours(
    command: Command, terminal: Terminal
) -> None:
    text = " ".join(terminal("--help").stdout.split())
    assert "absent BROKEN: ModuleNotFoundError: No module named 'no_such_module'" in text
    assert text.count(" prune ") == 1
    assert command("absent")["code"] == 2
    assert "no_such_module" in command("absent")["error"]["why"]
    assert command("unparsable", "x")["code"] == 2
    assert "no_such_module" in command("passes", "absent")["error"]["why"]
    listed = {e["name"]: e for e in command("passes")["plugins"] if e["kind"] == "command"}
    assert "taken" in listed["prune"]["why"]
    assert command("prune", DIGITS)["code"] == 2, "ours, which wants more options"


@pytest.mark.usefixtures("bad_commands")
def test_no_plugin_can_break_the_exit_code_or_the_json(command: Command, terminal: Terminal) -> None:
    chatty = terminal("chatty", "--json")
    assert (chatty.returncode, json.loads(chatty.stdout)) == (0, {**envelope("chatty"), "said": 1})
    assert "noise" in chatty.stderr
    for name, code, said in (("leaves", 1, "sys.exit"), ("fails", 1, "bad_commands"), ("gate", 3, "")):
        ran = terminal(name, "--json")
        assert ran.returncode == code
        assert said in json.loads(ran.stdout)["error"]["why"]
        assert "Traceback" not in ran.stderr
