"""Reports in other forms say what the report says, and nothing in a name is taken for part of the form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

import pytest

from intaglio.pipeline.formats import github, junit, markdown

HOSTILE = "a|b`c``<b>&]]>\x1b[31m\r\n::error::x,y:%0A{{\x00\u202e @you #1 ![i](u)"
GATES = [
    {"gate": "size <= 1KB", "unit": "B", "value": 2048, "passed": False},
    {"gate": f"{HOSTILE} >= 0.5", "unit": "", "value": None, "passed": False},
    {"gate": "macs <= 1x", "unit": "x", "value": 0.5, "passed": True},
]
LOST = {
    "points": 2.0,
    "low": 0.5,
    "high": 3.5,
    "samples": 900,
    "lost": 20,
    "won": 2,
    "p_value": 0.01,
    "confidence": 0.95,
}
FULL: dict[str, Any] = {
    "command": "prune",
    "model": f"in/{HOSTILE}.onnx",
    "out": "in/small.onnx",
    "passed": False,
    "seconds": 1.5,
    "before": {"macs": 2e6, "params": 1000, "size_bytes": 4096},
    "after": {"macs": 1e6, "params": 500, "size_bytes": 2048},
    "latency_ms": {"before": 2.0, "after": 1.0, "speedup": 2.0},
    "accuracy": {"before": {HOSTILE: 0.9}, "after": {HOSTILE: 0.88}, "drop": {HOSTILE: LOST}},
    "steps": [
        {"pass": HOSTILE, "size_bytes": 3000, "macs": 1e6, "accuracy": None, "sqnr_db": None, "seconds": 1.0},
        {
            "pass": "quantize",
            "size_bytes": 2048,
            "macs": 1e6,
            "accuracy": {"top1": 0.88},
            "sqnr_db": 21.0,
            "seconds": 0.5,
        },
    ],
    "gates": GATES,
    "notes": [HOSTILE],
    "warnings": [HOSTILE],
}
FAILED = {"command": "prune", "model": HOSTILE, "error": {"what": f"bad {HOSTILE}", "why": HOSTILE, "fix": ""}}
DONE = {"command": "quantize", "model": "a.onnx", "out": "b.onnx", "passed": True, "gates": [], "notes": []}


@pytest.mark.parametrize("report", [FULL, FAILED, DONE], ids=["full", "failed", "done"])
@pytest.mark.parametrize("render", [junit.render, markdown.render, github.render, github.outputs])
def test_nothing_steers_whoever_reads_it(render: Callable[[Mapping[str, Any]], str], report: Mapping[str, Any]) -> None:
    text = render(report)
    assert not set(text) & set("\x1b\x00\u202e\r")


def test_junit_has_a_case_for_each_gate() -> None:
    root = ElementTree.fromstring(junit.render(FULL).encode())
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "2", "0")
    cases = suite.findall("testcase")
    assert [case.find("failure") is not None for case in cases] == [True, True, False]
    assert "it is 2,048 B" in str(cases[0].find("failure").get("message"))  # type: ignore[union-attr]
    assert "not measured" in str(cases[1].find("failure").get("message"))  # type: ignore[union-attr]
    assert cases[1].get("name", "").startswith("a|b`c``<b>&]]>\\x1b[31m")
    error = ElementTree.fromstring(junit.render(FAILED).encode())[0]
    assert error.get("errors") == "1"
    assert ElementTree.fromstring(junit.render(DONE).encode())[0].get("failures") == "0"


def test_markdown_tables_keep_their_columns() -> None:
    text = markdown.render(FULL)
    assert "2 of 3 gates missed" in text
    for line in text.splitlines():
        if line.startswith("|"):
            bare = re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", lambda m: m[2].replace("\\|", ""), line).replace(
                "\\|", ""
            )
            assert bare.count("|") in (4, 5, 7), line
    assert "<b>" not in re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", text)
    assert "loses 2.00 points on 900 samples; the loss is 0.50 to 3.50 with 95 % confidence" in text
    assert "21.0 dB" in text
    assert markdown.render(DONE).startswith("### ✅ intaglio quantize: `a.onnx` → `b.onnx`\n\n**done**\n")
    assert "failed: bad" in markdown.render(FAILED)


def test_annotations_are_one_line_each_and_their_parts_stay_apart() -> None:
    lines = github.render(FULL).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::notice", "::warning"]
    assert all(line.count("::") >= 2 and re.match(r"::\w+ title=[^:,]*::", line) for line in lines)
    assert re.match(r"::error title=bad [^:,]*::", github.render(FAILED))
    assert github.outputs(FULL) == "passed=false\nout=in/small.onnx\nsize_bytes=2048\n"
    assert github.outputs({**DONE, "out": "x\npassed=true"}).count("\n") == 3
