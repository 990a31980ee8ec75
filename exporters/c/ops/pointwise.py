"""What works number by number, in one loop over all that was joined."""

from __future__ import annotations

from collections.abc import Sequence

from ..expressions import written
from ..loops import nest
from ..rules import Call
from ..tensor import Tensor


def pointwise(call: Call) -> None:
    """The statements of the operation on each number."""
    inputs = [call.x(k) for k in range(len(call.operation.inputs))]
    y = call.like(_main(inputs, call.dims[0]))

    def body(at: Sequence[str]) -> str:
        operands = [(x.ctype, f"x{k}[{place}]") for k, (x, place) in enumerate(zip(inputs, at[1:], strict=True))]
        before, value = written(call.operation.value, operands)
        return f"{before}\ny0[{at[0]}] = {value};"

    call.step(nest([y, *(x.broadcast(y.dims) for x in inputs)], body), inputs, [y], in_place=True)


def _main(inputs: Sequence[Tensor], dims: tuple[int, ...]) -> Tensor:
    """The operand whose order the result takes."""
    return max(inputs, key=lambda t: (t.dims == dims, t.buffer.startswith("b"), t.size))
