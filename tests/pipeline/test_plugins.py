"""Which packages took part is found out from what is in use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from intaglio.passes.quantize import Quantize
from intaglio.pipeline.plugins import plugins_of

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_run_imports_no_pass_but_its_own(tmp_path: Path) -> None:
    words = [
        "quantize",
        f"{EXAMPLES / 'digits.onnx'}",
        "-o",
        f"{tmp_path / 'w8.onnx'}",
        "--scheme",
        "w8",
        "--no-measure",
    ]
    code = f"""
import sys
from intaglio.cli.main import main
sys.argv = ["intaglio", *{words!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
others = ("intaglio.passes.train", "intaglio.passes.prune.prune", "intaglio.passes.factorize.factorize", "scipy.optimize")
print([name for name in others if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "w8.onnx").exists()


def test_defaults_and_stated_names_of_ours_are_no_plugins() -> None:
    assert plugins_of([Quantize(scheme="w8"), Quantize(scheme="w4", method="gptq")]) == []
