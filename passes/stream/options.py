"""Options of streaming."""

from __future__ import annotations

from ..options import Options, option


class StreamOptions(Options):
    hop: int = option(..., "Samples of the axis that are new in each run.", "target", ge=1)
    axis: str = option(
        "time",
        "The axis that goes on: the name of a free size, or a number; INPUT:AXIS where several inputs may be meant.",
        "target",
        shown="time: of that name, else the longest axis of the first input",
    )
    window: int | None = option(
        None,
        "Samples that the model looks at in one run, where its axis is free.",
        "target",
        shown="the length of the axis; a free one is the whole signal",
        ge=1,
    )
    exact: bool = option(
        False,
        "Compute on the whole window, each time, what would come out otherwise: padded and recurrent layers.",
        "method",
    )
    hops: int = option(100, "Runs that are compared with the model as it was.", "accuracy", ge=1)
