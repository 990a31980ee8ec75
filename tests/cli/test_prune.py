"""``intaglio prune``: contract, proof, exit codes, and that a failure leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from .conftest import Command, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, DIGITS_TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_test.npz"
UNREACHABLE = ("--macs", "0.2", "--include", "/narrow/narrow.0/Conv")


def outputs(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def test_the_json_has_every_key_of_the_contract(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    ran = intaglio("prune", DIGITS, "-o", out, "--macs", "0.5", "--json")
    assert ran.code == 0
    result = ran.json
    assert set(result["before"]) == set(result["after"]) == {"macs", "params", "size_bytes"}
    assert set(result["kept"]) == {"macs", "params", "size_bytes"}
    assert result["kept"]["macs"] == pytest.approx(0.5, abs=0.01)
    assert all(set(g) >= {"name", "before", "after"} for g in result["groups"])
    assert set(result["verified"]) >= {"exact", "max_abs_diff", "max_rel_diff"}
    assert result["verified"]["exact"] is True
    assert result["verified"]["max_rel_diff"] < 1e-4
    assert result["seconds"] > 0
    assert result["before"]["size_bytes"] == DIGITS.stat().st_size
    assert abs(result["after"]["size_bytes"] - out.stat().st_size) < 2000  # the recipe is written into the file


def test_accuracy_and_latency_are_reported_before_and_after(intaglio: Command, tmp_path: Path) -> None:
    args = ("--macs", "0.5", "--round-to", "8", "--eval-data", DIGITS_TEST, "--json")
    result = intaglio("prune", DIGITS, "-o", tmp_path / "s.onnx", *args).json
    assert result["accuracy"]["before"]["top1"] >= 0.97
    assert result["accuracy"]["after"]["top1"] >= 0.97
    assert result["latency_ms"]["before"] > 0
    assert result["latency_ms"]["verdict"] in ("faster", "same", "slower")


@pytest.mark.parametrize("target", ["macs", "params", "size"])
def test_targets_are_reached_within_one_percent(intaglio: Command, tmp_path: Path, target: str) -> None:
    result = intaglio("prune", DIGITS, "-o", tmp_path / "s.onnx", f"--{target}", "0.6", "--no-measure", "--json").json
    assert result["kept"][{"size": "size_bytes"}.get(target, target)] == pytest.approx(0.6, abs=0.01)


def test_half_the_channels_of_every_group_go(intaglio: Command, tmp_path: Path) -> None:
    args = ("--channels", "0.5", "--no-measure", "--json")
    result = intaglio("prune", DIGITS, "-o", tmp_path / "s.onnx", *args).json
    changed = [g for g in result["groups"] if g["prunable"]]
    assert changed
    assert all(g["after"] == -(-g["before"] // 2) for g in changed)
    assert result["kept"]["params"] < 0.75


def test_the_proof_never_takes_the_place_of_the_result(intaglio: Command, tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to("small.onnx")
    for proof in (tmp_path / "small.onnx", tmp_path / "link.onnx"):
        ran = intaglio("prune", DIGITS, "-o", tmp_path / "small.onnx", "--channels", "0.5", "--proof", proof)
        assert ran.code == 2
        assert "choose two names" in ran.err
    assert not (tmp_path / "small.onnx").exists()


def test_standard_output_is_no_file_to_write(intaglio: Command) -> None:
    ran = intaglio("prune", DIGITS, "-o", "/dev/stdout", "--channels", "0.5")
    assert ran.code == 1
    assert "is a device" in ran.err


def test_the_proof_file_is_the_original_with_zeroed_weights(intaglio: Command, tmp_path: Path) -> None:
    small, proof = tmp_path / "small.onnx", tmp_path / "masked.onnx"
    args = ("--channels", "0.5", "--exact-only", "--proof", proof, "--no-measure", "--json")
    assert intaglio("prune", DIGITS, "-o", small, *args).code == 0
    with np.load(DIGITS_TEST) as data:
        feeds = {"image": data["image"][:64]}
    for expected, found in zip(outputs(proof, feeds), outputs(small, feeds), strict=True):
        assert np.abs(expected - found).max() <= 1e-4 * np.abs(expected).max()
    original, masked = (
        {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer} for p in (DIGITS, proof)
    )
    shared = original.keys() & masked.keys()
    changed = [n for n in shared if not np.array_equal(original[n], masked[n])]
    assert changed
    for name in changed:
        differs = original[name] != masked[name]
        assert (masked[name][differs] == 0).all()
    before, after = (len(onnx.load(p).graph.node) for p in (DIGITS, proof))
    added = [n.op_type for n in onnx.load(proof).graph.node]
    assert after <= before or added.count("Mul") >= after - before


def test_the_same_request_gives_the_same_bytes(intaglio: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        args = ("--macs", "0.5", "--criterion", "random", "--seed", "3", "--no-measure")
        assert intaglio("prune", DIGITS, "-o", tmp_path / name, *args).code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_tells_how_it_was_made(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    assert intaglio("prune", DIGITS, "-o", out, "--macs", "0.5", "--no-measure").code == 0
    told = {p.key: p.value for p in onnx.load(out).metadata_props}
    assert json.loads(told["intaglio.recipe"])["passes"][0]["criterion"] == "l2"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "no target"),
        (("--macs", "0.5", "--params", "0.5"), 2, "exclude each other"),
        (("--macs", "1.5"), 2, ""),
        (("--macs", "0"), 2, "--macs cannot be 0"),
        (("--macs", "0.5", "--criterion", "lampe"), 2, "did you mean"),
        (("--macs", "0.5", "--scope", "world"), 2, "choose one of"),
        (("--macs", "0.5", "--exclude", "nobody"), 2, "matches no group"),
        (("--macs", "0.5", "--include", "re:["), 2, "regular expression"),
        (UNREACHABLE, 1, "lowest reachable is"),
        (("--macs", "1.0"), 4, "every channel in place"),
        (("--macs", "0.5", "--data", "no.npz"), 1, ""),
    ],
)
def test_a_bad_request_has_its_exit_code_and_writes_nothing(
    intaglio: Command, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    out = tmp_path / "small.onnx"
    ran = intaglio("prune", DIGITS, "-o", out, *arguments)
    assert ran.code == code
    assert ran.err.count("error: ") == 1
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_an_existing_file_alone(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    out.write_bytes(b"precious")
    assert intaglio("prune", DIGITS, "-o", out, *UNREACHABLE).code == 1
    assert out.read_bytes() == b"precious"


def test_a_model_without_free_channels_is_exit_code_4(intaglio: Command, tmp_path: Path) -> None:
    model = write_model(tmp_path / "net.onnx", "float[N, 4] x", "float[N, 4] y", "y = Relu(x)")
    ran = intaglio("prune", model, "-o", tmp_path / "s.onnx", "--channels", "0.5", "--json")
    assert ran.code == 4
    assert "no channel can be removed" in ran.json["error"]["what"]


def test_what_is_left_out_by_name_is_not_told_as_frozen(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("prune", DIGITS, "-o", tmp_path / "s.onnx", "--macs", "0.5", "--exclude", "Conv", "--json")
    assert ran.code == 4
    assert ran.json["error"]["why"] == "--include and --exclude leave out all that could be pruned"


def test_an_unwritable_folder_is_one_clear_error(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("prune", DIGITS, "-o", tmp_path / "absent" / "s.onnx", "--macs", "0.5", "--no-measure")
    assert ran.code == 1
    assert ran.err.startswith("error: ") or "\nerror: " in ran.err


def test_excluded_layers_stay_whole(intaglio: Command, tmp_path: Path) -> None:
    names = [g["name"] for g in intaglio("groups", DIGITS, "--json").json["groups"] if g["prunable"]]
    args = ("--channels", "0.5", "--exclude", names[0], "--no-measure", "--json")
    groups = {g["name"]: g for g in intaglio("prune", DIGITS, "-o", tmp_path / "s.onnx", *args).json["groups"]}
    assert groups[names[0]]["after"] == groups[names[0]]["before"]
    assert groups[names[1]]["after"] < groups[names[1]]["before"]


@pytest.mark.parametrize(
    "model", ["resnet20.onnx", "mlperf-resnet8.onnx", "kws_dscnn_from_drq_tflite.onnx", "version-slim-320.onnx"]
)
def test_real_models_shrink_with_proof(intaglio: Command, shared_data: Path, tmp_path: Path, model: str) -> None:
    ran = intaglio("prune", shared_data / model, "-o", tmp_path / "s.onnx", "--macs", "0.6", "--no-measure", "--json")
    assert ran.code == 0
    assert ran.json["kept"]["macs"] == pytest.approx(0.6, abs=0.01)
    assert ran.json["verified"]["exact"] is True
    assert ran.json["seconds"] < 20
    assert intaglio("check", tmp_path / "s.onnx").code == 0


def test_the_command_runs_as_a_process(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "intaglio")]
    args = ["prune", str(DIGITS), "-o", str(tmp_path / "s.onnx"), "--macs", "0.5", "--json", "--no-measure"]
    ran = subprocess.run([*command, *args], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["verified"]["exact"]


@pytest.mark.parametrize("points", [1, 3])
def test_the_smallest_within_a_drop_is_within_it_and_less_is_not(
    intaglio: Command, tmp_path: Path, points: float
) -> None:
    out, data = tmp_path / "s.onnx", ("--eval-data", DIGITS_TEST, "--no-measure", "--json")
    told = intaglio("prune", DIGITS, "-o", out, "--max-drop", points, *data).json
    lost = told["accuracy"]["drop"]["top1"]["points"]
    assert lost <= points + 1e-9
    kept = told["kept"]["macs"]
    assert kept < 0.6
    less = intaglio("prune", DIGITS, "-o", out, "--macs", 0.85 * kept, *data).json
    assert less["accuracy"]["drop"]["top1"]["points"] > points
    note = next(one for one in told["notes"] if one.startswith("accuracy by fraction of the MACs"))
    assert f"{-lost:+.2f}" in note


def test_a_drop_that_nothing_keeps_writes_nothing(intaglio: Command, tmp_path: Path) -> None:
    args = ("prune", DIGITS, "-o", tmp_path / "s.onnx", "--no-measure", "--max-drop")
    ran = intaglio(*args, 1)
    assert (ran.code, "needs labelled data" in ran.err) == (2, True)
    ran = intaglio(*args, 0, "--min-channels", 1000, "--eval-data", DIGITS_TEST)
    assert (ran.code, "allow a larger drop" in ran.err) == (4, True)
    assert list(tmp_path.iterdir()) == []


def test_macs_that_no_one_knows_are_no_target(intaglio: Command, tmp_path: Path) -> None:
    """A window longer than the one number that a free length is counted as."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 1, samples] x) => (float[N, 8, T] y) {
            a = Conv (x, w) r = Relu (a) y = Conv (r, v)
        }
    """
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (16, 1, 40)), ("v", (8, 16, 3))):
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        )
    onnx.save(model, tmp_path / "sound.onnx")
    ran = intaglio("prune", tmp_path / "sound.onnx", "-o", tmp_path / "out.onnx", "--macs", "0.6", "--no-measure")
    assert ran.code == 1, ran.err
    assert "the macs of the model are not known" in ran.err
    assert "--shape" in ran.err
    assert not (tmp_path / "out.onnx").exists()


def test_scopes_have_targets_of_their_own(intaglio: Command, tmp_path: Path) -> None:
    """First with every group of a scope alike, then weighed within the scope; what no scope names stays whole."""
    out = tmp_path / "s.onnx"
    for words, even in (((), True), (("--scope", "global"), False)):
        scopes = ("--scope-target", "re:second.*|wide.*=0.5", "--scope-target", "re:first.*=0.25")
        ran = intaglio("prune", EXAMPLES / "digits.onnx", "-o", out, *scopes, *words, "--no-measure", "--json")
        assert ran.code == 0, ran.err
        kept = {one["name"]: (one["after"], one["before"]) for one in ran.json["groups"]}
        first = {name: pair for name, pair in kept.items() if "first" in name or "stem" in name}
        second = {
            name: pair for name, pair in kept.items() if any(part in name for part in ("point", "second", "wide"))
        }
        assert sum(after for after, _ in first.values()) == 12
        assert sum(after for after, _ in second.values()) == 52
        assert all(2 * after == before for after, before in second.values()) == even
        assert all(after == before for name, (after, before) in kept.items() if name not in {*first, *second})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--scope-target", "re:nothing.*=0.5"), "matches no group"),
        (
            ("--scope-target", "re:first.*=0.5", "--scope-target", "re:.*=0.5"),
            "names no group that can become narrower",
        ),
        (("--scope-target", "re:first.*=1.5"), "cannot read"),
        (("--scope-target", "re:first.*=0.5", "--macs", 0.5), "a target of their own"),
    ],
)
def test_scopes_that_cannot_be_are_refused(
    intaglio: Command, tmp_path: Path, words: tuple[object, ...], told: str
) -> None:
    ran = intaglio("prune", EXAMPLES / "digits.onnx", "-o", tmp_path / "s.onnx", *words, "--json")
    assert ran.code != 0
    assert told in ran.json["error"]["what"]
    assert list(tmp_path.iterdir()) == []
