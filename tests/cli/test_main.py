"""The command starts light, lists what there is, and describes itself."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import intaglio as package
from intaglio.cli.commands import COMMANDS, about, function, home

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
    command = getattr(import_module(f"intaglio.cli.commands.{home(name)}"), function(name))
    assert (command.__doc__ or "").partition("\n")[0] == about(name)


@pytest.mark.parametrize("args", [[], *([name] for name in COMMANDS)])
def test_short_names_of_help_and_version_and_python_m_do_the_same(intaglio: Command, args: list[str]) -> None:
    assert intaglio(*args, "-h").out == intaglio(*args, "--help").out
    assert intaglio("-V").out == intaglio("--version").out


def test_python_runs_the_package_as_the_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "intaglio", "-V"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"intaglio {package.__version__}\n"
    ran = subprocess.run([sys.executable, "-m", "intaglio", "nothing"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")


@pytest.mark.parametrize(
    ("words", "place", "found"), [("intaglio pru", "1", "prune"), ("intaglio prune --mac", "2", "--macs")]
)
def test_a_shell_completes_commands_and_options(words: str, place: str, found: str) -> None:
    asked = {"_INTAGLIO_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    code = "import sys; from intaglio.cli.main import main; sys.exit(main([]))"
    ran = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, found, "")


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["prune", "m.onnx", "-o", "a.onnx", "--macs", "0.5", "--macs=0.6"], "--macs is given more than once"),
        (["prune", "m.onnx", "-o", "a.onnx", "--out", "b.onnx", "--macs", "0.5"], "--out is given more than once"),
        (["prune", "m.onnx", "-o", "a.onnx", "-c", "l1", "-cl2", "--macs", "0.5"], "--criterion is given more than"),
        (["inspect", "m.onnx", "--top", "3", "--top", "3"], "--top is given more than once"),
        (["bench", "m.onnx", "--seed", "1", "--seed", "2"], "--seed is given more than once"),
        (["quantize", "m.onnx", "-o", "a.onnx", "--no-verify", "--verify"], "--verify and --no-verify exclude"),
    ],
)
def test_what_can_be_said_once_is_not_said_twice(intaglio: Command, args: list[str], what: str) -> None:
    ran = intaglio(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {what}")


def test_flags_and_lists_may_be_repeated(intaglio: Command) -> None:
    ran = intaglio("inspect", "no.onnx", "--shape", "a:1", "--shape", "b:1", "--json", "--json")
    assert (ran.code, "no.onnx" in ran.json["error"]["what"]) == (1, True)


def test_an_option_without_its_value_names_the_help_of_its_command(intaglio: Command) -> None:
    assert "see intaglio inspect --help" in intaglio("inspect", "m.onnx", "--top").err


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
