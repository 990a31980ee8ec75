"""Whatever happens, the user gets a result or a reason, the right exit code, and no traceback."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser

from intaglio.cli import console
from intaglio.graph.errors import BadModel, GateFailed, NothingChanged, UsageError
from tests.conftest import hear_interrupts

from .conftest import Command, write_model

ERRORS = [
    (BadModel("bad", why="because", fix="mend it"), 1),
    (UsageError("wrong"), 2),
    (GateFailed("missed"), 3),
    (NothingChanged("same"), 4),
    (ValueError("surprise\nsecond line"), 1),
    (MemoryError(), 1),
    (OSError(errno.ENOSPC, "No space left on device", "out.onnx"), 1),
    (PermissionError(errno.EACCES, "Permission denied", "in.onnx"), 1),
    (KeyboardInterrupt(), 130),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda v: type(v).__name__)
def test_every_error_is_told_in_a_few_lines_with_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    console.begin([])
    assert console.report(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert all(text.startswith(("error: ", "  why: ", "  fix: ")) for text in err.splitlines())


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda v: type(v).__name__)
def test_every_error_is_one_json_object_when_asked_for(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    console.begin(["--json"])
    assert console.report(error) == code
    out, err = capsys.readouterr()
    assert err == ""
    assert set(json.loads(out)["error"]) == {"what", "why", "fix"}


def test_a_full_disk_and_a_missing_right_name_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    console.begin([])
    console.report(OSError(errno.ENOSPC, "No space left on device", "out.onnx"))
    assert "'out.onnx': No space left on device" in capsys.readouterr().err


def test_debug_shows_the_traceback(intaglio: Command, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    assert "Traceback" not in intaglio("check", tmp_path / "m.onnx").err
    assert "Traceback" in intaglio("check", tmp_path / "m.onnx", "--debug").err


def test_json_and_debug_after_two_dashes_are_names(intaglio: Command) -> None:
    assert intaglio("check", "--", "--json").err.startswith("error: ")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.floats(width=32).map(np.float32),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    )
)
def test_whatever_a_result_holds_becomes_strict_json(value: object) -> None:
    json.loads(json.dumps(console.plain({"value": value}), allow_nan=False))


def test_numpy_values_become_plain_and_what_is_no_number_null() -> None:
    given_values = {"a": np.float32(0.5), "b": np.arange(3), "c": float("nan"), "d": np.float64("inf"), "e": np.True_}
    assert console.plain(given_values) == {"a": 0.5, "b": [0, 1, 2], "c": None, "d": None, "e": True}


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (41_234_567, "41.2 M"), (999_600, "1 M"), (1.5e9, "1.5 G"), (None, "-")],
)
def test_numbers_are_short_enough_to_read(number: float | None, text: str) -> None:
    assert console.human(number) == text


def test_tables_are_plain_aligned_lines_when_not_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("Title", ("name", "size"), [("a", 5), ("longer [x]", 1234)])
    assert capsys.readouterr().out == "Title\nname        size\na              5\nlonger [x]  1234\n"


def test_a_table_on_a_terminal_is_drawn_and_keeps_odd_names() -> None:
    code = "from intaglio.cli import console; console.table('T', ('name', 'n'), [('[bold]x[/]', 5)])"
    parent, child = pty.openpty()
    ran = subprocess.Popen([sys.executable, "-c", code], stdout=child, stderr=child)
    os.close(child)
    text = read_all(parent)
    assert ran.wait() == 0
    assert "[bold]x[/]" in text
    assert "─" in text


def read_all(descriptor: int) -> str:
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(descriptor, 4096)
        except OSError:  # Linux says so when the other side has closed
            piece = b""
        if not piece:
            os.close(descriptor)
            return b"".join(pieces).decode()
        pieces.append(piece)


@pytest.mark.parametrize(("seconds", "shown"), [(2.6, True), (0.2, False)])
def test_a_progress_bar_appears_on_a_terminal_after_two_seconds(seconds: float, shown: bool) -> None:
    code = (
        "import time\nfrom intaglio.cli import console\n"
        "with console.progress('weighing') as tick:\n"
        f"    tick(1, 2)\n    time.sleep({seconds})\n"
    )
    parent, child = pty.openpty()
    ran = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=child)
    os.close(child)
    text = read_all(parent)
    assert ran.communicate()[0] == b""
    assert ("weighing" in text) == shown


def test_a_reader_who_leaves_early_is_no_error(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", "float[N,3] x", "float[N,3] y", "y = Relu(x)")
    code = f"import sys; from intaglio.cli.main import main; sys.exit(main(['check', {str(path)!r}]))"
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert ran.stderr == b""
    assert ran.returncode == console.BROKEN_PIPE


def test_an_interrupt_ends_with_130_and_one_line(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", "float[N,3] x", "float[N,3] y", "y = Relu(x)")
    code = (
        "import sys; from intaglio.cli.main import main; print('ready', flush=True); "
        f"sys.exit(main(['bench', {str(path)!r}, '--seconds', '60']))"
    )
    ran = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=hear_interrupts
    )
    assert ran.stdout is not None
    assert ran.stdout.readline() == b"ready\n"
    time.sleep(1.5)
    ran.send_signal(signal.SIGINT)
    out, err = ran.communicate(timeout=30)
    assert (ran.returncode, out) == (130, b"")
    assert err == b"error: interrupted\n"


STEERING = "\x1b[2J\x9b31m\u202e\r\x00\t"


def test_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([], ["--debug"], ["--json"]):
        console.begin(args)
        console.report(BadModel(f"what {STEERING}", why=STEERING, fix=STEERING))
        console.begin(args)
        console.emit({STEERING: STEERING}, lambda: console.table(STEERING, [STEERING], [[STEERING + "\n"]]))
        console.notes([STEERING + "\nerror: all is lost"])
        out, err = capsys.readouterr()
        assert not set("\x1b\x9b\u202e\r\x00\t") & set(out + err)
        assert "\nerror: all" not in err
        if args == ["--json"]:
            assert json.JSONDecoder().raw_decode(out[out.index("}\n}") + 4 :])[0][STEERING] == STEERING


def test_model_names_with_escapes_are_shown_escaped(intaglio: Command, tmp_path: Path) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4] x) => (float[1,4] y) { y = Relu (x) }'
    )
    model.graph.node[0].name = model.graph.name = "\x1b]0;owned\x07"
    model.graph.node[0].output[0] = model.graph.output[0].name = "y\x1b[31m"
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    for args in (["inspect"], ["groups"], ["check"], ["inspect", "--json"]):
        ran = intaglio(args[0], path, *args[1:])
        assert ran.code == 0
        assert "\x1b" not in ran.out + ran.err
