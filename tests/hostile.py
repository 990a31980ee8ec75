"""Break models in many ways and run commands on them: ``python -m tests.hostile SECONDS SEED [MOST]``.

Prints a line for each run that ended badly, and what was done. Every run has a process of its own, forked from this
one, so that a crash or a hang is one line too.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from intaglio.cli.main import main

EXAMPLES = Path(__file__).parent.parent / "examples"
HANG_SECONDS = 30
"""Of the processor; ten times as many by the clock."""
MODELS = ("digits", "attention", "residual", "vit_digits", "binary_digits")
COMMANDS = (
    ("inspect", "{m}"),
    ("groups", "{m}", "--members"),
    ("check", "{m}"),
    ("prune", "{m}", "-o", "{o}", "--channels", "0.5", "--no-measure"),
    ("quantize", "{m}", "-o", "{o}", "--scheme", "w8", "--no-measure"),
    ("quantize", "{m}", "-o", "{o}", "--scheme", "int8", "--no-measure"),
    ("binarize", "{m}", "-o", "{o}", "--no-measure"),
    ("factorize", "{m}", "-o", "{o}", "--params", "0.6", "--no-measure"),
)
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 2**31 - 1, 2**31, 2**62, -(2**63), -5)
TEXTS = ("", "x", "\x1b[2J", "a/b", "NOTSET", "..")
Mutation = Callable[[onnx.ModelProto, random.Random], None]
MUTATIONS: list[Mutation] = []


def mutation(function: Mutation) -> Mutation:
    MUTATIONS.append(function)
    return function


def _node(model: onnx.ModelProto, dice: random.Random) -> onnx.NodeProto:
    return dice.choice(model.graph.node)


def _attribute(model: onnx.ModelProto, dice: random.Random) -> AttributeProto:
    return dice.choice([a for n in model.graph.node for a in n.attribute] or [AttributeProto()])


@mutation
def attribute_value(model: onnx.ModelProto, dice: random.Random) -> None:
    a = _attribute(model, dice)
    a.i = dice.choice(NUMBERS)
    if a.ints:
        a.ints[dice.randrange(len(a.ints))] = dice.choice(NUMBERS)
    a.f = dice.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    a.s = dice.choice((b"", b"\xff\xfe", b"SAME_UPPER", b"x" * 1000))


@mutation
def attribute_length(model: onnx.ModelProto, dice: random.Random) -> None:
    a = _attribute(model, dice)
    a.ints[:] = [dice.choice(NUMBERS[:6]) for _ in range(dice.randrange(6))]


@mutation
def attribute_kind(model: onnx.ModelProto, dice: random.Random) -> None:
    _attribute(model, dice).type = dice.choice(list(AttributeProto.AttributeType.values()))


@mutation
def attribute_gone(model: onnx.ModelProto, dice: random.Random) -> None:
    node = _node(model, dice)
    if node.attribute:
        del node.attribute[dice.randrange(len(node.attribute))]


@mutation
def attribute_added(model: onnx.ModelProto, dice: random.Random) -> None:
    name = dice.choice(("axis", "axes", "group", "to", "perm", "kernel_shape", "value", "body"))
    _node(model, dice).attribute.append(onnx.helper.make_attribute(name, dice.choice((1, 1.0, "x", [1, 2]))))


@mutation
def weight_shape(model: onnx.ModelProto, dice: random.Random) -> None:
    tensor = dice.choice(model.graph.initializer)
    shapes: tuple[list[int], ...] = (
        [],
        [0],
        [1],
        [0, 2**62],
        [numbers(tensor)],
        [1, 1, numbers(tensor)],
        [numbers(tensor), 1],
        [*tensor.dims][::-1],
    )
    tensor.dims[:] = dice.choice(shapes)


def numbers(tensor: TensorProto) -> int:
    return int(numpy_helper.to_array(tensor).size)


@mutation
def weight_replaced(model: onnx.ModelProto, dice: random.Random) -> None:
    tensor = dice.choice(model.graph.initializer)
    other = dice.choice(model.graph.initializer)
    name = tensor.name
    tensor.CopyFrom(other)
    tensor.name = name


@mutation
def weight_kind(model: onnx.ModelProto, dice: random.Random) -> None:
    dice.choice(model.graph.initializer).data_type = dice.choice(list(TensorProto.DataType.values()))


@mutation
def operator_changed(model: onnx.ModelProto, dice: random.Random) -> None:
    node = _node(model, dice)
    node.op_type = dice.choice([_node(model, dice).op_type, *OTHERS])


OTHERS = (
    "Conv",
    "Gemm",
    "MatMul",
    "LSTM",
    "If",
    "Loop",
    "Cast",
    "Reshape",
    "Concat",
    "Gather",
    "Resize",
    "Pad",
    "Nothing",
)


@mutation
def operand_changed(model: onnx.ModelProto, dice: random.Random) -> None:
    node = _node(model, dice)
    names = [o for n in model.graph.node for o in (*n.input, *n.output)]
    if node.input:
        node.input[dice.randrange(len(node.input))] = dice.choice(names)


@mutation
def operands_fewer_or_more(model: onnx.ModelProto, dice: random.Random) -> None:
    node = _node(model, dice)
    if dice.random() < 0.5 and node.input:
        del node.input[-1]
    else:
        node.input.append(dice.choice(model.graph.initializer).name)


@mutation
def stated_shape(model: onnx.ModelProto, dice: random.Random) -> None:
    value = dice.choice([*model.graph.input, *model.graph.output, *model.graph.value_info])
    dims = value.type.tensor_type.shape.dim
    if dims and dice.random() < 0.7:
        dice.choice(dims).dim_value = dice.choice(NUMBERS)
    else:
        dims.add(dim_value=dice.choice(NUMBERS))


@mutation
def stated_kind(model: onnx.ModelProto, dice: random.Random) -> None:
    value = dice.choice([*model.graph.input, *model.graph.output])
    value.type.tensor_type.elem_type = dice.choice(list(TensorProto.DataType.values()))


@mutation
def operator_set(model: onnx.ModelProto, dice: random.Random) -> None:
    model.opset_import[0].version = dice.randrange(1, 26)


@mutation
def constant_as_output(model: onnx.ModelProto, dice: random.Random) -> None:
    model.graph.output.add(name=dice.choice(model.graph.initializer).name)


@mutation
def name_changed(model: onnx.ModelProto, dice: random.Random) -> None:
    dice.choice([*model.graph.node, *model.graph.initializer, *model.graph.input]).name = dice.choice(TEXTS)


@mutation
def metadata(model: onnx.ModelProto, dice: random.Random) -> None:
    for key in ("intaglio.recipe", "intaglio.history"):
        model.metadata_props.add(key=key, value=dice.choice(("[" * 9000, "{}", "[1]", "")))


@mutation
def values_odd(model: onnx.ModelProto, dice: random.Random) -> None:
    tensor = dice.choice(model.graph.initializer)
    if tensor.raw_data:
        tensor.raw_data = bytes([dice.choice((0, 255, 127))]) * len(tensor.raw_data)


def broken(name: str, dice: random.Random) -> tuple[bytes, str]:
    """A broken model, and what was done to it."""
    model = onnx.load(EXAMPLES / f"{name}.onnx")
    done = [name]
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        change = dice.choice(MUTATIONS)
        done.append(change.__name__)
        with contextlib.suppress(ValueError, TypeError, IndexError, KeyError):
            change(model, dice)
    content = bytearray(model.SerializeToString())
    if dice.random() < 0.2:
        done.append("bytes")
        for _ in range(dice.randrange(1, 4)):
            content[dice.randrange(len(content))] = dice.randrange(256)
    return bytes(content), "+".join(done)


_OUT_OF_TIME = (signal.SIGXCPU, signal.SIGKILL)


def warm_up(folder: Path) -> None:
    """Import, by a run of every command on a good model, what every fork would import again."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for command in COMMANDS:
            main([part.format(m=EXAMPLES / "digits.onnx", o=folder / "o.onnx") for part in command])
    (folder / "o.onnx").unlink(missing_ok=True)


def run_apart(args: list[str], said: Path) -> str:
    """Run a command in a fork; gives how it ended: an exit code, a signal, or a hang."""
    child = os.fork()
    if not child:
        code = 99
        resource.setrlimit(resource.RLIMIT_CPU, (HANG_SECONDS, HANG_SECONDS))
        try:
            with said.open("w") as file, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(file):
                code = main(args)
        finally:
            os._exit(code)
    deadline = time.monotonic() + 10 * HANG_SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return str(code) if code >= 0 else "hang" if -code in _OUT_OF_TIME else f"signal {-code}"
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hang"


def fault(ended: str, said: str, out: Path) -> str:
    """What is wrong with how a run ended; empty where nothing is."""
    if not ended.isdigit() or int(ended) > 4:
        return ended
    if "internal:" in said:
        return said[said.index("internal:") :].splitlines()[0]
    return "wrote a file though it failed" if ended != "0" and out.exists() else ""


def trial(number: int, seed: int, folder: Path, ends: Counter[str]) -> None:
    dice = random.Random(f"{seed} {number}")
    content, done = broken(dice.choice(MODELS), dice)
    path, out, said = folder / "m.onnx", folder / "o.onnx", folder / "said"
    path.write_bytes(content)
    command = [part.format(m=path, o=out) for part in dice.choice(COMMANDS)]
    ended = run_apart(command, said)
    ends[ended] += 1
    if wrong := fault(ended, said.read_text(errors="replace"), out):
        kept = os.environ.get("INTAGLIO_FUZZ_KEEP")
        if kept:
            (Path(kept) / f"{seed}-{number}.onnx").write_bytes(content)
        print(f"BAD {seed}-{number} {' '.join(command[:1] + command[4:])} [{done}]: {wrong}", flush=True)
    out.unlink(missing_ok=True)


if __name__ == "__main__":
    seconds, seed = float(sys.argv[1]), int(sys.argv[2])
    most = int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        warm_up(Path(name))
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until and number < most:
            trial(number, seed, Path(name), ends)
            number += 1
    print(f"{number} runs: {dict(ends)}")
