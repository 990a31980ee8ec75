"""What may depend on what, how large things may get, and what is loaded when."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import pytest

from intaglio.cli.commands import COMMANDS

from .modules import HEAVY, MODULES, ROOT, TOP, dotted, imported, imported_at_start

FAMILIES = {"passes.binarize", "passes.factorize", "passes.prune", "passes.quantize", "passes.sparsify", "passes.train"}
"""Of passes. None imports another; what they share stands in the other folders and files of ``passes``."""
ARROWS = {
    "graph": set(),
    "kernels": set(),
    "measure": {"graph", "kernels"},
    "passes": {"graph", "measure"},
    **{family: {"graph", "measure", "passes"} for family in FAMILIES},
    "passes.binarize": {"graph", "measure", "passes", "kernels"},
    "passes.train": {"graph", "measure", "passes", "kernels"},
    "importers": {"graph", "measure"},
    "exporters": {"graph", "measure", "kernels"},
    "pipeline": {"graph", "measure", "passes", *FAMILIES, "importers", "exporters"},
    "cli": {"graph", "measure", "passes", *FAMILIES, "importers", "exporters", "pipeline"},
}
"""What a part may import besides itself. The most specific name counts."""
LAZY = {"", *FAMILIES}
"""Packages that resolve public names on first use: they name what they do not import."""
MAY_START_HEAVY = ("exporters.torch.", "importers.", "measure.autograd.", "passes.train.engine.")
"""Modules that exist to serve a framework, and are imported on demand."""
LONGEST_FUNCTION = 60
MOST_MODULES = 24
MOST_LOADED = 150
"""Modules of the package that a pass may load, of four times as many in all."""
MOST_FOR_HELP = 28
"""Modules of the package that help of one command may load."""
TEXT = {"pipeline", "pipeline.text"}
"""What all output is written with, help, too."""
PASSES = {
    "passes.binarize": "Binarize",
    "passes.factorize": "Factorize",
    "passes.prune": "PruneChannels",
    "passes.quantize": "Quantize",
    "passes.sparsify": "Sparsify",
    "passes.train": "Train",
}
Graph = Mapping[str, Iterable[str]]


def part_of(name: str) -> str:
    """The entry of ``ARROWS`` that a module belongs to; empty for the package itself."""
    return max((part for part in ARROWS if f"{name}.".startswith(f"{part}.")), key=len, default="")


def imports() -> dict[str, set[str]]:
    """By module the modules of the package that it imports anywhere: in functions and for type checkers, too."""
    names = {dotted(file) for file in MODULES}
    found: dict[str, set[str]] = {}
    for file in MODULES:
        own = dotted(file)
        found[own] = set()
        for _, name in imported(file, ast.parse(file.read_text())):
            if name.split(".")[0] == "intaglio":
                target = name.partition(".")[2]
                found[own].add(target if target in names else target.rpartition(".")[0])
    return found


def circles(graph: Graph) -> list[list[str]]:
    """Sets of nodes each of which leads to all others: what is left when nodes without a way in or out are taken away."""
    left = {a: {b for b in targets if b in graph and b != a} for a, targets in graph.items()}
    while True:
        read = {b for targets in left.values() for b in targets}
        keep = {a for a, targets in left.items() if targets and a in read}
        if len(keep) == len(left):
            break
        left = {a: targets & keep for a, targets in left.items() if a in keep}
    return [sorted(f"{a} -> {b}" for a, targets in left.items() for b in targets)] if left else []


def loaded_by(code: str) -> set[str]:
    """Names of all modules after a process has run some code."""
    script = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_every_folder_has_its_arrows_stated() -> None:
    assert set(TOP) == {name for name in ARROWS if "." not in name}
    assert set(PASSES) == FAMILIES


def test_arrows_point_one_way() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, targets in imports().items()
        for target in targets
        if part_of(module) and part_of(target) not in {part_of(module), *ARROWS[part_of(module)]}
    ]
    assert wrong == []


def test_no_imports_run_in_circles() -> None:
    graph = imports()
    assert circles({module: targets for module, targets in graph.items() if module not in LAZY}) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == [["a -> b", "b -> c", "c -> a"]]


def test_headers_of_kernels_do_not_run_in_circles() -> None:
    """A .c file and the header of its name are one: what one of them includes, both need."""
    kernels = ROOT / "kernels"
    graph: dict[str, set[str]] = defaultdict(set)
    for file in (*kernels.rglob("*.c"), *kernels.rglob("*.h")):
        own = file.with_suffix("").relative_to(kernels).as_posix()
        for name in re.findall(r'#include "(.+)\.h"', file.read_text()):
            graph[own].add((file.parent / name).resolve().relative_to(kernels.resolve()).as_posix())
    assert len(graph) > 20
    assert circles(graph) == []


def test_imports_inside_the_package_are_relative() -> None:
    absolute = []
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            absolute += [f"{file.relative_to(ROOT)}: {n}" for n in names if n.split(".")[0] in ("intaglio", *TOP)]
    assert absolute == []


def test_no_function_is_longer_than_a_screen() -> None:
    programs = [f for folder in ("benchmarks", "docs", "examples") for f in (ROOT / folder).rglob("*.py")]
    long = {}
    for file in (*MODULES, *programs):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long[f"{file.relative_to(ROOT)}: {node.name}"] = lines
    assert long == {}


def test_no_folder_holds_more_modules_than_can_be_looked_over() -> None:
    count = Counter(file.parent for file in MODULES)
    assert {str(folder.relative_to(ROOT)): n for folder, n in count.items() if n > MOST_MODULES} == {}


def test_frameworks_are_imported_only_when_needed() -> None:
    files = [file for file in MODULES if not dotted(file).startswith(MAY_START_HEAVY)]
    assert {str(f.relative_to(ROOT)): found for f in files if (found := imported_at_start(f) & HEAVY)} == {}


def test_looking_for_what_is_registered_imports_no_framework() -> None:
    """What needs one is imported by who uses it: everything else works where it is not installed."""
    looked = "from intaglio.passes.registries import REGISTRIES, registry; [list(registry(g)) for g in REGISTRIES]"
    assert loaded_by(looked) & HEAVY == set()


def test_importing_the_package_is_light() -> None:
    heavy = {"torch", "onnx", "onnxruntime", "numpy", "typer", "rich", "pydantic", "scipy"}
    assert loaded_by("import intaglio") & heavy == set()


def loaded_by_command(*arguments: str) -> set[str]:
    code = (
        "from intaglio.cli.main import main\n"
        f"sys.argv = ['intaglio', *{arguments!r}]\n"
        "try: main()\nexcept SystemExit: pass"
    )
    loaded = loaded_by(code)
    assert "intaglio.cli.main" in loaded
    return loaded


def parts(loaded: set[str]) -> set[str]:
    """Modules of the package among those that are loaded."""
    return {name.partition(".")[2] for name in loaded if name.split(".")[0] == "intaglio"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_without_a_command_loads_little_beside_typer(arguments: list[str]) -> None:
    loaded = loaded_by_command(*arguments)
    assert loaded & {"pydantic", "rich", "json", "yaml", "pkgutil", "importlib.metadata"} == set()
    commands = {"cli", "cli.main", "cli.commands", "cli.mode"}
    graph = {"graph", "graph.errors", "graph.lazy", "graph.version"}
    told = set() if arguments else {"cli.console", "cli.failed", *TEXT}
    assert parts(loaded) == {"", *commands, *graph, *told}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_loads_its_options(name: str) -> None:
    loaded = loaded_by_command(name, "--help")
    assert loaded & {"numpy", "onnx", "onnxruntime", "scipy", "rich", "importlib.metadata", *HEAVY} == set()
    listed = {one for one in parts(loaded) if part_of(one) == f"{name}ers"} - {f"{name}ers", f"{name}ers.base"}
    assert len(parts(loaded) - listed) <= MOST_FOR_HELP
    options = {f"passes.{name}", f"passes.{name}.options", "passes", "passes.options", "passes.registries"}
    if name == "compress":  # what it asks for is in recipes, which are read when it runs; targets are those of quantize
        options |= {"passes.quantize", "passes.quantize.options"}
        options -= {"passes.compress", "passes.compress.options"}
    if name in ("export", "import"):  # options are those of all targets and sources
        options = {"passes", "passes.options", "passes.registries", f"{name}ers", f"{name}ers.base", *listed}
    if name in ("search", "sweep"):  # whose options are no pass's
        options = {"passes", "passes.options", "passes.registries"}
    others = ("compress", "simplify", "stream", "export", "import", "search", "sweep")
    with_options = f"passes.{name}" in FAMILIES or name in others
    assert {one for one in parts(loaded) - TEXT if part_of(one) not in ("", "cli", "graph")} == (
        options if with_options else set()
    )
    assert loaded & {"typer._adapters", "pydantic.type_adapter"} == set()
    assert ("pydantic" in loaded) == with_options


@pytest.mark.parametrize("family", sorted(PASSES))
def test_importing_a_pass_loads_what_it_needs(family: str) -> None:
    loaded = loaded_by(f"from intaglio import {PASSES[family]}")
    own = parts(loaded)
    assert {part_of(name) for name in own} & FAMILIES == {family}
    assert len(own) <= MOST_LOADED
    assert loaded & {"onnxruntime", "scipy.linalg", "scipy.sparse", "scipy.optimize", "scipy.special", *HEAVY} == set()
