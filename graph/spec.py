"""How a thing that can be plugged in is named together with its options: ``name:option=value,...``, or a mapping."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from .errors import UsageError

Spec = str | Mapping[str, Any]
_QUOTED = r'"(?:\\.|[^"\\])*"'
_PART = rf'(?:[^,"\[{{]|{_QUOTED}|\[(?:{_QUOTED}|[^\]"])*\]|{{(?:{_QUOTED}|[^}}"])*}})+'
"""What stands between commas; those in quotes and brackets do not count."""
_PLAIN = r'[^\s,"\[\]{}]*'
_JSON = ('"', "[", "{")


def in_a_file(name: str) -> bool:
    """Whether a name is ``file.py:function``."""
    return re.fullmatch(r".+\.py:[A-Za-z_]\w*", name) is not None


def split(spec: Spec, kind: str) -> tuple[str, dict[str, Any]]:
    """The name, and the options as they were written. Raises UsageError for what cannot be read."""
    if isinstance(spec, str) and in_a_file(spec):
        return spec, {}
    if isinstance(spec, str):
        name, colon, rest = spec.partition(":")
        return name, _options(rest, spec, kind) if colon else {}
    values = dict(spec)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(f"a {kind} that is given as a mapping has no name", fix="write {name: NAME, OPTION: VALUE}")
    return name, values


def spelled(spec: Spec, kind: str) -> str:
    """The same in one line of text, which is how it is remembered."""
    name, values = split(spec, kind)
    return name + ":" * bool(values) + ",".join(f"{key}={_text(value)}" for key, value in values.items())


def near(name: str, known: Collection[str], otherwise: str = "") -> str:
    """How to mend a name that does not exist; where none is like it, ``otherwise``, or all that are known."""
    found = get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(found)}?" if found else otherwise or f"choose one of {', '.join(sorted(known))}"


def _options(text: str, spec: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    parts = re.findall(_PART, text)
    for part in parts if parts and ",".join(parts) == text else [text]:
        key, equals, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier() or part not in parts:
            raise UsageError(
                f"cannot read {part!r} in {kind} {spec!r}",
                fix=f"write {spec.partition(':')[0]}:OPTION=VALUE,OPTION=VALUE; lists and text with commas are JSON",
            )
        if key in found:
            raise UsageError(f"option {key} stands twice in {kind} {spec!r}")
        found[key] = _value(value.strip(), spec, kind)
    return found


def _value(text: str, spec: str, kind: str) -> Any:
    if not text.startswith(_JSON):
        return text
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"cannot read {text!r} in {kind} {spec!r}",
            why=str(error),
            fix='lists and quoted text are JSON: [1, 2], "a, b"',
        ) from error


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) and re.fullmatch(_PLAIN, value) else json.dumps(value)
