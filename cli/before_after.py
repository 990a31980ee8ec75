"""What commands that change a model tell alike: what the change cost, before and after side by side, and what noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..graph.errors import UsageError
from . import console

if TYPE_CHECKING:
    from ..pipeline.report import Report

_CLEAN_DB = 40.0
"""Layers above are not worth a word of advice."""
_NEAR_DB, _LITTLE = 30.0, 0.1
"""Outputs above are near enough, and so many points, or percent, are no loss to speak of."""


def needs_data(preprocess: str | None, samples: int | None) -> None:
    """Raises UsageError for options that say something of data, as there is none."""
    for name, value in (("--preprocess", preprocess), ("--samples", samples)):
        if value is not None:
            raise UsageError(f"{name} says nothing without data", fix="leave it out, or add --data")


def samples_text(result: dict[str, Any]) -> str:
    """How many samples of which kind a pass was calibrated on."""
    kinds = {"id": "samples", "ood": "samples of another kind", "noise": "made-up samples"}
    what = {**kinds, "distilled": "samples made from what BatchNormalization kept"}[result["dialect"]]
    return f"{result['samples']:,} {what}{' and their mirror images' if result['mirrored'] else ''}"


def efficiency_text(figures: Mapping[str, float]) -> str:
    """BiBench's figures in one line; ``figures`` as ``measure.efficiency`` gives them."""
    return (
        f"BiBench: theoretical speed-up {figures['speedup']:.2f} x, weights {figures['storage']:.2f} x smaller, "
        f"overall {figures['overall']:.2f}"
    )


def emit(report: Report, show: Callable[[dict[str, Any]], None]) -> None:
    """Print a report: as JSON, or through ``show`` and what all reports end with."""
    result = report.as_dict()

    def tell() -> None:
        if report.change.changed:
            show(result)
            tell_drops(result)
        for note in report.notes:
            console.line(f"note: {note}")
        tell_gates(result)
        if report.change.changed:
            searched = report.found.get("search_seconds")
            found = "" if searched is None else f", found in {searched:.0f} s"
            console.line(f"wrote {report.out} in {report.change.seconds:.1f} s{found}")

    console.emit(result, tell, failed=report.failed)


def tell_drops(result: Mapping[str, Any]) -> None:
    """What accuracy was lost, and how sure that is."""
    from ..measure.paired import Drop, told

    if "accuracy" not in result:
        console.line("accuracy not measured: give --eval-data to see what it cost")
    for name, one in list(result.get("accuracy", {}).get("drop", {}).items())[:1]:
        console.line(told(name, Drop.of(one)))


def tell_gates(result: Mapping[str, Any]) -> None:
    """Each gate with its value."""
    from ..pipeline.formats.rows import gates

    if rows := gates(result):
        console.table("gates", ("gate", "value", ""), rows)


def amounts_table(result: dict[str, Any]) -> None:
    """Both models side by side, and what reading alone gained."""
    from ..pipeline.formats.rows import amounts, lossless

    console.table(result["out"], ("", "before", "after", "kept"), list(amounts(result)))
    if told := lossless(result):
        console.line(told)
    console.line()


def tell_noise(result: dict[str, Any]) -> None:
    """Of the outputs, and of the worst layers what may help."""
    for name, ratio in result["sqnr_db"].items():
        console.line(f"output {name}: signal to noise {decibels(ratio)}")
    for one in result["worst"] if _suffers(result) or console.mode.verbose else ():
        if one["sqnr_db"] < _CLEAN_DB:
            console.line(f"noisy: {one['name']} at {decibels(one['sqnr_db'])}; {one['advice']}")


def _suffers(result: Mapping[str, Any]) -> bool:
    """Whether outputs are noisy, or where accuracy is known, that is lost."""
    from ..measure.paired import losses

    lost = [one.points for one in losses(result).values()]
    return (
        max(lost) > _LITTLE if lost else any(one is not None and one < _NEAR_DB for one in result["sqnr_db"].values())
    )


def tell_skipped(result: dict[str, Any], *, label: str) -> None:
    """What stays in float and why, and what keeps more bits than was asked for."""
    from ..graph.bits import IN_BITS

    for reason, names in _by_reason(result["skipped"]).items():
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        console.line(f"left {'as it is' if reason == IN_BITS else 'in float'}: {shown}: {reason}")
    if result["higher_precision"]:
        console.line(f"{label} {', '.join(result['higher_precision'])}, to stay within --max-drop")


def _by_reason(skipped: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        found.setdefault(reason, []).append(name)
    return found


def decibels(value: float | None) -> str:
    return console.number(value, 1, " dB")
