"""If, Loop and Scan as blocks of Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import onnx

from ...graph.nodes import attribute, display_name

Body = Callable[[onnx.GraphProto, Sequence[str]], tuple[list[str], list[str]]]
"""Writes a graph that is handed these expressions: its lines, and the expressions of its outputs."""
Name = Callable[[str], str]
"""A name for a variable, which no other has."""


def branch(
    node: onnx.NodeProto, given: Sequence[str | None], made: Sequence[str], body: Body, name: Name
) -> Iterator[str]:
    yield f"if {given[0]}:  # If {_title(node)}"
    for word, label in (("", "then_branch"), ("else:", "else_branch")):
        lines, ends = body(attribute(node, label), [])
        yield from [word] if word else []
        yield from _indented([*lines, _assigned(made, ends)])


def loop(
    node: onnx.NodeProto, given: Sequence[str | None], made: Sequence[str], body: Body, name: Name
) -> Iterator[str]:
    graph = attribute(node, "body")
    first = [str(one) for one in given[2:]]
    states, lists, turn, more = _names(node, graph, len(first), 1, name)
    limit = "" if given[0] is None else f" and {turn} < {given[0]}"
    lines, (again, *ends) = body(graph, [f"torch.tensor({turn})", "torch.tensor(True)", *states])
    yield f"{turn}, {more} = 0, {'True' if len(given) < 2 or given[1] is None else given[1]}"
    yield from _started(states, first, lists)
    yield f"while {more}{limit}:  # Loop {_title(node)}"
    yield from _indented([*lines, *_kept(states, ends, lists), f"{turn}, {more} = {turn} + 1, {again}"])
    yield from _ended(node, made, states, lists)


def scan(
    node: onnx.NodeProto, given: Sequence[str | None], made: Sequence[str], body: Body, name: Name
) -> Iterator[str]:
    graph, count = attribute(node, "body"), attribute(node, "num_scan_inputs")
    first = [str(one) for one in given[: len(given) - count]]
    states, lists, *_ = _names(node, graph, len(first), 0, name)
    axes, turned = (attribute(node, f"scan_input_{one}") or [0] * count for one in ("axes", "directions"))
    rows = [
        f"{one}{f'.flip({axis})' if back else ''}.unbind({axis})"
        for one, axis, back in zip(given[len(first) :], axes, turned, strict=True)
    ]
    parts = [name(f"{value.name}_part") for value in list(graph.input)[len(first) :]]
    lines, ends = body(graph, [*states, *parts])
    yield from _started(states, first, lists)
    yield f"for {', '.join(parts)}{',' if len(parts) == 1 else ''} in zip({', '.join(rows)}):  # Scan {_title(node)}"
    yield from _indented([*lines, *_kept(states, ends, lists)] or ["pass"])
    yield from _ended(node, made, states, lists)


WRITTEN = {"If": branch, "Loop": loop, "Scan": scan}


def _names(
    node: onnx.NodeProto, graph: onnx.GraphProto, count: int, told: int, name: Name
) -> tuple[list[str], list[str], str, str]:
    """For states, for lists of what each turn makes, for the number of the turn, and for whether there is another."""
    ends = [value.name for value in graph.output][told:]
    states, lists = (
        [name(f"{one}_{kind}") for one in part] for part, kind in ((ends[:count], "state"), (ends[count:], "list"))
    )
    return states, lists, name("turn"), name("more")


def _started(states: Sequence[str], first: Sequence[str], lists: Sequence[str]) -> Iterator[str]:
    if states:
        yield _assigned(states, first)
    yield from (f"{one} = []" for one in lists)


def _kept(states: Sequence[str], ends: Sequence[str], lists: Sequence[str]) -> Iterator[str]:
    yield from (f"{one}.append({end})" for one, end in zip(lists, ends[len(states) :], strict=True))
    if states:
        yield _assigned(states, ends[: len(states)])


def _ended(node: onnx.NodeProto, made: Sequence[str], states: Sequence[str], lists: Sequence[str]) -> Iterator[str]:
    axes = attribute(node, "scan_output_axes") or [0] * len(lists)
    turned = attribute(node, "scan_output_directions") or [0] * len(lists)
    stacks = [
        f"torch.stack({one}{'[::-1]' if back else ''}, {axis})"
        for one, axis, back in zip(lists, axes, turned, strict=True)
    ]
    pairs = [(left, right) for left, right in zip(made, [*states, *stacks], strict=False) if left != "_"]
    if pairs:
        yield _assigned([left for left, _ in pairs], [right for _, right in pairs])


def _assigned(left: Sequence[str], right: Sequence[str]) -> str:
    return f"{', '.join(left)} = {', '.join(right)}" if left else "pass"


def _indented(lines: Sequence[str]) -> Iterator[str]:
    yield from (f"    {line}" for line in lines)


def _title(node: onnx.NodeProto) -> str:
    return ascii(display_name(node))[1:-1]
