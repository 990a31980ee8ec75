"""Which output a metric looks at, where a model has several."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from pydantic import BaseModel, Field

from ...graph.errors import BadData, UsageError


class Output(BaseModel):
    """Options of a metric of one output."""

    output: str = Field(default="", description="the output to look at, where several could be meant")


def chosen(outputs: Mapping[str, np.ndarray], name: str, fits: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
    """The output of that name, or the only one that ``fits``, which are those of ``what``.

    Raises:
        UsageError: there is none of that name, or several could be meant.
        BadData: none fits.
    """
    if name and name not in outputs:
        raise UsageError(f"there is no output {name!r}", fix=f"choose one of {', '.join(outputs)}")
    arrays = {key: value for key, value in outputs.items() if isinstance(value, np.ndarray) and name in ("", key)}
    fitting = [key for key, value in arrays.items() if fits(value)]
    if len(fitting) > 1:
        fix = f"name it behind the metric: METRIC:output={fitting[0]}"
        raise UsageError(f"several outputs could be {what}", why=", ".join(fitting), fix=fix)
    if not fitting:
        told = ", ".join(f"{key} {value.shape}" for key, value in arrays.items())
        raise BadData(f"no output has {what}", why=f"the model gives {told}")
    return arrays[fitting[0]]
