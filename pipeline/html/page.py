"""The page: what a report tells, put into templates that escape whatever they are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...graph.version import VERSION
from .. import gates
from ..formats.rows import lossless
from ..recipe.write import as_yaml
from .figures import figure, label, seconds, shown
from .plot import plots
from .steps import steps
from .summary import cards, verdict
from .tables import parts, points_table

if TYPE_CHECKING:
    import jinja2

_LONGEST = 200_000
_TOO_LONG = "# Too long for a page. The metadata of the model that was written have it."


def render(report: Mapping[str, Any]) -> str:
    """A report, as ``Report.as_dict()`` gives it, as one HTML file. The same report makes the same bytes.

    The page runs no script and loads nothing; its policy forbids both, whatever a name in it holds.
    """
    template = _environment().get_template("page.html")
    return template.render(
        report=report,
        version=VERSION,
        verdict=verdict(report),
        cards=list(cards(report)),
        lossless=lossless(report),
        plots=list(plots(report)),
        points=points_table(report),
        steps=list(steps(report)),
        searched=seconds(found) if (found := report.get("search_seconds")) else "",
        parts=list(parts(report)),
        recipe=_recipe(report.get("recipe")),
        surroundings=list(_surroundings(report)),
        notes=list(dict.fromkeys(report.get("notes") or ())),
    )


def _environment() -> jinja2.Environment:
    import jinja2

    def told(value: Any) -> Any:
        """What stands in the page: text that steers nothing. It is escaped after this."""
        return shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    options: dict[str, Any] = {"autoescape": True, "finalize": told, "undefined": jinja2.StrictUndefined}
    made = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, **options)
    made.filters |= {"in_unit": gates.shown}
    return made


def _recipe(recipe: Mapping[str, Any] | None) -> str:
    """As a file that can be copied and run."""
    if not recipe:
        return ""
    from markupsafe import Markup

    text = as_yaml(recipe)
    return Markup.escape(text if len(text) <= _LONGEST else _TOO_LONG)


def _surroundings(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where and with what it was made."""
    for key in ("command", "target"):
        if report.get(key):
            yield label(key), figure(key, report[key])
    yield "intaglio", str(report.get("version") or VERSION)
    if machine := (report.get("latency_ms") or {}).get("machine"):
        yield "timed on", machine
    yield from ((label(name), figure(name, one)) for name, one in (report.get("environment") or {}).items())
    for one in report.get("plugins") or ():
        yield f"{one['kind']} {one['name']}", f"{one['package']} {one['version']}"
