"""Operators that work number by number, compare or reduce, in torch's words."""

from __future__ import annotations

from collections.abc import Callable

from .call import SPELLED, Call, Unspelled, spells

_NAMED = """
Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor IsNaN Log Neg Reciprocal Relu Round Sigmoid Sign Sin Sinh
Sqrt Tan Tanh Where
"""
"""Those that torch has under the same name and with the same definition."""
_SIGNS = {"Add": "+", "Sub": "-", "Mul": "*", "MatMul": "@", "Equal": "==", "Greater": ">", "Less": "<"}
_SIGNS |= {"GreaterOrEqual": ">=", "LessOrEqual": "<=", "And": "&", "Or": "|", "Xor": "^"}


def _function(name: str) -> Callable[[Call], str]:
    return lambda c: f"{name}({', '.join(c[k] for k in range(len(c.tensors)))})"


def _signed(sign: str) -> Callable[[Call], str]:
    return lambda c: f"{c[0]} {sign} {c[1]}"


def _with(form: str, **defaults: float) -> Callable[[Call], str]:
    """A form with ``x`` for the operand, and attributes by their names."""
    return lambda c: form.format(x=c[0], **{name: repr(c.attr(name, value)) for name, value in defaults.items()})


SPELLED.update(
    {
        **{name: _function(f"torch.{name.lower()}") for name in _NAMED.split()},
        **{name: _signed(sign) for name, sign in _SIGNS.items()},
        "Celu": _with("F.celu({x}, {alpha})", alpha=1.0),
        "Elu": _with("F.elu({x}, {alpha})", alpha=1.0),
        "Gelu": lambda c: f"F.gelu({c[0]}, approximate={c.attr('approximate', 'none')!r})",
        "HardSigmoid": _with("torch.clamp({alpha} * {x} + {beta}, 0, 1)", alpha=0.2, beta=0.5),
        "HardSwish": _with("F.hardswish({x})"),
        "LeakyRelu": _with("F.leaky_relu({x}, {alpha})", alpha=0.01),
        "LogSoftmax": _with("torch.log_softmax({x}, {axis})", axis=-1),
        "Mish": _with("F.mish({x})"),
        "Not": _with("~{x}"),
        "PRelu": lambda c: f"torch.where({c[0]} < 0, {c[0]} * {c[1]}, {c[0]})",
        "Pow": lambda c: f"torch.pow({c[0]}, {c[1]})",
        "Selu": _with(
            "{gamma} * torch.where({x} > 0, {x}, {alpha} * torch.expm1({x}))",
            alpha=1.6732632423543772,
            gamma=1.0507009873554805,
        ),
        "Softmax": _with("torch.softmax({x}, {axis})", axis=-1),
        "Softplus": _with("F.softplus({x})"),
        "Softsign": _with("F.softsign({x})"),
        "ThresholdedRelu": _with("F.threshold({x}, {alpha}, 0.0)", alpha=1.0),
    }
)


@spells("Div")
def quotient(c: Call) -> str:
    whole = any(one is not None and one.dtype.kind in "iu" for one in c.known)
    return f"torch.div({c[0]}, {c[1]}, rounding_mode='trunc')" if whole else f"{c[0]} / {c[1]}"


@spells("Sum", "Mean")
def total(c: Call) -> str:
    terms = " + ".join(c[k] for k in range(len(c.tensors)))
    return terms if c.node.op_type == "Sum" else f"({terms}) / {len(c.tensors)}"


@spells("Max", "Min")
def extreme(c: Call) -> str:
    found, name = c[0], "maximum" if c.node.op_type == "Max" else "minimum"
    for k in range(1, len(c.tensors)):
        found = f"torch.{name}({found}, {c[k]})"
    return found


@spells("Clip")
def clip(c: Call) -> str:
    limits = [None if (limit := c.array(k)) is None else limit.item() for k in (1, 2)]
    return c[0] if limits == [None, None] else f"torch.clamp({c[0]}, {limits[0]!r}, {limits[1]!r})"


@spells("Cast")
def cast(c: Call) -> str:
    import onnx

    name = onnx.helper.tensor_dtype_to_np_dtype(c.attr("to")).name
    if name not in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"):
        raise Unspelled(f"it makes {name}")
    return f"{c[0]}.to(torch.{name})"


_REDUCED = {
    "ReduceMean": "{x}.mean({axes}, keepdim={keep})",
    "ReduceSum": "{x}.sum({axes}, keepdim={keep})",
    "ReduceMax": "{x}.amax({axes}, keepdim={keep})",
    "ReduceMin": "{x}.amin({axes}, keepdim={keep})",
    "ReduceL1": "{x}.abs().sum({axes}, keepdim={keep})",
    "ReduceL2": "torch.linalg.vector_norm({x}, 2, {axes}, {keep})",
    "ReduceSumSquare": "{x}.square().sum({axes}, keepdim={keep})",
    "ReduceLogSumExp": "{x}.logsumexp({axes}, keepdim={keep})",
}


@spells(*_REDUCED)
def reduction(c: Call) -> str:
    axes = c.ints(1, "axes") if c.has(1) or c.attr("axes") else None
    if not axes and c.attr("noop_with_empty_axes", 0):
        return c[0]
    return _REDUCED[c.node.op_type].format(x=c[0], axes=axes or list(range(c.rank())), keep=bool(c.attr("keepdims", 1)))


@spells("ArgMax", "ArgMin")
def place_of_extreme(c: Call) -> str:
    if c.attr("select_last_index", 0):
        raise Unspelled("select_last_index is set")
    return f"torch.{c.node.op_type.lower()}({c[0]}, {c.attr('axis', 0)}, {bool(c.attr('keepdims', 1))})"


@spells("TopK")
def largest(c: Call) -> str:
    (k,) = c.ints(1) or [0]
    return f"tuple(torch.topk({c[0]}, {k}, {c.attr('axis', -1)}, {bool(c.attr('largest', 1))}, {bool(c.attr('sorted', 1))}))"


@spells("CumSum")
def running_sum(c: Call) -> str:
    if c.attr("reverse", 0) or c.attr("exclusive", 0):
        raise Unspelled("it is reverse or exclusive")
    return f"{c[0]}.cumsum({(c.ints(1) or [0])[0]})"


@spells("Identity", "Dropout")
def idle(c: Call) -> str:
    return c[0]
