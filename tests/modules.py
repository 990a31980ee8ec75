"""The modules of the package, and what each of them imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP = sorted(d.name for d in ROOT.iterdir() if (d / "__init__.py").is_file() and d.name[0] != "." and d.name != "tests")
MODULES = sorted([*ROOT.glob("*.py"), *(file for top in TOP for file in (ROOT / top).rglob("*.py"))])

HEAVY = {"torch", "tensorflow", "jax", "onnxscript", "sklearn"}


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
