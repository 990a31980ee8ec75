"""``intaglio groups``: which channels can only go together, and what keeps the others in place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from .. import console
from ..options import Debug, Json, ModelPath, Shapes, Values, option, read_model

if TYPE_CHECKING:
    from ...graph.coupling import Group


def groups(
    model: ModelPath,
    frozen: Annotated[bool, option("--frozen", "Only groups that cannot be pruned, and why.")] = False,
    members: Annotated[bool, option("--members", "Also list every tensor axis of each group.")] = False,
    shape: Shapes = None,
    value: Values = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the coupled channels of a model, and what freezes the rest.

    Example: intaglio groups model.onnx --frozen
    """
    import time

    from ...graph.bodies import all_bodies
    from ...graph.coupling import analyse

    loaded = read_model(model, shape, value)
    start = time.perf_counter()
    couplings = {"": analyse(loaded), **{f"{body.name}/": analyse(body.model) for body in all_bodies(loaded)}}
    found = [_inside(inside, group) for inside, one in couplings.items() for group in one.groups]
    seconds = time.perf_counter() - start
    shown = [g for g in found if not frozen or not g.prunable]
    faults = [
        f"frozen by mistake, please report: {failure}" for one in couplings.values() for failure in one.trace.failures
    ]
    notes = [*loaded.notes, *faults]
    result = {"model": str(model), "groups": [_plain(g) for g in shown], "notes": notes, "seconds": seconds}

    def show() -> None:
        console.table(str(model), _COLUMNS, [_row(g) for g in shown])
        if members:
            for group in shown:
                console.line()
                console.line(group.name)
                for tensor, axis in group.members:
                    console.line(f"  {tensor} axis {axis}")
        prunable = sum(g.prunable for g in found)
        console.line()
        console.line(f"{console.count(len(found), 'group')}, {prunable} prunable, found in {seconds * 1e3:.0f} ms")

    console.notes(notes)
    console.emit(result, show)


_COLUMNS = ("group", "channels", "couples", "params/channel", "MACs/channel", "kind", "frozen by")


def _inside(body: str, group: Group) -> Group:
    """A group with the name of the body that it lies in, whose ends are none of the graph."""
    from ...graph.bodies import ENDS
    from ...graph.coupling.labels import Why

    why = group.frozen_by
    if body and why is not None and why.op in ENDS:
        why = Why(why.node, *ENDS[why.op])
    return replace(group, name=f"{body}{group.name}", frozen_by=why)


def _plain(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "channels": group.channels,
        "prunable": group.prunable,
        "exact": group.exact,
        "frozen_by": str(group.frozen_by) if group.frozen_by else None,
        "inexact_by": str(group.inexact_by) if group.inexact_by else None,
        "bundle": group.bundle if group.bundle >= 0 else None,
        "members": [{"tensor": tensor, "axis": axis} for tensor, axis in group.members],
        "params": round(group.params),
        "macs": round(group.macs),
    }


def _row(group: Group) -> tuple[object, ...]:
    kind = "frozen" if not group.prunable else "exact" if group.exact else "inexact"
    return (
        group.name,
        group.channels,
        _couples(group),
        console.human(group.params),
        console.human(group.macs),
        kind,
        str(group.frozen_by or ""),
    )


def _couples(group: Group) -> str:
    """The first tensors, and how many more."""
    names = list(dict.fromkeys(tensor for tensor, _ in group.members))
    more = f" +{len(names) - 2}" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
