"""The share of variance: by its definition on a small network, and of use on a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.calibration.normal.moments import clipped
from intaglio.passes.prune import PruneChannels
from intaglio.passes.prune.repair.repair import RepairImpossible
from tests.passes.parsed import parsed

NORMS = "float[{0}] g{1}, float[{0}] b{1}, float[{0}] m{1}, float[{0}] v{1}"


def residual() -> Model:
    """One block with a shortcut around two layers."""
    rng = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {}
    for k, n in enumerate((6, 8, 6)):
        values |= {f"g{k}": rng.uniform(0.2, 2, n), f"b{k}": rng.standard_normal(n)}
        values |= {f"m{k}": rng.standard_normal(n), f"v{k}": rng.uniform(0.5, 2, n)}
    weights = ", ".join(NORMS.format(n, k) for k, n in enumerate((6, 8, 6)))
    return parsed(
        "float[N, 3, 8, 8] x",
        "float[N, 5] y",
        f"float[6, 3, 3, 3] w0, float[8, 6, 3, 3] w1, float[6, 8, 3, 3] w2, {weights}, float[6, 5] head",
        """a0 = Conv <pads = [1, 1, 1, 1]> (x, w0) n0 = BatchNormalization(a0, g0, b0, m0, v0) r0 = Relu(n0)
        a1 = Conv <pads = [1, 1, 1, 1]> (r0, w1) n1 = BatchNormalization(a1, g1, b1, m1, v1) r1 = Relu(n1)
        a2 = Conv <pads = [1, 1, 1, 1]> (r1, w2) n2 = BatchNormalization(a2, g2, b2, m2, v2)
        s = Add(n2, r0) r2 = Relu(s) p = GlobalAveragePool(r2) f = Flatten(p) y = Gemm(f, head)""",
        **{name: v.astype(np.float32) for name, v in values.items()},
    )


def test_channels_go_by_the_share_of_the_sum_that_they_make_up() -> None:
    model = residual()
    w = {name: v.astype(np.float64) for name, v in model.weights.items()}
    _, inner = clipped(w["b1"], w["g1"] ** 2)
    gain = w["g2"] ** 2 / (w["v2"] + 1e-5)
    lost = inner * (np.square(w["w2"]).sum(axis=(2, 3)) * gain[:, None]).sum(axis=0)
    options = {"criterion": "variance", "target": "channels", "keep": 0.5, "include": ("w1",), "repair": "none"}
    pruned = PruneChannels.model_validate(options).run(model, Context())
    kept = np.sort(np.argsort(lost)[-4:])
    np.testing.assert_array_equal(pruned.model.weights["g1"], model.weights["g1"][kept])


@pytest.mark.parametrize("target", ["macs", "params"])
def test_targets_are_met_and_the_result_is_proved(target: str) -> None:
    pruned = PruneChannels.model_validate({"criterion": "variance", "target": target, "keep": 0.6}).run(
        residual(), Context()
    )
    assert pruned.after.of(target) / pruned.before.of(target) == pytest.approx(0.6, abs=0.06)
    assert pruned.proof is not None
    assert pruned.details["repair"]["restored"] > 0


def test_a_model_that_tells_nothing_is_refused(shared_data: Path) -> None:
    with pytest.raises(RepairImpossible, match="criterion variance is not possible"):
        PruneChannels(criterion="variance", keep=0.8).run(load(shared_data / "resnet20.onnx"), Context())


def test_it_keeps_more_than_norms_on_real_images_without_any_data(shared_data: Path) -> None:
    model = load(shared_data / "resnet20-bn.onnx")
    held = np.load(shared_data / "cifar10_test_first2000.npz")
    x = held["x"][:500].transpose(0, 3, 1, 2).astype(np.float32) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = ((x - mean[:, None, None]) / deviation[:, None, None]).astype(np.float32)
    right = {}
    for criterion, repair in (("l2", "none"), ("variance", None)):
        pruned = PruneChannels(criterion=criterion, repair=repair, keep=0.75, verify=False).run(model, Context())
        logits = run(open_session(pruned.model), {"input": x})["logits"]
        right[criterion] = float((logits.argmax(axis=1) == held["y"][:500]).mean())
    assert right["variance"] > 0.82
    assert right["l2"] < 0.75
