"""Every operator that C is written for computes what ONNX Runtime computes: all cases in one compilation."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from intaglio.exporters.c.expressions import SPELLINGS
from intaglio.exporters.c.lower import lower
from intaglio.exporters.c.native import FLAGS, compiler
from intaglio.exporters.c.net import net_of
from intaglio.exporters.c.rules import RULES
from intaglio.exporters.c.source import code
from intaglio.measure.run.session import open_session

from .cases import every

CASES = every()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """One library of all cases."""
    folder: Path = tmp_path_factory.mktemp("operators")
    lines = []
    for number, case in enumerate(CASES):
        for file, text in code(lower(net_of(case.model())), f"case{number}").items():
            (folder / file).write_text(text)
        own = sorted(set(re.findall(r"\b(?:arena|step\d+|k\d+|net_[a-z]+)\b", text)))
        lines += [f"#define {name} case{number}_{name}" for name in own]
        lines += [f'#include "case{number}.c"', *(f"#undef {name}" for name in own)]
    (folder / "all.c").write_text("\n".join(lines) + "\n")
    flags = [flag for flag in FLAGS if flag != "-O3"]
    out = folder / "cases.so"
    command = [compiler(), *flags, "-O1", "-shared", "-fPIC", str(folder / "all.c"), "-o", str(out), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    return ctypes.CDLL(str(out))


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{n}-{CASES[n].op}")
def test_operators_compute_what_onnx_runtime_computes(number: int, library: ctypes.CDLL) -> None:
    case = CASES[number]
    model = case.model()
    expected = open_session(model, optimize=False).run(None, dict(case.inputs))
    found = [np.full(one.shape, 77, one.dtype) for one in expected]
    given = [np.ascontiguousarray(case.inputs[v.name]) for v in model.graph.input if v.name in case.inputs]
    getattr(library, f"case{number}_run")(*(ctypes.c_void_p(a.ctypes.data) for a in (*given, *found)))
    for right, one in zip(expected, found, strict=True):
        np.testing.assert_allclose(one.astype("f8"), right.astype("f8"), rtol=2e-5, atol=2e-5)


def test_every_operator_has_a_case() -> None:
    tried = {f"{case.domain}:{case.op}" if case.domain else case.op for case in CASES}
    assert {*RULES, *SPELLINGS} - tried == set()
