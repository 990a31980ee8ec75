"""What a piece of work gives as text and back: numbers, arrays, and dataclasses of ours that hold them, to the last bit."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ...graph.errors import UsageError
from ...graph.io.spill import spilled
from ...graph.lazy import imported

_ARRAY, _CLASS, _TUPLE = "array", "class", "tuple"
_OURS = __name__.partition(".")[0]


def text_of(found: Any) -> str:
    """Raises TypeError for what is no such thing."""
    return json.dumps(_plain(found))


def read(text: str) -> Any:
    """Raises UsageError for a class that is none of ours."""
    return _made(json.loads(text))


def _plain(found: Any) -> Any:
    if isinstance(found, (np.ndarray, np.generic)):
        file = io.BytesIO()
        np.save(file, np.asarray(found), allow_pickle=False)
        return {_ARRAY: base64.b64encode(file.getvalue()).decode()}
    if is_dataclass(found) and not isinstance(found, type):
        own = {one.name: _plain(getattr(found, one.name)) for one in fields(found) if one.init}
        return {_CLASS: f"{type(found).__module__}:{type(found).__qualname__}", "of": own}
    if isinstance(found, tuple):
        return {_TUPLE: [_plain(one) for one in found]}
    if isinstance(found, list):
        return [_plain(one) for one in found]
    if isinstance(found, Mapping):
        return {"of": {key: _plain(one) for key, one in found.items()}}
    return found


def _made(told: Any) -> Any:
    if isinstance(told, list):
        return [_made(one) for one in told]
    if not isinstance(told, dict):
        return told
    if _ARRAY in told:
        return spilled(np.load(io.BytesIO(base64.b64decode(told[_ARRAY])), allow_pickle=False))
    if _TUPLE in told:
        return tuple(_made(one) for one in told[_TUPLE])
    own = {key: _made(one) for key, one in told["of"].items()}
    return _class(told[_CLASS])(**own) if _CLASS in told else own


def _class(name: str) -> Any:
    found = imported(name, UsageError) if name.partition(".")[0] == _OURS else None
    if not is_dataclass(found):
        raise UsageError(f"{name} is no dataclass of {_OURS}")
    return found
