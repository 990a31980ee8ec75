"""The same small network, built in each framework, is the same to us: it groups, prunes and quantizes alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio import PruneChannels, Quantize, load, run

HERE = Path(__file__).parent
WAYS = {
    "torch": ("networks:in_torch", "--shape", "image:-1,3,16,16"),
    "keras on torch": ("networks:in_keras", "--backend", "torch"),
    "keras on jax": ("networks:in_keras", "--backend", "jax"),
    "flax": ("networks:in_flax", "--shape", "image:-1,16,16,3"),
}
NEEDS = {
    "torch": ("torch",),
    "keras on torch": ("keras", "torch"),
    "keras on jax": ("keras", "jax2onnx"),
    "flax": ("flax", "jax2onnx"),
}


def imported(words: tuple[Any, ...], out: Path, code: int = 0) -> dict[str, Any]:
    """In a process of its own: Keras has one backend in each."""
    script = f"import sys; from intaglio.cli.main import main; sys.exit(main({['import', *words, '-o', str(out), '--json']!r}))"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("way", WAYS)
def test_one_network_of_any_framework_groups_prunes_and_quantizes_alike(way: str, tmp_path: Path) -> None:
    for name in NEEDS[way]:
        if find_spec(name) is None:  # without importing it: Keras would choose its backend
            pytest.skip(f"{name} is not installed")
    told = imported(WAYS[way], tmp_path / "m.onnx")
    assert told["outputs"]["output"]["sqnr_db"] > 100
    model = load(tmp_path / "m.onnx")
    (image,) = model.graph.input
    shape = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert (image.name, shape[0], sorted(shape[1:])) == ("image", 0, [3, 16, 16])
    change = PruneChannels(target="channels", keep=0.5).run(model)
    channels = sorted(group["before"] for group in change.as_dict()["groups"])
    assert channels == [3, 10, 16, 32]
    np.savez(tmp_path / "data.npz", image=np.random.default_rng(0).normal(size=(16, *shape[1:])).astype(np.float32))
    report = run(
        tmp_path / "m.onnx", Quantize(scheme="int8"), data=tmp_path / "data.npz", measure=False, force=True
    ).as_dict()
    assert [layer["weights"] for layer in report["layers"]] == ["int8"] * 3, report["skipped"]
