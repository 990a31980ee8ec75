"""A package built where there is no compiler installs, runs packed models and says what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from intaglio.graph.io.save import save

from .conftest import ROOT
from .kernels.packed import two_layers

INTAGLIO = "import sys; from intaglio.cli.main import main; sys.exit(main())"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def intaglio(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", INTAGLIO, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=site)


def test_without_a_compiler_the_package_installs_and_packed_models_run(installed: Path, tmp_path: Path) -> None:
    save(two_layers(), tmp_path / "model.onnx")
    assert not [f for f in (installed / "intaglio" / "kernels").iterdir() if f.suffix in (".so", ".pyd")]
    told = intaglio(installed, "passes")
    assert "kernels: operators on bits run by their definitions; the kernels were not built" in told.stdout
    ran = intaglio(installed, "check", str(tmp_path / "model.onnx"))
    assert ran.returncode == 0, ran.stderr
    assert "install a C compiler" in ran.stderr


def test_sources_of_the_kernels_stay_out_of_the_wheel(installed: Path) -> None:
    """Those of exported C are templates, which are written out."""
    templates = installed / "intaglio" / "exporters" / "c" / "text"
    sources = [f for f in installed.rglob("*") if f.suffix in (".c", ".h", ".def")]
    assert [f.name for f in sources if templates not in f.parents] == []


def test_files_that_modules_read_are_in_the_wheel(installed: Path) -> None:
    def data(root: Path) -> set[str]:
        kinds = {".html", ".css", ".yaml"}
        return {str(f.relative_to(root)) for f in (root / "pipeline").rglob("*") if f.suffix in kinds}

    assert data(installed / "intaglio") == data(ROOT) != set()
