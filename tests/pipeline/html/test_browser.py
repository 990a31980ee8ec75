"""A browser opens the page: it plots, complains of nothing, asks for nothing, and fits a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from intaglio.pipeline.html import render

from .chromium import FOUND, Browser, browser
from .reports import searched
from .test_page import NAMES

pytestmark = pytest.mark.skipif(FOUND is None, reason="no Chromium is installed")
SCREENS = [(1100, False), (1100, True), (360, False), (360, True)]
HOSTILE = (NAMES * 3)[:30]
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_CONTRAST = """(() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = text => {
    const [r, g, b] = numbers(text).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = one => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const one of document.querySelectorAll("main *")) {
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    if (!one.checkVisibility()) continue;
    const style = getComputedStyle(one);
    const [a, b] = [light(one.closest("svg") ? style.fill : style.color), light(behind(one))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5 && !one.classList.contains("mark")) low.push(one.outerHTML.slice(0, 120));
  }
  return low;
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(searched()))
    return path


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_it_opens_plots_and_asks_for_nothing(page: Browser, report: Path, width: int, dark: bool) -> None:
    page.show(report, width=width, dark=dark)
    assert page.complaints() == []
    assert page.requests() == [report.as_uri()]
    assert page.ask("document.title").startswith("5.0 times smaller")
    assert page.ask("document.querySelectorAll('figure svg circle').length") > 40
    seen = "[...document.querySelectorAll('circle')].every(c => c.getBoundingClientRect().width > 5)"
    assert page.ask(seen)


def test_what_a_page_must_not_do_would_be_noticed(page: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text(render(searched()).replace("<h1>", "<script>alert(1)</script><img src='other.png'><h1>"))
    page.show(path)
    assert len(page.complaints()) == 2
    path.write_text("<script>console.log(1)</script><img src='other.png'>")
    page.show(path)
    assert len(page.complaints()) >= 2
    assert len(page.requests()) == 2


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_nothing_is_wider_than_the_screen(page: Browser, report: Path, width: int, dark: bool) -> None:
    page.show(report, width=width, dark=dark)
    page.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.ask(OVERFLOW) == 0
    assert page.ask("[...document.querySelectorAll('.scroll')].some(one => one.scrollWidth > one.clientWidth)")


@pytest.mark.parametrize("width", [360, 1100])
def test_texts_and_points_of_a_plot_stay_inside_of_it(page: Browser, report: Path, width: int) -> None:
    page.show(report, width=width)
    outside = """[...document.querySelectorAll('svg text, svg circle')].filter(one => {
      const own = one.getBoundingClientRect(), all = one.closest('figure').getBoundingClientRect();
      return own.left < all.left || own.right > all.right || own.top < all.top || own.bottom > all.bottom;
    }).map(one => one.outerHTML)"""
    assert page.ask(outside) == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(page: Browser, report: Path, dark: bool) -> None:
    page.show(report, dark=dark)
    assert page.ask("matchMedia('(prefers-color-scheme: dark)').matches") == dark
    page.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.ask(_CONTRAST) == []


@pytest.mark.parametrize("width", [360, 1100])
def test_hostile_names_do_nothing(page: Browser, tmp_path: Path, width: int) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(render(searched([f"{i}{name}" for i, name in enumerate(HOSTILE)])))
    page.show(path, width=width)
    page.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.complaints() == []
    assert page.requests() == [path.as_uri()]
    assert page.ask("document.scripts.length + document.images.length") == 0
    assert page.ask(OVERFLOW) == 0


def test_a_point_leads_to_its_row(page: Browser, report: Path) -> None:
    page.show(report)
    page.ask("document.querySelector('a[href=\"#point-38\"]').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert page.ask("document.querySelector('tr:target').id") == "point-38"
    assert page.ask("document.querySelector('tr:target').checkVisibility()")


def test_every_part_has_a_name_for_those_who_do_not_see_it(page: Browser, report: Path) -> None:
    page.show(report)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    shown = [one for one in nodes if not one.get("ignored")]
    for role in ("heading", "link", "table", "region", "figure"):
        found = [one for one in shown if one.get("role", {}).get("value") == role]
        assert found, role
        assert all(one.get("name", {}).get("value") for one in found), role
    levels = page.ask("[...document.querySelectorAll('h1,h2,h3')].map(one => one.tagName)")
    assert levels[0] == "H1"
    assert set(levels[1:]) == {"H2"}


def test_it_prints_on_white_whatever_the_screen_is(page: Browser, report: Path) -> None:
    page.show(report, width=720, dark=True)
    page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.ask("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    cut = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    assert page.ask(cut) == 0, "paper cannot be scrolled"
    page.call("Emulation.setEmulatedMedia", media="")
    assert len(page.call("Page.printToPDF")["data"]) > 10_000
