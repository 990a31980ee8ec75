"""The example plug-ins as if they were installed, and Python as a user of them runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = ROOT / "examples" / "plugins"

Python = Callable[[str], Any]
Terminal = Callable[..., "subprocess.CompletedProcess[str]"]


def install(name: str, points: dict[str, dict[str, str]], site: Path) -> None:
    """What an installer leaves for others to find: the entry points of a distribution, by group."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in found.items()) for group, found in points.items()]
    (folder / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture(scope="session")
def entry_points() -> dict[str, dict[str, str]]:
    """What the example package declares, by group."""
    project = tomllib.loads((PLUGINS / "pyproject.toml").read_text())["project"]
    found: dict[str, dict[str, str]] = project["entry-points"]
    return found


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package as pip installs it."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    shutil.copytree(PLUGINS, source, dirs_exist_ok=True)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    return folder


@pytest.fixture
def site(tmp_path: Path, installed: Path) -> Path:
    """A folder of installed packages that holds the example package, to install more in."""
    return Path(shutil.copytree(installed, tmp_path / "site"))


@pytest.fixture
def terminal(site: Path) -> Terminal:
    """``terminal("groups", path)``: a command in a process of its own, with what it prints."""

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        code = "import sys; from intaglio.cli.main import main; sys.exit(main(sys.argv[1:]))"
        environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200", "TERMINAL_WIDTH": "200"}
        words = [sys.executable, "-c", code, *map(str, args)]
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def python(site: Path) -> Python:
    """Runs code in a process of its own that sees ``site``, and returns the JSON that it prints."""

    def run(code: str) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def command(python: Python) -> Callable[..., Any]:
    """``command("groups", path)``: the JSON of a command line, with its exit code as ``code``."""

    def run(*args: object) -> Any:
        words = [*map(str, args), "--json"]
        return python(
            "import contextlib, io, json; from intaglio.cli.main import main; out = io.StringIO()\n"
            f"with contextlib.redirect_stdout(out): code = main({words!r})\n"
            "print(json.dumps({**json.loads(out.getvalue()), 'code': int(code)}))"
        )

    return run
