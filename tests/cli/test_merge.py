"""``intaglio merge``: what is written is what merging gives, and wrong requests end with one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from intaglio.graph.io.load import load
from intaglio.graph.io.save import save
from intaglio.passes.rewrite.merge import merge
from tests.passes.rewrite.test_merge import states

from .conftest import Command


def test_the_command_writes_what_runs(intaglio: Command, tmp_path: Path) -> None:
    base, tuned = states(2, 2)
    files = [tmp_path / f"{name}.onnx" for name in ("base", "a", "b")]
    for model, file in zip([base, *tuned], files, strict=True):
        save(model, file)
    out = tmp_path / "out.onnx"
    ran = intaglio("merge", *files, "-o", out, "--pattern", "1:2", "--scale", "1", "--scale", "1", "--json")
    assert (ran.code, len(ran.json["models"])) == (0, 2)
    wanted = merge(base, tuned, n=1, m=2).model.weights["w"]
    np.testing.assert_array_equal(load(out).weights["w"], wanted)
    assert intaglio("merge", *files, "-o", out, "--scale", "1").code == 2
    assert intaglio("merge", *files, "-o", out, "--pattern", "much").code == 2
    assert intaglio("merge", files[0], files[0], "-o", out).code == 4
