"""The checkout and the installed package are the same thing, and its parts depend on each other in one direction."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import intaglio

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
TOP = sorted(d.name for d in ROOT.iterdir() if (d / "__init__.py").is_file() and d.name[0] != "." and d.name != "tests")
MODULES = sorted([ROOT / "__init__.py", *(file for top in TOP for file in (ROOT / top).rglob("*.py"))])

# What a part may import besides itself. The most specific name counts.
ARROWS = {
    "graph": set(),
    "kernels": set(),
    "measure": {"graph", "kernels"},
    "passes": {"graph", "measure"},
    "passes.binarize": {"graph", "measure", "passes", "kernels"},
    "importers": {"graph", "measure"},
    "exporters": {"graph", "measure", "kernels"},
    "pipeline": {"graph", "measure", "passes", "importers", "exporters"},
    "cli": {"graph", "measure", "passes", "importers", "exporters", "pipeline"},
}
HEAVY = {"torch", "tensorflow", "jax", "onnxscript", "sklearn"}
MAY_START_HEAVY = ("importers.", "passes.")  # modules that exist to serve a framework, and are imported on demand

# Home folders, checkouts and temporary files of one machine. Split so that this file does not match itself.
MACHINE_PATH = re.compile(
    rb"(?<![\w./}$-])/(?:" + rb"home|root|Users|work|mnt|tmp|opt)/[\w.-]+|\b[A-Z]:\\" + rb"Users\\\w"
)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def dotted(file: Path) -> str:
    """The name of a module below ``intaglio``; empty for the package itself."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def full_name(file: Path) -> str:
    return f"intaglio.{dotted(file)}".rstrip(".")


def imported(file: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every module that an import statement in the tree names."""
    package = full_name(file).split(".") if file.name == "__init__.py" else full_name(file).split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = [*base, *(node.module.split(".") if node.module else [])]
            yield from ((node.lineno, ".".join([*stem, alias.name])) for alias in node.names)


def at_start(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: no function bodies, nothing meant for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from (part for statement in child.orelse for part in (statement, *at_start(statement)))
            continue
        yield child
        yield from at_start(child)


def imported_at_start(file: Path) -> set[str]:
    """Names of the top-level packages that importing the module imports."""
    simple = [s for s in at_start(ast.parse(file.read_text())) if isinstance(s, (ast.Import, ast.ImportFrom))]
    return {name.split(".")[0] for s in simple for _, name in imported(file, s)}


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


def test_nothing_but_the_package_file_lies_at_the_top() -> None:
    assert [f.name for f in ROOT.glob("*.py")] == ["__init__.py"], "setuptools would ship it as a module of intaglio"


def test_links_for_type_checkers_equal_the_top_level_folders() -> None:
    folder = ROOT / ".dev" / "intaglio"
    if not folder.is_dir():
        pytest.skip("no links: a source archive leaves them out")
    links = {link.name: link.resolve() for link in folder.iterdir()}
    assert links == {name: ROOT / name for name in ["__init__.py", "py.typed", *TOP]}


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


def test_importing_the_package_is_light() -> None:
    heavy = "{'torch', 'onnx', 'onnxruntime', 'numpy', 'typer', 'rich', 'pydantic', 'scipy'}"
    code = f"import sys, intaglio; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_resolve() -> None:
    assert {name: getattr(intaglio, name) for name in intaglio.__all__}.keys() == set(intaglio.__all__)


def test_arrows_between_packages_point_one_way() -> None:
    assert set(TOP) == {name for name in ARROWS if "." not in name}, "a new folder needs its arrows stated"
    wrong = []
    for file in MODULES:
        own = max((n for n in ARROWS if f"{dotted(file)}.".startswith(f"{n}.")), key=len, default=None)
        if own is None:
            continue  # the package itself: it only names what is public
        for line, name in imported(file, ast.parse(file.read_text())):
            top = name.split(".")[1] if name.startswith("intaglio.") else None
            if top in TOP and top != own.split(".")[0] and top not in ARROWS[own]:
                wrong.append(f"{file.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_imports_inside_the_package_are_relative() -> None:
    absolute = []
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            absolute += [f"{file.relative_to(ROOT)}: {n}" for n in names if n.split(".")[0] in ("intaglio", *TOP)]
    assert absolute == []


def test_frameworks_are_imported_only_when_needed() -> None:
    files = [file for file in MODULES if not dotted(file).startswith(MAY_START_HEAVY)]
    assert {str(f.relative_to(ROOT)): found for f in files if (found := imported_at_start(f) & HEAVY)} == {}


def test_what_modules_import_is_a_declared_dependency() -> None:
    stated = {re.split(r"[^\w.-]", line)[0].lower() for line in project()["project"]["dependencies"]}
    owners = {**packages_distributions(), "google": ["onnx"]}  # protobuf comes with onnx, whose files it reads
    missing = {}
    for file in MODULES:
        if dotted(file).startswith("importers."):
            continue  # each needs the extra of its framework
        names = imported_at_start(file) - set(sys.stdlib_module_names) - {"intaglio"}
        foreign = {n for n in names if not {owner.lower() for owner in owners.get(n, [n])} & stated}
        if foreign:
            missing[str(file.relative_to(ROOT))] = foreign
    assert missing == {}
