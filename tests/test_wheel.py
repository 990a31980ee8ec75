"""A package built where there is no compiler installs, runs packed models and says what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from intaglio.graph.io.save import save

from .kernels.packed import two_layers

ROOT = Path(__file__).resolve().parent.parent
PACKED = ("__init__.py", "py.typed", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
INTAGLIO = "import sys; from intaglio.cli.main import main; sys.exit(main())"


def can_build() -> bool:
    """Whether this Python has what builds the package, so that nothing is fetched for it."""
    try:
        return int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel holds that was built without a compiler."""
    if not can_build():
        pytest.skip("this Python lacks setuptools 77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    parts = [d.name for d in ROOT.iterdir() if (d / "__init__.py").is_file() and d.name[0] != "." and d.name != "tests"]
    for name in parts:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    for name in PACKED:
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(
        [*command, "-w", str(folder)], capture_output=True, text=True, check=False, env={**os.environ, "CC": "false"}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


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
    assert [f.name for f in installed.rglob("*") if f.suffix in (".c", ".h", ".def")] == []


def test_files_that_modules_read_are_in_the_wheel(installed: Path) -> None:
    def data(root: Path) -> set[str]:
        kinds = {".html", ".css", ".yaml"}
        return {str(f.relative_to(root)) for f in (root / "pipeline").rglob("*") if f.suffix in kinds}

    assert data(installed / "intaglio") == data(ROOT) != set()
