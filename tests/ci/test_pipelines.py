"""What is published for CI servers does its work in a clean shell with an installed package, and nothing else."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DIGITS, CALIB, TEST = (EXAMPLES / name for name in ("digits.onnx", "digits_calib.npz", "digits_test.npz"))
ARGS = ["--data", str(CALIB), "--samples", "64", "--eval-data", str(TEST), "--no-measure"]


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell whose Python has what intaglio needs, but not intaglio."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", symlinks=True)
    needed = folder / "needed"
    needed.mkdir()
    for place in (Path(p) for p in sys.path if p.endswith("-packages") and Path(p).is_dir()):
        for entry in place.iterdir():
            ours = re.match(r"intaglio|__editable__|.*\.pth$", entry.name)
            if not ours and not (needed / entry.name).exists():
                (needed / entry.name).symlink_to(entry)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "needed.pth").write_text(f"{needed}\n")
    path = os.pathsep.join([str(folder / "venv" / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    return {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", "PIP_NO_INDEX": "1", "WHEEL": str(wheel)}


def bash(script: str, env: dict[str, str], folder: Path, *, sh: bool = False) -> subprocess.CompletedProcess[str]:
    """Run as the servers do: GitHub with errexit and pipefail, GitLab with errexit alone."""
    shell = ["sh", "-e", "-c"] if sh else ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    return subprocess.run([*shell, script], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(clean: dict[str, str]) -> dict[str, str]:
    """The same environment with intaglio."""
    assert bash('python3 -m pip install -q "$WHEEL"', clean, Path(clean["HOME"])).returncode == 0
    return clean


def action(given: dict[str, str], env: dict[str, str], folder: Path) -> tuple[int, dict[str, str], str]:
    """Carry out the steps of action.yml: exit code, outputs, and what the last step printed on stderr."""
    told = yaml.safe_load((ROOT / "action.yml").read_text())
    inputs = {name: given.get(name, one.get("default", "")) for name, one in told["inputs"].items()}
    assert given.keys() <= inputs.keys()
    files = {"GITHUB_OUTPUT": str(folder / "outputs"), "GITHUB_STEP_SUMMARY": str(folder / "summary")}
    env = {**env, **files, "GITHUB_ACTIONS": "true", "RUNNER_TEMP": str(folder)}
    for step in told["runs"]["steps"]:
        assert "${{" not in step["run"], "what users give must not become part of a script"
        if step.get("if") == "inputs.install != ''" and not inputs["install"]:
            continue
        own = {k: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: inputs[m[1]], v) for k, v in step["env"].items()}
        done = bash(step["run"], {**env, **own}, folder)
        if done.returncode:
            break
    lines = Path(files["GITHUB_OUTPUT"]).read_text().splitlines() if Path(files["GITHUB_OUTPUT"]).exists() else []
    outputs = dict(line.split("=", 1) for line in lines)
    wanted = {re.search(r"outputs\.(\w+)", one["value"])[1] for one in told["outputs"].values()}  # type: ignore[index]
    assert wanted <= outputs.keys() or done.returncode not in (0, 3), done.stderr
    return done.returncode, outputs, done.stderr


def test_the_action_installs_runs_gates_and_reports(clean: dict[str, str], tmp_path: Path) -> None:
    given = {"install": clean["WHEEL"], "model": str(DIGITS), "out": "out", "command": "compress"}
    args = {"args": "\n".join(["--recipe", "edge-int8", *ARGS])}
    code, outputs, err = action({**given, **args, "gates": "drop <= 5\nsize <= 0.5x"}, clean, tmp_path)
    assert code == 0, err
    assert outputs["passed"] == "true"
    assert (tmp_path / outputs["out"]).stat().st_size > 0
    assert "all gates passed" in Path(outputs["markdown"]).read_text() == (tmp_path / "summary").read_text()
    assert err.count("::notice title=gate passed::") == 2
    given |= {"install": "", "command": "quantize", "out": "a.onnx"}
    code, outputs, err = action(
        {**given, "args": "--scheme\nw8\n--no-measure", "gates": "size <= 1KB"}, clean, tmp_path
    )
    assert (code, outputs["passed"], outputs["out"]) == (3, "false", "a.gate-failed.onnx")
    assert "::error title=gate missed::size <= 1KB: it is" in err
    suite = ElementTree.parse(outputs["junit"]).getroot()
    assert suite.get("failures") == "1"
    given |= {"command": "compare", "out": "a.gate-failed.onnx"}
    code, outputs, _ = action({**given, "args": "--runs\n3", "gates": "macs <= 1x"}, clean, tmp_path)
    assert (code, outputs["passed"]) == (0, "true")
    hostile = {"model": "$(touch pwned)`touch pwned`; touch pwned #.onnx", "gates": "drop <= $(touch pwned)"}
    code, _, err = action({**given, "command": "quantize", **hostile}, clean, tmp_path)
    assert code == 1, err
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(("gate", "code"), [("size <= 0.5x", 0), ("size <= 0.01x", 3)])
def test_the_gitlab_job_runs_gates_and_leaves_its_artifacts(
    clean: dict[str, str], tmp_path: Path, gate: str, code: int
) -> None:
    job = yaml.safe_load((ROOT / "templates" / "gitlab.yml").read_text())[".intaglio"]
    given = {"COMMAND": "quantize", "MODEL": str(DIGITS), "OUT": "a.onnx", "GATES": gate, "INSTALL": clean["WHEEL"]}
    args = {"INTAGLIO_ARGS": "--scheme\nw8\n--no-measure"}
    env = {**clean, **job["variables"], **{f"INTAGLIO_{name}": value for name, value in given.items()}, **args}
    done = bash("\n".join([*job["before_script"], *job["script"]]), env, tmp_path, sh=True)
    assert done.returncode == code, done.stderr
    assert ElementTree.parse(tmp_path / job["artifacts"]["reports"]["junit"]).getroot().get("failures") == str(
        int(code > 0)
    )
    assert (tmp_path / "intaglio-reports" / "report.md").read_text()
    assert (tmp_path / "a.onnx").exists() == (code == 0)


def test_the_pre_commit_hook_looks_at_every_file(installed: dict[str, str], tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    good, odd, bad = tmp_path / "good.onnx", tmp_path / "a $(b) c.onnx", tmp_path / "bad.onnx"
    for file in (good, odd):
        shutil.copy(EXAMPLES / "residual.onnx", file)
    bad.write_bytes(good.read_bytes()[:50])
    assert all(re.search(hook["files"], str(file)) for file in (good, odd, bad))

    def ran(*files: Path) -> subprocess.CompletedProcess[str]:
        words = [*shlex.split(hook["entry"]), *map(str, files)]
        return subprocess.run(words, env=installed, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ran(good, odd).returncode == 0
    both = ran(bad, good)
    assert both.returncode == 1
    assert "good.onnx: loads and runs" in both.stdout
    assert "bad.onnx" in both.stderr


@pytest.fixture
def images(tmp_path: Path) -> str:
    """Photos and labelled images in folders; the preprocessing that they want."""
    pillow: Any = pytest.importorskip("PIL.Image")
    with np.load(TEST) as stored:
        images, labels = stored["image"], stored["labels"]
    low, high = images.min(), images.max()
    for k in range(120):
        pixels = np.round(255 * (images[k, 0] - low) / (high - low)).astype(np.uint8)
        for folder in (tmp_path / "photos", tmp_path / "labelled" / str(labels[k])):
            folder.mkdir(parents=True, exist_ok=True)
            pillow.fromarray(pixels).save(folder / f"{k:03}.png")
    return f"scale={(high - low) / 255},offset={low},layout=nchw" if low else f"scale={(high - low) / 255},layout=nchw"


def test_the_example_goes_from_images_to_a_comment_in_one_command(
    installed: dict[str, str], tmp_path: Path, images: str
) -> None:
    script, words = EXAMPLES / "ci" / "gate.sh", [str(DIGITS), "photos", "labelled", "out"]
    more = ["--preprocess", images, "--no-measure"]
    done = bash(shlex.join([str(script), *words, *more]), installed, tmp_path)
    comment = (tmp_path / "out.md").read_text()
    assert done.returncode == 0, done.stderr + comment
    assert comment.startswith("### ✅ intaglio compress: `digits.onnx` → `model.onnx`")
    assert ElementTree.parse(tmp_path / "out.xml").getroot().get("tests") == "3"
    assert (tmp_path / "out" / "model.onnx").is_file()
    assert (tmp_path / "out" / "model.ort").is_file()


@pytest.mark.parametrize(("limit", "code"), [("0.4x", 0), ("0.01x", 3)])
def test_the_example_in_python_does_the_same(
    installed: dict[str, str], tmp_path: Path, images: str, limit: str, code: int
) -> None:
    script = (EXAMPLES / "ci" / "gate.py").read_text()
    (tmp_path / "gate.py").write_text(script.replace("size <= 0.4x", f"size <= {limit}"))
    done = bash(
        shlex.join(["python3", "gate.py", str(DIGITS), "photos", "labelled", "out", images]), installed, tmp_path
    )
    assert done.returncode == code, done.stderr
    comment = (tmp_path / "out.md").read_text()
    assert ("all gates passed" in comment) == (code == 0)
    assert (tmp_path / "out" / "model.ort").is_file() == (code == 0)
