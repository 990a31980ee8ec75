"""Whatever can be plugged in is found by name, given its options, and told apart when it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from intaglio.graph.errors import UsageError
from intaglio.graph.registry import Registry, owner
from intaglio.graph.spec import spelled, split


class Norm(BaseModel):
    p: float = Field(default=2.0, gt=0, description="power of each weight")
    rooted: bool = False
    parts: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _together(self) -> Norm:
        if self.rooted and self.p == 7:
            raise ValueError("seventh roots are too much")
        return self


class Needed(BaseModel):
    share: float = Field(description="the fraction to keep")


@pytest.fixture
def things() -> Registry[Callable[..., Any]]:
    registry: Registry[Callable[..., Any]] = Registry("thing", "no.such.group", offers=("means",))

    @registry.register("norm", options=Norm)
    def norm(x: float, options: Norm) -> tuple[float, Norm]:
        """A norm."""
        return x, options

    @registry.register("plain", needs=("means",))
    def plain(x: float) -> float:
        return x

    registry.register("strict", options=Needed)(lambda options: options)
    registry.register("com.example:Op")(lambda: "an operator")
    return registry


def error(act: Callable[[], object]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        act()
    return caught.value


def test_a_name_alone_has_its_options_as_they_are_unless_given(things: Registry[Callable[..., Any]]) -> None:
    assert things["norm"](3.0) == (3.0, Norm())
    assert things["norm"].__doc__ == "A norm."
    assert things["plain"](3.0) == 3.0
    assert things["com.example:Op"]() == "an operator"


@pytest.mark.parametrize(
    "spec",
    [
        "norm:p=1,rooted=true,parts=[1, 2]",
        "norm:parts=[1,2],p=1.0,rooted=yes",
        {"name": "norm", "p": 1, "rooted": True, "parts": [1, 2]},
    ],
)
def test_options_come_from_text_and_from_a_mapping_alike(things: Registry[Callable[..., Any]], spec: Any) -> None:
    assert things[spec](0.0)[1] == Norm(p=1, rooted=True, parts=(1, 2))
    assert things[spelled(spec, "thing")](0.0)[1] == Norm(p=1, rooted=True, parts=(1, 2))
    assert spec in things


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda key: key != "name"),
        st.one_of(
            st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers())
        ),
    )
)
def test_a_mapping_in_one_line_of_text_means_the_same(values: dict[str, Any]) -> None:
    name, texts = split(spelled({"name": "x", **values}, "thing"), "thing")
    assert name == "x"
    assert texts.keys() == values.keys()
    for key, value in values.items():
        read = texts[key]
        assert (
            read == value if isinstance(value, list) else str(read).lower() in (str(value).lower(), repr(value).lower())
        )


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=12))
def test_any_text_survives_being_an_option(text: str) -> None:
    read = split(spelled({"name": "x", "key": text}, "thing"), "thing")[1]["key"]
    assert read == text


@pytest.mark.parametrize(
    ("spec", "what", "fix"),
    [
        ("nrom", "there is no thing 'nrom'", "did you mean norm?"),
        ("zzz", "there is no thing 'zzz'", "choose one of com.example:Op, norm, plain, strict"),
        ("norm:q=1", "thing norm has no option 'q'", "its options are p, parts, rooted"),
        ("norm:root=1", "thing norm has no option 'root'", "did you mean rooted?"),
        ("norm:p=x", "option p of thing norm cannot be 'x'", "p: power of each weight; 2.0 unless given"),
        ("norm:p=-1", "option p of thing norm cannot be '-1'", "p: power of each weight; 2.0 unless given"),
        ("norm:parts=[1,x]", "cannot read '[1,x]' in thing", "JSON"),
        ("norm:p", "cannot read 'p' in thing 'norm:p'", "write norm:OPTION=VALUE"),
        ("norm:p=1,p=2", "option p stands twice", ""),
        ("norm:", "cannot read '' in thing 'norm:'", "write norm:OPTION=VALUE"),
        ("norm:p=1,", "cannot read 'p=1,' in thing 'norm:p=1,'", "write norm:OPTION=VALUE"),
        ("norm:p=1,,rooted=1", "cannot read 'p=1,,rooted=1'", "write norm:OPTION=VALUE"),
        ("norm:parts=[1", "cannot read 'parts=[1'", "lists and text with commas are JSON"),
        ("plain:p=1", "thing plain takes no options", "leave out p"),
        ("strict", "thing strict needs its option share", "share: the fraction to keep"),
        ("norm:p=7,rooted=1", "the options of thing norm do not go together", ""),
        ({"p": 1}, "a thing that is given as a mapping has no name", "{name: NAME"),
        ({"name": "norm", "p": None}, "option p of thing norm cannot be nothing", "power"),
    ],
)
def test_what_is_wrong_is_told_with_the_way_to_mend_it(
    things: Registry[Callable[..., Any]], spec: Any, what: str, fix: str
) -> None:
    told = error(lambda: things[spec])
    assert what in told.what
    assert fix in told.fix


def test_the_reason_is_told_too(things: Registry[Callable[..., Any]]) -> None:
    assert "give a number above 0" in error(lambda: things["norm:p=-1"]).fix
    assert "seventh roots are too much" in error(lambda: things["norm:p=7,rooted=1"]).why


def test_only_what_is_offered_can_be_needed(things: Registry[Callable[..., Any]]) -> None:
    assert things.entry("plain").needs == ("means",)
    with pytest.raises(ValueError, match="needs 'meens': did you mean means"):
        things.register("greedy", needs=("meens",))(lambda: 0)


def test_a_name_is_registered_once(things: Registry[Callable[..., Any]]) -> None:
    with pytest.raises(ValueError, match="twice"):
        things.register("plain")(lambda: 0)


# From other packages --------------------------------------------------------------------------------------------------

SOURCE = """
print("hello from a plug-in")
from somewhere import REGISTRY

class Wrapped:
    def __init__(self, function): self.function = function
    def __call__(self): return self.function()

def wrapping(name):
    def add(function):
        REGISTRY.register(name)(Wrapped(function))
        return function  # not what was registered
    return add

@wrapping("wrapped")
def wrapped(): return "wrapped"

def bare(): return "bare"
def taken(): return "taken"
number = 3
"""


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[Callable[[], str]]]:
    points = {
        "wrapped": "third_party:wrapped",
        "bare": "third_party:bare",
        "taken": "third_party:taken",
        "number": "third_party:number",
        "absent": "no_such_module:x",
        "exits": "third_exits:x",
        "own": "third_party:bare",
    }
    folder = tmp_path / "third_party-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[a.group]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    (tmp_path / "third_party.py").write_text(SOURCE)
    (tmp_path / "third_exits.py").write_text("import sys; sys.exit(0)")
    (tmp_path / "somewhere.py").write_text("REGISTRY = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[Callable[[], str]] = Registry("thing", "a.group", taken=("own",))
    registry.register("taken")(lambda: "first")
    import somewhere  # type: ignore[import-not-found]

    somewhere.REGISTRY = registry
    yield registry
    for name in ("third_party", "third_exits", "somewhere"):
        import sys

        sys.modules.pop(name, None)


def test_a_plug_in_that_registers_itself_and_one_that_does_not_both_work(
    plugged: Registry[Callable[[], str]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert (plugged["wrapped"](), plugged["bare"]()) == ("wrapped", "bare")
    assert {"wrapped", "bare"} <= set(plugged)
    assert not {"wrapped", "bare"} & plugged.broken.keys()
    assert "hello" not in capfd.readouterr().out, "what a plug-in prints must not mix with results"


def test_a_plug_in_that_was_imported_before_works_too(plugged: Registry[Callable[[], str]]) -> None:
    import third_party  # type: ignore[import-not-found]  # noqa: F401

    assert plugged["wrapped"]() == "wrapped"
    assert "wrapped" not in plugged.broken


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("taken", "taken by"),
        ("number", "is no thing: it is a int"),
        ("absent", "no_such_module"),
        ("exits", "SystemExit"),
        ("own", "intaglio itself"),
    ],
)
def test_what_cannot_join_is_listed_with_the_reason(plugged: Registry[Callable[[], str]], name: str, why: str) -> None:
    assert why in plugged.broken[name]
    assert plugged["taken"]() == "first", "a name that is taken stays with who had it"
    if name != "taken":
        assert why in error(lambda: plugged[name]).why


def test_only_what_is_named_is_imported(plugged: Registry[Callable[[], str]]) -> None:
    import sys

    assert "absent" not in plugged
    assert "third_party" not in sys.modules


def test_nothing_becomes_built_in_by_being_installed(plugged: Registry[Callable[[], str]]) -> None:
    assert set(plugged) >= {"bare", "wrapped"}
    assert not {"bare", "wrapped"} & set(plugged.builtin)


def test_several_registries_are_asked_together(things: Registry[Callable[..., Any]], plugged: Registry[Any]) -> None:
    assert owner("norm", things, plugged) is things
    assert owner("bare", things, plugged) is plugged
    assert "bare" in error(lambda: owner("zzz", things, plugged)).fix
    assert "no_such_module" in error(lambda: owner("absent", things, plugged)).why
