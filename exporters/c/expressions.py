"""What is done number by number, as statements of C, each of which names the results of those before it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from ...graph.nodes import attribute
from ...graph.traits import Trait, has
from .loops import literal
from .tensor import C_TYPES

Spell = Callable[[onnx.NodeProto, Sequence[np.dtype], np.dtype], str]
_COMPARE = "(uint8_t)({0} %s {1})"


@dataclass(frozen=True)
class Statement:
    """``text`` names its arguments ``{0}``, ``{1}``; ``arguments`` are operands from 0 on, or earlier statements as ~0.

    ``homogeneous`` says that f(t x) = t f(x) for t > 0. ``divisor`` is what it divides by first, and ``undivided`` what it
    does then.
    """

    ctype: str
    text: str
    arguments: tuple[int, ...]
    homogeneous: bool = False
    divisor: float = 1.0
    undivided: Statement | None = None


def _function(name: str) -> Spell:
    return lambda node, types, out: f"{name}{'' if out == np.float64 else 'f'}({{0}})"


def _text(text: str) -> Spell:
    return lambda node, types, out: text


def _with(text: str, **defaults: float) -> Spell:
    """Text that names attributes."""

    def spell(node: onnx.NodeProto, types: Sequence[np.dtype], out: np.dtype) -> str:
        return text.format("{0}", **{n: literal(attribute(node, n, d), out) for n, d in defaults.items()})

    return spell


def _fold(text: str) -> Spell:
    """From left to right over any number of operands."""

    def spell(node: onnx.NodeProto, types: Sequence[np.dtype], out: np.dtype) -> str:
        made = "{0}"
        for k in range(1, len(types)):
            made = text.format(made, f"{{{k}}}")
        return made

    return spell


def _signed(text: str, unsigned: str) -> Spell:
    return lambda node, types, out: unsigned if types[0].kind == "u" else text


def _mod(node: onnx.NodeProto, types: Sequence[np.dtype], out: np.dtype) -> str:
    if types[0].kind == "f":
        return "fmod({0}, {1})" if out == np.float64 else "fmodf({0}, {1})"
    return "{0} % {1}" if attribute(node, "fmod", 0) or types[0].kind == "u" else "({0} % {1} + {1}) % {1}"


def _cast(node: onnx.NodeProto, types: Sequence[np.dtype], out: np.dtype) -> str:
    return "{0} != 0" if out.kind == "b" else f"({C_TYPES[out.name]}){{0}}"


def _clip(node: onnx.NodeProto, types: Sequence[np.dtype], out: np.dtype) -> str:
    text, given = "{0}", [name for name in node.input[1:] if name]
    names = [n for n in node.input if n]
    if len(node.input) > 1 and node.input[1]:
        low = f"{{{names.index(node.input[1])}}}"
        text = f"({text} < {low} ? {low} : {text})"
    if len(node.input) > 2 and node.input[2]:
        high = f"{{{len(names) - 1}}}"
        text = f"({text} > {high} ? {high} : {text})"
    return text if given else "{0}"


def _gelu(node: onnx.NodeProto, types: Sequence[np.dtype], out: np.dtype) -> str:
    if attribute(node, "approximate", "none") == "tanh":
        return "0.5f * {0} * (1.0f + tanhf(0.797884561f * ({0} + 0.044715f * {0} * {0} * {0})))"
    return "0.5f * {0} * (1.0f + erff({0} * 0.707106781f))"


def _pow(node: onnx.NodeProto, types: Sequence[np.dtype], out: np.dtype) -> str:
    return "pow({0}, {1})" if out == np.float64 else f"({C_TYPES[out.name]})powf({{0}}, {{1}})"


SPELLINGS: dict[str, Spell] = {
    "Abs": _signed("({0} < 0 ? -{0} : {0})", "{0}"),
    "Acos": _function("acos"),
    "Acosh": _function("acosh"),
    "Add": _text("{0} + {1}"),
    "And": _text("{0} && {1}"),
    "Asin": _function("asin"),
    "Asinh": _function("asinh"),
    "Atan": _function("atan"),
    "Atanh": _function("atanh"),
    "BitwiseAnd": _text("{0} & {1}"),
    "BitwiseNot": _text("~{0}"),
    "BitwiseOr": _text("{0} | {1}"),
    "BitwiseXor": _text("{0} ^ {1}"),
    "Cast": _cast,
    "CastLike": _cast,
    "Ceil": _function("ceil"),
    "Celu": _with("({0} > 0 ? {0} : {alpha} * expm1f({0} / {alpha}))", alpha=1.0),
    "Clip": _clip,
    "Cos": _function("cos"),
    "Cosh": _function("cosh"),
    "Div": _text("{0} / {1}"),
    "Elu": _with("({0} < 0 ? {alpha} * expm1f({0}) : {0})", alpha=1.0),
    "Equal": _text(_COMPARE % "=="),
    "Erf": _function("erf"),
    "Exp": _function("exp"),
    "Floor": _function("floor"),
    "Gelu": _gelu,
    "Greater": _text(_COMPARE % ">"),
    "GreaterOrEqual": _text(_COMPARE % ">="),
    "HardSigmoid": _with("net_clamp({alpha} * {0} + {beta}, 0.0f, 1.0f)", alpha=0.2, beta=0.5),
    "HardSwish": _text("{0} * net_clamp({0} * 0.166666672f + 0.5f, 0.0f, 1.0f)"),
    "Identity": _text("{0}"),
    "IsInf": _text("(uint8_t)(isinf({0}) != 0)"),
    "IsNaN": _text("(uint8_t)(isnan({0}) != 0)"),
    "LeakyRelu": _with("({0} < 0 ? {alpha} * {0} : {0})", alpha=0.01),
    "Less": _text(_COMPARE % "<"),
    "LessOrEqual": _text(_COMPARE % "<="),
    "Log": _function("log"),
    "Max": _fold("({0} < {1} ? {1} : {0})"),
    "Mean": lambda node, types, out: f"({' + '.join(f'{{{k}}}' for k in range(len(types)))}) / {len(types)}.0f",
    "Min": _fold("({0} > {1} ? {1} : {0})"),
    "Mish": _text("{0} * tanhf(log1pf(expf({0})))"),
    "Mod": _mod,
    "Mul": _text("{0} * {1}"),
    "Neg": _text("-{0}"),
    "Not": _text("!{0}"),
    "Or": _text("{0} || {1}"),
    "PRelu": _text("({0} < 0 ? {1} * {0} : {0})"),
    "Pow": _pow,
    "Reciprocal": _text("1.0f / {0}"),
    "Relu": _signed("({0} < 0 ? 0 : {0})", "{0}"),
    "Round": _function("rint"),
    "Selu": _with(
        "({0} > 0 ? {gamma} * {0} : {gamma} * {alpha} * expm1f({0}))",
        alpha=1.6732632423543772,
        gamma=1.0507009873554805,
    ),
    "Shrink": _with("({0} < -{lambd} ? {0} + {bias} : {0} > {lambd} ? {0} - {bias} : 0)", lambd=0.5, bias=0.0),
    "Sigmoid": _text("1.0f / (1.0f + expf(-{0}))"),
    "Sign": _signed("({0} > 0) - ({0} < 0)", "{0} > 0"),
    "Sin": _function("sin"),
    "Sinh": _function("sinh"),
    "Softplus": _text("({0} > 0 ? {0} + log1pf(expf(-{0})) : log1pf(expf({0})))"),
    "Softsign": _text("{0} / (1.0f + ({0} < 0 ? -{0} : {0}))"),
    "Sqrt": _function("sqrt"),
    "Sub": _text("{0} - {1}"),
    "Sum": _fold("{0} + {1}"),
    "Swish": _with("{0} / (1.0f + expf(-{alpha} * {0}))", alpha=1.0),
    "Tan": _function("tan"),
    "Tanh": _function("tanh"),
    "ThresholdedRelu": _with("({0} > {alpha} ? {0} : 0)", alpha=1.0),
    "Where": _text("{0} ? {1} : {2}"),
    "Xor": _text("!{0} != !{1}"),
}
"""By operator, what C makes of the operands."""


def spelled(node: onnx.NodeProto, key: str, types: Sequence[np.dtype], out: np.dtype) -> Statement | None:
    """The statement for a node whose operands are there, None where it does not work number by number."""
    if key not in SPELLINGS or not has(key, Trait.ELEMENTWISE):
        return None
    text = SPELLINGS[key](node, types, out)
    if np.dtype("f8") in (*types, out):
        text = re.sub(r"\b(\w+)f\(", r"\1(", text)
    return Statement(C_TYPES[out.name], text, tuple(range(len(types))), has(key, Trait.HOMOGENEOUS))


def dequantize(scale: float, zero: int) -> Statement:
    """A float of a code."""
    moved = f"({{0}} - {zero})" if zero else "{0}"
    return Statement("float", f"(float){moved} * {literal(scale, np.dtype('f4'))}", (0,))


def quantize(scale: float, zero: int, dtype: np.dtype) -> Statement:
    """A code of a float: rounded half to even, limited before."""
    kind, f4 = np.iinfo(dtype), np.dtype("f4")
    value = "{0}" if scale == 1 else f"{{0}} / {literal(scale, f4)}"
    low, high = literal(kind.min - zero, f4), literal(kind.max - zero, f4)
    plus = f" + {zero}" if zero > 0 else f" - {-zero}" if zero else ""
    ctype = C_TYPES[dtype.name]
    text = f"({ctype})(net_round(net_clamp({value}, {low}, {high})){plus})"
    return Statement(ctype, text, (0,), divisor=scale, undivided=None if scale == 1 else quantize(1.0, zero, dtype))


def chained(
    first: tuple[Statement, ...], place: int, second: tuple[Statement, ...], count: int
) -> tuple[Statement, ...]:
    """``second``, of ``count`` operands, with ``first`` in the place of its operand ``place``.

    Operands of the whole are those of ``second`` without that one, then those of ``first``.
    """
    after = len(first)

    def operand(a: int) -> int:
        if a < 0:
            return ~(~a + after)
        if a == place:
            return ~(after - 1)
        return a - (a > place)

    moved = [replace(s, arguments=tuple(a + count - 1 if a >= 0 else a for a in s.arguments)) for s in first]
    return (*moved, *(replace(s, arguments=tuple(operand(a) for a in s.arguments)) for s in second))


def without_division(statements: tuple[Statement, ...]) -> tuple[tuple[Statement, ...], float]:
    """A chain that divides at its end by a positive number, and that number: where the rest lets it through, without."""
    *rest, last = statements or (Statement("float", "{0}", (0,)),)
    if last.undivided is None or not all(one.homogeneous and len(one.arguments) == 1 for one in rest):
        return statements, 1.0
    return (*rest, replace(last.undivided, arguments=last.arguments)), last.divisor


def written(statements: Sequence[Statement], operands: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Declarations, and the name of what the last one makes. ``operands`` are C types and texts."""
    if not statements:
        return "", operands[0][1]
    lines = [f"const {kind} v{k} = {text};" for k, (kind, text) in enumerate(operands)]
    names = [f"v{k}" for k in range(len(operands))]
    for k, one in enumerate(statements):
        arguments = [names[a] if a >= 0 else f"t{~a}" for a in one.arguments]
        lines.append(f"const {one.ctype} t{k} = {one.text.format(*arguments)};")
    return "\n".join(lines), f"t{len(statements) - 1}"
