"""Sources of any kind through one door."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from intaglio.cli.main import main
from intaglio.graph.errors import BadModel, UsageError
from intaglio.pipeline.importing import read_source

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "things_to_import.py").write_text(
        "import numpy as np\n"
        "def nothing():\n    return {}\n"
        "def fails():\n    raise SystemExit(0)\n"
        "def _fitted(kind, **how):\n"
        "    r = np.random.default_rng(0)\n    x = r.normal(size=(80, 5))\n"
        "    return kind(**how).fit(x, (x[:, 0] > 0).astype(int))\n"
        "def forest():\n    from sklearn.ensemble import RandomForestClassifier as F\n"
        "    return _fitted(F, n_estimators=3, max_depth=3, random_state=0)\n"
        "def perceptron():\n    from sklearn.neural_network import MLPRegressor as M\n"
        "    return _fitted(M, hidden_layer_sizes=(8,), max_iter=20, random_state=0)\n"
        "def scaler():\n    from sklearn.preprocessing import StandardScaler as S\n    return _fitted(S)\n"
    )
    return "things_to_import"


@pytest.mark.parametrize("name", ["forest", "perceptron", "scaler"])
def test_estimators_become_graphs_that_answer_alike(module: str, name: str) -> None:
    pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    read = read_source(f"{module}:{name}")
    assert read.importer == "sklearn"
    assert all(one.identical or one.sqnr_db > 100 for one in read.outputs.values())
    assert len(read.outputs) == (2 if name == "forest" else 1)


def test_every_command_takes_any_source(module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    assert main(["inspect", f"{module}:perceptron"]) == 0
    assert "5" in capsys.readouterr().out
    assert main(["check", f"{module}:perceptron"]) == 0
    assert main(["quantize", f"{module}:perceptron", "-o", str(tmp_path / "q.onnx"), "--scheme", "w8", "--force"]) == 0
    assert (tmp_path / "q.onnx").is_file()


def test_a_folder_stands_for_the_model_in_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes((EXAMPLES / "digits.onnx").read_bytes())
    assert read_source(tmp_path).importer == "onnx"
    (tmp_path / "other.onnx").write_bytes((EXAMPLES / "digits.onnx").read_bytes())
    with pytest.raises(BadModel, match="folder"):
        read_source(tmp_path)


def test_what_no_importer_takes_is_told(module: str) -> None:
    with pytest.raises(UsageError, match="no importer takes") as caught:
        read_source(f"{module}:nothing")
    assert "--sources" in caught.value.fix
    with pytest.raises(BadModel, match="failed"):
        read_source(f"{module}:fails")
    with pytest.raises(BadModel, match="cannot import"):
        read_source("no_such_module:thing")


@pytest.mark.parametrize(("package", "extra"), [("torch", "torch"), ("keras", "keras"), ("flax", "jax")])
def test_code_that_wants_a_framework_which_is_absent_is_told_with_what_to_install(
    package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # its import fails
    (tmp_path / "wanting.py").write_text(f"import {package}\ndef net():\n    return {package}\n")
    with pytest.raises(UsageError, match=r"wanting\.py failed") as caught:
        read_source(f"{tmp_path / 'wanting.py'}:net")
    assert caught.value.fix == f"pip install 'intaglio[{extra}]'"
