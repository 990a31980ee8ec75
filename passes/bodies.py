"""A pass on the bodies of If, Loop and Scan: each is changed by itself, as a model of what it captures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..graph.bodies import Body, bodies, put_back, told_inside
from ..graph.cost import cost
from ..graph.errors import IntaglioError, NothingChanged, ProofFailed, TargetUnreachable, UsageError
from ..graph.io.opset import raise_opset
from ..graph.io.save import file_bytes
from ..graph.layers import Layers
from ..graph.model import Model
from ..measure.difference import Difference, add_outputs
from ..measure.efficiency import efficiency
from ..measure.run.inputs import runnable_inputs
from ..measure.run.latency import time_pair
from ..measure.run.session import open_session, run
from .base import Accuracy, Context, Pass
from .budget.latency_target import Planned, meet_latency
from .change import Change, amounts, saves_nothing
from .derived import Seen, seen_through
from .patterns import choose_nodes
from .precision.attempt import check
from .precision.noise import outputs_noise
from .proof import proof_inputs, real_inputs
from .reaching import reaching
from .rewrite.zeros import pack_weights, packable

_ADDITIVE = ("macs", "params", "size")
"""Targets that bodies and the graph around them meet by themselves."""
_SAME, _NEAR = 1e-3, 0.02


@dataclass
class _Done:
    """What became of the bodies of a model."""

    changes: dict[str, Change] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def run_with_bodies(one: Pass, model: Model, context: Context) -> Change:
    """What the pass makes of the graph and of the bodies in it. Raises what the pass raises where nothing changes.

    Each body is given what reaches it on the data. Of a target in MACs, parameters or bytes it keeps the fraction; what is
    left to do, or was done too much, the graph around them makes up for.
    """
    seen = seen_through(model, zeros_alone=not one.sees_through)
    if seen is not None:
        if seen.packed and not one.sees_through and getattr(one, "target", "") == "size":
            raise UsageError(
                "`size` cannot be aimed at where zeros are packed",
                why="what a map of zeros takes is known only when channels or factors are chosen",
                fix="give --params or --macs, or write the sparse model with --form dense",
            )
        again = seen.packed and getattr(one, "form", "") != "dense"
        change = _of_given(_with_bodies(one, seen.model, context), seen, one.doing, again)
        return _smaller(change, one, model, context) if change.changed and seen.stores_twice else change
    return _with_bodies(one, model, context)


def _smaller(change: Change, one: Pass, model: Model, context: Context) -> Change:
    """The change, or that of the model as it is where this saves twice the bytes, for nothing is stored twice there."""
    try:
        plain = _with_bodies(one, model, context)
    except NothingChanged:
        return change
    given, *saved = [file_bytes(m) for m in (model, change.model, plain.model)]
    return plain if given - saved[1] > max(2 * (given - saved[0]), 0) else change


def _of_given(change: Change, seen: Seen, doing: str, again: bool) -> Change:
    """The change of a model of which the pass saw computed weights as values; zeros are packed ``again``."""
    if not change.changed:
        return replace(change, original=seen.given, model=seen.given)
    result = seen.give_back(change.model)
    if again:
        result = pack_weights(result, packable(result))
    refusal = change.refusal or saves_nothing(seen.given, result, doing)
    return replace(change, original=seen.given, model=result, refusal=refusal)


def _with_bodies(one: Pass, model: Model, context: Context) -> Change:
    found = bodies(model) if one.in_bodies else []
    if not found:
        return one.run(model, context)
    if getattr(one, "target", None) == "latency":
        return _in_time(one, model, found, context)
    return _changed(one, model, found, context)[1]


def _in_time(one: Pass, model: Model, found: Sequence[Body], context: Context) -> Change:
    """A time is that of the whole, of which a body is one node: fractions of the MACs are tried until the whole meets it.

    Where no body changes, the graph around them is planned with the times of its layers, as one without bodies is.
    """
    keep: float = getattr(one, "keep", 1.0)
    full = amounts(model).of("macs")
    feed = next(iter(real_inputs(context.inputs)), None) or runnable_inputs(model, seed=context.seed)

    def built(macs: float) -> tuple[_Done, Change]:
        return _changed(one.model_copy(update={"target": "macs", "keep": macs}), model, found, context)

    def planned(goal: float) -> Planned[Change]:
        change = replace(built(goal)[1], stated={"target": "macs", "keep": goal})
        macs = amounts(change.model).of("macs")
        return Planned(change, macs / full, macs)

    done = built(keep)[0] if full else _Done()
    if not done.changes:
        return _around(one, model, model, found, done, context)
    change, latency = meet_latency(planned, lambda c: time_pair(model, c.model, inputs=feed), keep)
    refusal = latency.refusal("changed", why="what bodies compute less is not what takes the time", fix="or write it")
    return replace(change, latency=latency, refusal=change.refusal or refusal)


def _changed(one: Pass, model: Model, found: Sequence[Body], context: Context) -> tuple[_Done, Change]:
    """What became of the bodies, and the change of all."""
    done, inside = _Done(), _Inside(model, found, context)
    try:
        for body in found:
            inside.change(one, body, done)
        newest = max((change.model.opset for change in done.changes.values()), default=0)
        if newest > model.opset:
            raise _TooNew(newest)
    except _TooNew as error:
        raised = run_with_bodies(one, raise_opset(model, error.opset), context)
        return done, replace(raised, original=model)
    inner = inside.whole(done)
    joined = _joined(model, found, done, _around(inside.left_of(one, inner), model, inner, found, done, context))
    return done, _verified(joined, context) if done.changes and getattr(one, "verify", True) else joined


class _TooNew(Exception):
    """What a pass made of a body needs a newer operator set than the graph around it has."""

    def __init__(self, opset: int) -> None:
        super().__init__(opset)
        self.opset = opset


@dataclass(frozen=True)
class _Inside:
    """The bodies of a model, changed one after the other. A drop of accuracy is that of the whole, of which each has what is left."""

    model: Model
    found: Sequence[Body]
    context: Context

    def change(self, one: Pass, body: Body, done: _Done) -> None:
        data, evaluate = None, self.context.accuracy()
        made = {name: change.model for name, change in done.changes.items()}
        inner = evaluate and replace(evaluate, evaluate=partial(self._accuracy, evaluate, made, body))
        try:
            data = reaching(self.model, body, self.context.data)
            asked = self.left_of(_for_body(one, body), self.whole(done))
            context = replace(self.context, data=data, eval_data=None, evaluate=inner)
            change = run_with_bodies(asked, body.model, context)
        except IntaglioError as error:
            unseen = "no data reach it" if self.context.data is not None and data is None else ""
            done.left[body.name] = told_inside("; ".join(filter(None, (unseen, error.what, error.why))))
            return
        if change.changed:
            done.changes[body.name] = change

    def whole(self, done: _Done) -> Model:
        return put_back(self.model, self.found, {name: change.model for name, change in done.changes.items()})

    def left_of(self, one: Pass, whole: Model) -> Pass:
        """The pass with what is left of the points that it may lose."""
        name = "keep" if getattr(one, "target", None) == "drop" else "max_drop"
        most, evaluate = getattr(one, name, None), self.context.accuracy()
        if most is None or evaluate is None or whole is self.model:
            return one
        lost = evaluate.lost(evaluate(self.model), evaluate(whole))
        return one.model_copy(update={name: max(0.0, most - lost)})

    def _accuracy(self, evaluate: Accuracy, made: Mapping[str, Model], body: Body, inner: Model) -> float:
        if inner.opset > self.model.opset:
            raise _TooNew(inner.opset)
        return evaluate(put_back(self.model, self.found, {**made, body.name: inner}))


def _for_body(one: Pass, body: Body) -> Pass:
    """The pass with the patterns that are meant for a body. Raises UsageError where it cannot work on one alone."""
    fields = type(one).model_fields
    told: dict[str, Any] = {"keep_io": True} if "keep_io" in fields else {}
    for name in ("include", "exclude"):
        asked: tuple[str, ...] = getattr(one, name, ())
        kept = tuple(p.removeprefix(f"{body.name}/") for p in asked)
        told[name] = tuple(p for p in kept if _matches(body.model, p))
        if name == "include" and asked and not told[name]:
            raise UsageError("left out by --include")
    return one.model_copy(update={name: value for name, value in told.items() if name in fields})


def _matches(model: Model, pattern: str) -> bool:
    try:
        choose_nodes(model, [pattern])
    except UsageError:
        return False
    return True


def _around(one: Pass, model: Model, inner: Model, found: Sequence[Body], done: _Done, context: Context) -> Change:
    """What the pass makes of the graph, the bodies of which are done."""
    kept = {name: _not_only_inside(getattr(one, name, ()), model, found) for name in ("include", "exclude")}
    given: dict[str, Any] = {name: patterns for name, patterns in kept.items() if patterns}
    untouched = Change(inner, inner)
    if done.changes and getattr(one, "include", None) and not kept["include"]:
        return untouched
    budget = _Budget.of(one)
    if done.changes and budget is not None:
        given[budget.field] = budget.keep / max(1e-9, budget.reached(model, inner))
        if given[budget.field] >= 1:
            return untouched
    try:
        return one.model_copy(update={"exclude": kept["exclude"], **given}).run(inner, context)
    except (NothingChanged, TargetUnreachable) as error:
        if done.changes and (budget is None or budget.reached(model, inner) <= budget.keep + _NEAR):
            return untouched
        told = "; ".join(filter(None, (error.why, *(f"{name}: {reason}" for name, reason in done.left.items()))))
        if done.changes and budget is not None:
            what = f"target {budget.target}={budget.keep:g} cannot be reached: bodies by themselves reach "
            raise TargetUnreachable(f"{what}{budget.reached(model, inner):.2f}", why=told, fix=error.fix) from error
        raise type(error)(error.what, why=told, fix=error.fix) from error


@dataclass(frozen=True)
class _Budget:
    """The fraction of an amount that a pass is to keep, and the option that says so."""

    field: str
    target: str
    keep: float

    @classmethod
    def of(cls, one: Pass) -> _Budget | None:
        target, keep = getattr(one, "target", ""), getattr(one, "keep", None)
        if target in _ADDITIVE and keep is not None:
            return cls("keep", target, keep)
        size = getattr(one, "size", None)
        return None if size is None else cls("size", "size", size)

    def reached(self, model: Model, inner: Model) -> float:
        return amounts(inner).of(self.target) / max(1.0, amounts(model).of(self.target))


def _not_only_inside(patterns: Sequence[str], model: Model, found: Sequence[Body]) -> tuple[str, ...]:
    """Patterns but for those that only match in bodies."""
    inside = {p for p in patterns for b in found if _matches(b.model, p.removeprefix(f"{b.name}/"))}
    return tuple(p for p in patterns if p not in inside or _matches(model, p))


def _joined(model: Model, found: Sequence[Body], done: _Done, around: Change) -> Change:
    """One change of all: names of what lies in a body start with the body's."""
    changes = {"": around} if around.changed else {}
    changes |= done.changes
    first = next(iter(changes.values()), around)
    notes = [*around.notes, *(f"{name}: {note}" for name, c in done.changes.items() for note in c.notes)]
    notes = list(dict.fromkeys([*notes, *(f"{name} stays as it is: {why}" for name, why in done.left.items())]))
    if not changes:
        return replace(around, original=model, model=model, notes=notes)
    inside = {one.reason for one in Layers(model).unused if one.kind == "inside"}
    details = _merged(changes)
    if "skipped" in details:
        details["skipped"] = {name: reason for name, reason in details["skipped"].items() if reason not in inside}
    if "bibench" in details:
        details["bibench"] = efficiency(cost(model), cost(around.model)).as_dict()
    references = {n: c.reference for n, c in done.changes.items() if c.reference is not None}

    def reference() -> Model:
        whole = around.reference() if around.reference else around.model
        return put_back(whole, found, {name: make() for name, make in references.items()})

    return replace(
        first,
        original=model,
        model=around.model,
        layers=[
            _named(name, one) for name, c in changes.items() for one in c.layers if one.get("reason") not in inside
        ],
        details=details,
        notes=notes,
        stated={} if done.changes else around.stated,
        reference=reference if any(c.reference for c in changes.values()) else None,
    )


def _verified(change: Change, context: Context) -> Change:
    """The whole, run: beside what it was proved to equal, or where it was rounded, beside the original.

    Raises:
        ProofFailed: it does not run, or is something else.
    """
    if change.reference is None:
        check(change.original, change.model, context.inputs, "changed")
        if context.inputs is None:
            return change
        noise = outputs_noise(change.original, change.model, context.inputs, context.memory)
        return replace(change, details={**change.details, "sqnr_db": noise})
    reference, found = change.reference(), dict[str, Difference]()
    feeds, _ = proof_inputs(reference, real_inputs(context.data), context.seed)
    sessions = [open_session(m) for m in (reference, change.model)]
    for feed in feeds:
        add_outputs(found, *(run(session, feed) for session in sessions))
    for name, one in found.items():
        if one.max_rel > _SAME or one.not_finite:
            raise ProofFailed(f"output {name!r} is off by {one.max_rel:.1e} from what the bodies were proved to equal")
    return change


def _named(body: str, one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, "name": f"{body}/{one['name']}"} if body and "name" in one else dict(one)


def _merged(changes: Mapping[str, Change]) -> dict[str, Any]:
    """What all tell; a number or a word is the first one's."""
    found: dict[str, Any] = {}
    for body, change in changes.items():
        for key, value in change.details.items():
            if isinstance(value, Mapping):
                prefix = f"{body}/" if body and key in ("nodes", "skipped", "ranges") else ""
                found[key] = _together(found.get(key, {}), {f"{prefix}{k}": v for k, v in value.items()})
            elif isinstance(value, list):
                found[key] = [*found.get(key, []), *value]
            else:
                found.setdefault(key, value)
    return found


def _together(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, counts of the same thing added."""
    counted = {
        k: {name: one[k].get(name, 0) + v.get(name, 0) for name in {**one[k], **v}}
        for k, v in other.items()
        if isinstance(v, Mapping) and k in one
    }
    return {**one, **other, **counted}
