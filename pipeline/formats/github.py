"""A report for GitHub: annotations that a job prints, and outputs that the steps after it can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..gates import shown
from ..text import harmless
from .rows import failed

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def render(report: Mapping[str, Any]) -> str:
    """Workflow commands: an error for each gate that was missed, warnings, and what the run came to.

    Source: "Workflow commands for GitHub Actions", docs.github.com.
    """
    return "".join(f"{line}\n" for line in _lines(report))


def outputs(report: Mapping[str, Any]) -> str:
    """Lines for the file that ``GITHUB_OUTPUT`` names."""
    found = {
        "passed": "false" if failed(report) else "true",
        "out": report.get("out") or "",
        "size_bytes": report.get("after", {}).get("size_bytes", ""),
    }
    return "".join(f"{key}={harmless(str(value), lines=False)}\n" for key, value in found.items())


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    for one in report.get("gates", ()):
        level, told = ("notice", "passed") if one["passed"] else ("error", "missed")
        yield _command(level, f"gate {told}", f"{one['gate']}: it is {shown(one['value'], one['unit'])}")
    if "error" in report and not report.get("gates"):
        error = report["error"]
        yield _command("error", error["what"], "\n".join(filter(None, (error["why"], error["fix"]))) or error["what"])
    for warning in report.get("warnings", ()):
        yield _command("warning", f"intaglio {report['command']}", warning)


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={_escaped(title, _PROPERTY)}::{_escaped(message, _DATA)}"


def _escaped(text: str, table: Mapping[str, str]) -> str:
    return "".join(table.get(letter, letter) for letter in harmless(text))
