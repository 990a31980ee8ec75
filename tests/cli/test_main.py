"""The command starts light, lists what there is, and describes itself."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import intaglio as package
from intaglio.cli.commands import COMMANDS

from .conftest import Command

HEAVY = ("numpy", "onnx", "onnxruntime", "torch", "rich", "yaml", "pydantic")
GOLDEN = Path(__file__).parent / "help"


def help_text(*args: str) -> str:
    """Help as it prints on 80 columns, whatever the terminal here."""
    code = f"import sys; from intaglio.cli.main import main; sys.exit(main({[*args, '--help']!r}))"
    environment = {**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from intaglio.cli.main import main; main(['--help']); "
        f"sys.exit(','.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_help_starts_in_under_a_third_of_a_second() -> None:
    """In processor time, so that a busy machine does not count."""
    code = "import sys; from intaglio.cli.main import main; sys.exit(main(['--help']))"
    times = []
    for _ in range(5):
        ran = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(ran.pid, 0)
        ran.returncode = os.waitstatus_to_exitcode(status)
        assert ran.returncode == 0
        times.append(used.ru_utime + used.ru_stime)
    assert min(times) < 0.3


def test_the_version_is_the_packages(intaglio: Command) -> None:
    ran = intaglio("--version")
    assert (ran.code, ran.out) == (0, f"intaglio {package.__version__}\n")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_list_says_what_the_command_says_of_itself(name: str) -> None:
    command = getattr(import_module(f"intaglio.cli.{name}"), name)
    assert (command.__doc__ or "").partition("\n")[0] == COMMANDS[name]


def test_no_line_of_the_list_is_cut_off(intaglio: Command) -> None:
    assert "..." not in intaglio("--help").out.partition("Commands:")[2]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_shows_an_example_that_names_it(name: str) -> None:
    assert f"Example: intaglio {name}" in help_text(name)


@pytest.mark.parametrize("name", ["", *sorted(COMMANDS)])
def test_help_reads_as_it_was_last_agreed(name: str) -> None:
    """INTAGLIO_UPDATE_GOLDEN=1 writes the texts anew."""
    path = GOLDEN / f"{name or 'intaglio'}.txt"
    text = help_text(*([name] if name else []))
    if os.environ.get("INTAGLIO_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("args", [["no-such"], ["bench", "--no-such"], ["bench"], ["bench", "m.onnx", "--runs", "x"]])
def test_a_command_line_that_cannot_be_parsed_ends_with_2(intaglio: Command, args: list[str]) -> None:
    ran = intaglio(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert "--help" in ran.err


def test_a_mistyped_command_is_guessed(intaglio: Command) -> None:
    assert "'inspect'" in intaglio("inspec").err


def test_without_a_command_help_is_shown_and_the_exit_code_is_2(intaglio: Command) -> None:
    ran = intaglio()
    assert (ran.code, ran.out) == (2, "")
    assert "Usage:" in ran.err


def test_wrong_usage_is_json_too_when_asked_for(intaglio: Command) -> None:
    ran = intaglio("bench", "m.onnx", "--runs", "x", "--json")
    assert (ran.code, ran.err) == (2, "")
    assert "runs" in ran.json["error"]["what"]
