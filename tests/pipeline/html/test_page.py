"""The page says what the report says, and nothing in a report can be more than text in it."""

from __future__ import annotations

import copy
import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import PruneChannels, Quantize, run
from intaglio.pipeline.formats import markdown
from intaglio.pipeline.formats.rows import lossless
from intaglio.pipeline.html import render
from intaglio.pipeline.html.figures import LONGEST, shown
from intaglio.pipeline.text import STEERING

from .reports import searched

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
LARGEST = 1_000_000
NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><b>",
    "</title></svg></table>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;&#x3c;",
    "\x1b]0;title\x07\x1b[2J\x9b31m",
    "\u202egnp.exe\u2066",
    "\ud800",
    "<!-- -->]]>",
    "a\nb\r\nc\x00",
    "=1+1",
    "javascript:alert(1)",
]
STATES = ("good", "bad", "warn", "plain")


class Skeleton(HTMLParser):
    """Tags with the names of their attributes, but for classes; the values of attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.text: list[str] = []
        self.others: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs if name != "class")))  # long text has one
        self.values += [value or "" for _, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)


def cells(page: str) -> list[str]:
    return [one.strip() for one in Skeleton(page).text if one.strip()]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(NAMES) | st.text(max_size=20), min_size=8, max_size=8))
def test_names_are_text_and_nothing_else(names: list[str]) -> None:
    plain = Skeleton(render(searched([f"name {i}" for i in range(8)])))
    page = render(searched([f"{i}{name}" for i, name in enumerate(names)]))
    page.encode()
    hostile = Skeleton(page)
    assert hostile.tags == plain.tags
    assert hostile.others == plain.others == ["doctype html"]
    assert not set(map(chr, STEERING)) & set(page)
    for i, name in enumerate(names):
        told = shown(f"{i}{name}")
        assert any(told in one for one in hostile.text)
        assert i == 0 or any(told in one for one in hostile.values), "the tooltip of its point, if it was measured"


def test_a_long_name_is_shown_by_its_ends() -> None:
    page = render({**searched(["a" * 5000 + "z"] + ["b"] * 7), "recipe": None})
    assert f"{'a' * (LONGEST // 2)} … {'a' * (LONGEST // 2 - 1)}z" in page
    assert "a" * 2001 not in page


def test_a_recipe_can_be_copied_whatever_names_it_holds() -> None:
    names = [f"{i}{name}" for i, name in enumerate(NAMES)] + ["größer"]
    report = searched(names)
    report["recipe"] = {"passes": [{"pass": "prune", "include": names}]}
    (copied,) = re.findall("<pre[^>]*>(.*?)</pre>", render(report), re.DOTALL)
    told = yaml.safe_load(html.unescape(copied))
    assert [one.replace("$$", "$") for one in told["passes"][0]["include"]] == names


def test_nothing_is_run_and_nothing_is_loaded() -> None:
    page = Skeleton(render(searched()))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert not [name for _, names in page.tags for name in names if name.startswith("on") or name in ("src", "srcset")]
    assert not [value for value in page.values if re.match(r"\s*(https?:|//|data:|javascript:)", value)] or [
        value for value in page.values if value == "http://www.w3.org/2000/svg"
    ]
    assert not re.search(r"url\(|@import", render(searched()))


def test_the_same_report_is_the_same_page() -> None:
    report = searched()
    before = copy.deepcopy(report)
    assert render(report) == render(json.loads(json.dumps(report)))
    assert report == before


def test_every_point_stands_in_the_table_and_each_that_is_measured_in_the_picture() -> None:
    report = searched()
    page = render(report)
    places = set(re.findall(r'<tr id="(point-\d+)">', page))
    assert places == {f"point-{i}" for i in range(len(report["points"]))}
    measured = {f"point-{i}" for i, one in enumerate(report["points"]) if one["accuracy"]}
    for figure in re.findall(r"<figure.*?</figure>", page, re.DOTALL):
        assert set(re.findall(r'href="#(point-\d+)"', figure)) == measured
        assert len(re.findall(r'class="mark chosen"', figure)) == 1
    assert page.count("<figure") == 2


def test_the_front_joins_only_points_that_nothing_smaller_beats() -> None:
    report = searched()
    tried = [one for one in report["points"] if one["accuracy"]]
    best = [
        one
        for one in tried
        if not any(
            other["kept"]["size_bytes"] < one["kept"]["size_bytes"]
            and other["accuracy"]["top1"] >= one["accuracy"]["top1"]
            for other in tried
        )
    ]
    first = re.search(r"<figure.*?</figure>", render(report), re.DOTALL)
    assert first
    assert first[0].count('class="front"') == len(best) - 1


@pytest.mark.parametrize("key", ["accuracy", "latency_ratio", "kept", "latency_ms", "sqnr_db", "told"])
def test_points_may_lack_what_was_not_measured(key: str) -> None:
    report = searched()
    for one in report["points"]:
        one[key] = None
    assert render(report).count("<tr id=") == len(report["points"])


def _state(report: dict[str, Any]) -> tuple[str, str]:
    found = re.search(r'<header class="verdict (\w+)">.*?<h1>(.*?)</h1>', render(report), re.DOTALL)
    assert found
    assert found[1] in STATES
    return found[1], found[2]


def test_the_verdict_comes_first_and_says_what_matters() -> None:
    report = searched()
    assert _state(report) == ("good", "5.0 times smaller, 2.3 times as fast, top1 91.10 % (-0.45 points)")
    report["gates"][1] |= {"passed": False}
    assert _state(report) == ("bad", "1 of 2 gates missed")
    assert "✗ missed" in render(report)
    assert _state({"model": "a.onnx", "changed": False, "notes": []}) == ("plain", "Nothing was changed")
    assert _state({"error": {"what": "broken", "why": "because", "fix": ""}}) == ("bad", "broken")
    assert _state({}) == ("plain", "Done")


def test_warnings_stand_under_the_verdict() -> None:
    state, told = _state({**searched(), "warnings": ["top1 fell by 61.0 points"]})
    assert (state, told[:9]) == ("warn", "5.0 times")
    page = cells(render({**searched(), "warnings": ["top1 fell by 61.0 points"]}))
    assert page.index("top1 fell by 61.0 points") < page.index("Gates")


def test_a_result_outside_its_limits_says_so() -> None:
    report = {**searched(), "gates": []}
    report["points"][4]["meets"] = False
    assert _state(report)[0] == "bad"


def test_what_is_measured_at_the_end_counts_beside_what_the_search_saw() -> None:
    report = searched()
    report["latency_ms"] |= {"after": 1.5, "speedup": 1.6}
    state, _ = _state(report)
    assert state == "warn"
    assert "time: 62.5 % is left, at most 48.0 % was asked for" in cells(render(report))
    report["accuracy"]["after"]["top1"] = 0.9
    assert "accuracy: 1.55 points are lost, at most 1 were asked for" in cells(render(report))


def test_cards_have_both_sides_and_the_interval() -> None:
    page = cells(render(searched()))
    for text in ("219 kB", "was 1.09 MB", "20.0 % left", "1.1 ms", "was 2.5 ms", "91.10 %", "-0.45 points"):
        assert text in page
    assert "95 % sure: -0.92 to +0.31 points, 10,000 samples" in page


def test_numbers_that_are_none_are_dashes() -> None:
    report = searched()
    report["accuracy"]["drop"] = {}
    report["steps"][1]["details"]["layers"][0]["weight_error"] = math.nan
    report["points"][3]["latency_ms"] = math.inf
    page = render(report)
    assert "nan" not in page.lower().replace("onnan", "")
    assert "inf " not in page


def test_a_huge_model_makes_a_small_page() -> None:
    names = [f"/model/encoder/layer.{i}/attention/self/query/MatMul" for i in range(2000)]
    page = render(searched(names, points=300))
    assert len(page.encode()) < LARGEST
    assert "the 20 of 2,000 with the lowest SQNR" in page
    assert "1,250 more are in the report as JSON." in page


def test_a_run_of_two_passes_is_told_whole(tmp_path: Path) -> None:
    data, labelled = str(EXAMPLES / "digits_calib.npz"), str(EXAMPLES / "digits_test.npz")
    passes = [PruneChannels(target="macs", keep=0.5), Quantize()]
    report = run(
        EXAMPLES / "digits.onnx", passes, data=data, eval_data=labelled, samples=64, out=tmp_path / "small.onnx"
    )
    told = report.as_dict()
    page = cells(render(told))
    assert {"1. prune", "2. quantize"} <= set(page)
    for one in told["steps"][0]["details"]["groups"]:
        assert one["name"] in page
    for one in told["steps"][1]["details"]["layers"]:
        assert one["name"] in page
    assert len(render(told)) < 60_000


def test_what_reading_alone_gained_has_a_line_of_its_own_that_all_forms_share() -> None:
    gained: dict[str, Any] = {"size_bytes": {"before": 2000, "after": 1500}, "nodes": {"before": 31, "after": 17}}
    gained |= {"notes": ["one node"], "latency_ms": {"before": 2.5, "after": 2.25}}
    report = {"command": "compress", "before": {"macs": 4}, "after": {"macs": 2}, "lossless": gained}
    line = "f this without loss, by reading it alone: 2 kB to 1.5 kB, 31 to 17 nodes, 2.5 to 2.25 ms"
    assert lossless(report) == f"o{line}"
    assert f'<p class="more">O{line}</p>' in render(report)
    assert f"f{line[1:]}" in markdown.render(report)
    without = {key: one for key, one in report.items() if key != "lossless"}
    assert "by reading it alone" not in render(without)
