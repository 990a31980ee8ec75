"""The checkout and the installed package are the same thing."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import intaglio

from .modules import HEAVY, MODULES, ROOT, TOP, dotted, full_name, imported_at_start

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Home folders, checkouts and temporary files of one machine. Split so that this file does not match itself.
MACHINE_PATH = re.compile(
    rb"(?<![\w./}$-])/(?:" + rb"home|root|Users|work|mnt|tmp|opt)/[\w.-]+|\b[A-Z]:\\" + rb"Users\\\w"
)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked_files() -> list[Path]:
    """Every file under version control; without git (a source archive) every file of the folders that ship."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        names = listing.stdout.split("\0")[:-1]
        return [ROOT / name for name in names if (ROOT / name).is_file() and not (ROOT / name).is_symlink()]
    folders = [*TOP, "tests", "docs", "examples", "benchmarks"]
    return [f for d in folders for f in (ROOT / d).rglob("*") if f.is_file() and f.suffix != ".pyc"]


def test_package_list_equals_the_folders() -> None:
    folders = {full_name(file) for file in MODULES if file.name == "__init__.py"}
    assert sorted(project()["tool"]["setuptools"]["packages"]) == sorted(folders)


def test_every_folder_of_modules_is_a_package() -> None:
    assert [str(f.relative_to(ROOT)) for f in MODULES if not (f.parent / "__init__.py").is_file()] == []


def test_nothing_but_the_files_of_the_package_lies_at_the_top() -> None:
    assert {f.name for f in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}, (
        "setuptools would ship it as a module of intaglio"
    )


def test_links_for_type_checkers_equal_the_top_level_folders() -> None:
    folder = ROOT / ".dev" / "intaglio"
    if not folder.is_dir():
        pytest.skip("no links: a source archive leaves them out")
    links = {link.name: link.resolve() for link in folder.iterdir()}
    assert links == {name: ROOT / name for name in ["__init__.py", "__main__.py", "py.typed", *TOP]}


def test_version_is_stated_once() -> None:
    assert "version" in project()["project"]["dynamic"]
    assert project()["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "intaglio.graph.version.VERSION"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", intaglio.__version__)


def test_no_file_holds_a_path_of_one_machine() -> None:
    files = tracked_files()
    assert len(files) > 20
    hits = [f"{f.relative_to(ROOT)}: {hit.group()!r}" for f in files for hit in MACHINE_PATH.finditer(f.read_bytes())]
    assert hits == []


@pytest.mark.parametrize("name", [full_name(file) for file in MODULES])
def test_module_imports_and_its_examples_hold(name: str) -> None:
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in HEAVY:
            raise
        pytest.skip(f"{error.name} is not installed")
    assert doctest.testmod(module).failed == 0


def test_public_names_resolve() -> None:
    assert {name: getattr(intaglio, name) for name in intaglio.__all__}.keys() == set(intaglio.__all__)


def test_what_modules_import_is_a_declared_dependency() -> None:
    stated = {re.split(r"[^\w.-]", line)[0].lower() for line in project()["project"]["dependencies"]}
    owners = {**packages_distributions(), "google": ["onnx"], "pydantic_core": ["pydantic"]}  # protobuf comes with onnx
    missing = {}
    for file in MODULES:
        if dotted(file).startswith(("exporters.torch.", "importers.", "measure.autograd.", "passes.train.engine.")):
            continue  # each needs the extra of its framework
        names = imported_at_start(file) - set(sys.stdlib_module_names) - {"intaglio"}
        foreign = {n for n in names if not {owner.lower() for owner in owners.get(n, [n])} & stated}
        if foreign:
            missing[str(file.relative_to(ROOT))] = foreign
    assert missing == {}
