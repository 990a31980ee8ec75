"""A report as Markdown for the comment of a pull request: verdict, gates, both models side by side, each pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ...measure.paired import Drop, told
from ..text import harmless
from .rows import STEPS, amounts, failed, gates, listed, lossless, steps, verdict


def render(report: Mapping[str, Any]) -> str:
    return "\n".join(_lines(report)).rstrip() + "\n"


def code(text: str) -> str:
    """A name as code, whatever stands in it: nothing in it is Markdown, HTML, a mention or the end of a cell."""
    text = harmless(text, lines=False).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text[:1] in ("`", " ") or text[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{text or ' '}{pad}{fence}"


def sentence(text: str) -> str:
    """A sentence that may hold names: shown as it is, on one line."""
    text = harmless(text, lines=False).replace("&", "&amp;").replace("<", "&lt;").replace("@", "@\u200b")
    return re.sub(r"([\\`*_{}\[\]()#|~!>])", r"\\\1", text)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """First columns are names."""
    yield f"| {' | '.join(heads)} |"
    yield f"| --- |{' ---: |' * (len(heads) - 1)}"
    for first, *rest in rows:
        yield f"| {code(first)} | {' | '.join(map(sentence, rest))} |"
    yield ""


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    names = [PurePath(str(report[key])).name for key in ("model", "out") if report.get(key)]
    mark = "❌" if failed(report) else "✅"
    of = f": {' → '.join(map(code, names))}" if names else ""
    yield f"### {mark} intaglio {sentence(report['command'])}{of}"
    yield ""
    yield f"**{sentence(verdict(report))}**"
    yield ""
    for key in ("why", "fix"):
        if text := report.get("error", {}).get(key):
            yield f"{key}: {sentence(text)}"
            yield ""
    if rows := gates(report):
        yield from table(("gate", "value", ""), rows)
    if "before" in report:
        yield from table(("", "before", "after", "kept"), amounts(report))
    if gained := lossless(report):
        yield sentence(gained)
        yield ""
    for name, one in ((report.get("accuracy") or {}).get("drop") or {}).items():
        yield sentence(told(name, Drop.of(one)))
        yield ""
    if made := steps(report):
        yield from table(STEPS, made)
    for heads, found in listed(report):
        if found:
            yield from table(heads, found)
    for warning in report.get("warnings", ()):
        yield f"> **warning**: {sentence(warning)}"
        yield ""
    if notes := report.get("notes"):
        yield "<details><summary>notes</summary>"
        yield ""
        yield from (f"- {sentence(note)}" for note in notes)
        yield ""
        yield "</details>"
