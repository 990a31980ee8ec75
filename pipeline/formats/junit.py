"""A report as JUnit XML, which every CI server shows: a test case for each gate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ..gates import shown
from ..text import harmless
from .rows import amounts, lossless

_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Mapping[str, Any]) -> str:
    cases = list(_cases(report))
    kinds = [kind for _, kind, _ in cases]
    counted = {"tests": len(cases), "failures": kinds.count("failure"), "errors": kinds.count("error")}
    numbers = {key: str(value) for key, value in counted.items()}
    suites = Element("testsuites", numbers)
    name, seconds = _text(f"intaglio {report['command']}"), f"{report.get('seconds', 0.0):.3f}"
    suite = SubElement(suites, "testsuite", {"name": name, **numbers, "time": seconds})
    for told, kind, message in cases:
        case = SubElement(suite, "testcase", {"classname": _text(str(report.get("model", ""))), "name": _text(told)})
        if kind:
            SubElement(case, kind, {"message": _text(message)}).text = _text(message)
    lines = [f"{label}: {before} -> {after} ({kept})" for label, before, after, kept in amounts(report)]
    SubElement(suite, "system-out").text = _text("\n".join(filter(None, [*lines, lossless(report)])))
    indent(suites)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{tostring(suites, encoding='unicode')}\n"


def _cases(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, kind of failure and message."""
    judged, error = report.get("gates", ()), report.get("error")
    for one in judged:
        value = shown(one["value"], one["unit"])
        yield one["gate"], "" if one["passed"] else "failure", f"{one['gate']} was missed: it is {value}"
    if error and not judged:
        yield report["command"], "error", "\n".join(filter(None, (error["what"], error["why"], error["fix"])))
    elif not judged:
        yield report["command"], "", ""


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", harmless(text))
