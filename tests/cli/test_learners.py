"""Pipelines of scikit-learn through the commands: a right result, or the reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from .conftest import Command

sklearn = pytest.importorskip("sklearn", reason="needs scikit-learn")
skl2onnx = pytest.importorskip("skl2onnx", reason="needs skl2onnx")

X = np.random.default_rng(0).standard_normal((120, 16)).astype(np.float32)
CLASSES = (X[:, :4].sum(1) > 0).astype(int) + (X[:, 4] > 1)


def pipelines() -> dict[str, Any]:
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler
    from sklearn.svm import SVC

    return {
        "perceptron": make_pipeline(StandardScaler(), MLPClassifier((96, 48), max_iter=2, random_state=0)),
        "logistic": make_pipeline(Normalizer(), LogisticRegression()),
        "forest": RandomForestClassifier(4, random_state=0),
        "boosted": make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=3)),
        "vectors": make_pipeline(StandardScaler(), SVC()),
    }


COMMANDS = {
    "inspect": (),
    "groups": (),
    "check": (),
    "prune": ("--params", "0.7", "--no-measure"),
    "factorize": ("--params", "0.8", "--no-measure"),
    "quantize": ("--scheme", "w8", "--no-measure"),
    "simplify": (),
    "binarize": ("--no-measure",),
}
LEARNS_IN_MATRICES = "perceptron"


def scores(path: Path) -> list[Any]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: X}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["perceptron", "logistic", "forest", "boosted", "vectors"])
def test_pipelines_have_a_right_result_or_a_reason(intaglio: Command, tmp_path: Path, name: str) -> None:
    learner, model = pipelines()[name], tmp_path / "model.onnx"
    learner.fit(X, CLASSES)
    opsets = {"": 17, "ai.onnx.ml": 3}
    options = {id(learner): {"zipmap": name == "forest"}} if hasattr(learner, "predict_proba") else None
    model.write_bytes(skl2onnx.to_onnx(learner, X[:1], options=options, target_opset=opsets).SerializeToString())
    given = scores(model)
    for command, more in COMMANDS.items():
        out = tmp_path / f"{command}.onnx"
        writes = () if command in ("inspect", "groups", "check") else ("-o", out)
        ran = intaglio(command, model, *more, *writes)
        assert ran.code == 0 or (ran.code == 4 and writes), (command, ran.err)
        assert "by mistake" not in ran.out + ran.err, command
        if not out.exists():
            continue
        found = scores(out)
        assert [np.shape(a) for a in found] == [np.shape(b) for b in given], command
        if command in ("quantize", "simplify"):
            agree = np.mean(np.asarray(found[0]).ravel() == np.asarray(given[0]).ravel())
            assert agree > 0.95, command
    wrote = {out.stem for out in tmp_path.glob("*.onnx")}
    assert (wrote >= {"prune", "quantize"}) == (name == LEARNS_IN_MATRICES)
