"""Break models in many ways and run commands on them: ``python -m tests.hostile SECONDS SEED [MOST]``.

Prints a line for each run that ended badly, and what was done. A few runs at a time have a process of their own, forked
from this one, so that a crash or a hang is one line too.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from intaglio.cli.main import main
from tests.hostile_models import EXAMPLES, written

HANG_SECONDS = 30
"""Of the processor; ten times as many by the clock."""
BATCH = 25
"""Runs of one process: a fork costs as much as a small run."""
EXAMPLE, DATA = str(EXAMPLES / "digits.onnx"), str(EXAMPLES / "digits_test.npz")
QUICK = ("-o", "{o}", "--no-measure")
SAMPLES = ("--samples", "4")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("inspect", "{m}"),
    ("inspect", "{m}", "--shape", "x:2,3,8,8"),
    ("groups", "{m}", "--members"),
    ("check", "{m}"),
    ("prune", "{m}", *QUICK, "--channels", "0.5"),
    ("prune", "{m}", *QUICK, "--params", "0.7", "--criterion", "variance", "--proof", "{o}.proof.onnx"),
    ("quantize", "{m}", *QUICK, "--scheme", "w8"),
    ("quantize", "{m}", *QUICK, "--scheme", "w8", "--runtime", "ort>=1.18"),
    ("quantize", "{m}", *QUICK, "--scheme", "w4", "--opset", "21"),
    ("quantize", "{m}", *QUICK, "--scheme", "mixed", "--size", "0.3"),
    ("quantize", "{m}", *QUICK, "--scheme", "fp16"),
    ("quantize", "{m}", *QUICK, "--scheme", "dynamic", "--opset", "17", "--ir", "8"),
    ("quantize", "{m}", *QUICK, "--scheme", "int8"),
    ("quantize", "{m}", *QUICK, "--scheme", "int8", "--data", DATA, *SAMPLES),
    ("binarize", "{m}", *QUICK),
    ("binarize", "{m}", *QUICK, "--form", "packed"),
    ("factorize", "{m}", *QUICK, "--params", "0.6"),
    ("simplify", "{m}", *QUICK),
    ("simplify", "{m}", *QUICK, "--opset", "15", "--no-verify"),
    ("compress", "{m}", *QUICK, "--recipe", "data-free"),
    ("compare", "{m}", EXAMPLE, "--runs", "1"),
    ("compare", EXAMPLE, "{m}", "--runs", "1", "--data", DATA, *SAMPLES),
    ("bisect", EXAMPLE, "{m}", "--data", DATA, *SAMPLES),
    ("bisect", "{m}", EXAMPLE, "--data", DATA, *SAMPLES),
    ("evaluate", "{m}", "--data", DATA, *SAMPLES),
    ("bench", "{m}", "--runs", "1"),
    *(("export", "{m}", *QUICK, "--to", target) for target in ("onnx", "c")),
    ("export", "{m}", "-o", "{o}.tflite", "--no-measure", "--to", "tflite"),
)
ON_DATA = (
    ("quantize", EXAMPLE, *QUICK, "--scheme", "int8", "--data", "{m}", *SAMPLES),
    ("evaluate", EXAMPLE, "--data", "{m}", *SAMPLES),
    ("check", EXAMPLE, "--data", "{m}"),
    ("compare", EXAMPLE, EXAMPLE, "--runs", "1", "--data", "{m}", *SAMPLES),
)
ON_RECIPES = (
    ("compress", EXAMPLE, "-o", "{o}", "--recipe", "{m}"),
    ("compress", EXAMPLE, "-o", "{o}", "--recipe", "{m}", "--set", "keep=0.9"),
)
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 2**31 - 1, 2**31, 2**62, -(2**63), -5)
TEXTS = ("", "x", "\x1b[2J", "a/b", "NOTSET", "..")
Mutation = Callable[[onnx.ModelProto, random.Random], None]
MUTATIONS: list[Mutation] = []


def mutation(function: Mutation) -> Mutation:
    MUTATIONS.append(function)
    return function


def _bodies(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    return [a.g for node in graph.node for a in node.attribute if a.type == AttributeProto.GRAPH]


def _graph(model: onnx.ModelProto, dice: random.Random) -> onnx.GraphProto:
    """The whole, or as often the body of a node."""
    return dice.choice([model.graph, dice.choice(_bodies(model.graph) or [model.graph])])


def _node(model: onnx.ModelProto, dice: random.Random) -> onnx.NodeProto:
    return dice.choice(_graph(model, dice).node)


def _attribute(model: onnx.ModelProto, dice: random.Random) -> AttributeProto:
    return dice.choice([a for n in _graph(model, dice).node for a in n.attribute] or [AttributeProto()])


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


@mutation
def body_ends(model: onnx.ModelProto, dice: random.Random) -> None:
    """A body takes or gives more or less than its node hands it, or in another order."""
    graph = dice.choice(_bodies(model.graph))
    ends = dice.choice([graph.input, graph.output])
    if dice.random() < 0.5:
        del ends[dice.randrange(len(ends))]
    else:
        ends.append(dice.choice([*graph.input, *graph.output, *model.graph.input]))


@mutation
def body_elsewhere(model: onnx.ModelProto, dice: random.Random) -> None:
    """One body in the place of another, or a body in itself."""
    node = dice.choice([n for n in model.graph.node if any(a.type == AttributeProto.GRAPH for a in n.attribute)])
    attribute = dice.choice([a for a in node.attribute if a.type == AttributeProto.GRAPH])
    other = onnx.GraphProto()
    other.CopyFrom(dice.choice(_bodies(model.graph)))
    dice.choice([attribute.g, other]).node.append(node)
    attribute.g.CopyFrom(other)


@mutation
def sequence_or_map(model: onnx.ModelProto, dice: random.Random) -> None:
    """An end that is no tensor."""
    kind = dice.choice([*model.graph.input, *model.graph.output]).type
    inner = kind.tensor_type.elem_type
    dice.choice((kind.sequence_type.elem_type, kind.optional_type.elem_type)).tensor_type.elem_type = inner


@mutation
def domain_changed(model: onnx.ModelProto, dice: random.Random) -> None:
    _node(model, dice).domain = dice.choice(("com.microsoft", "ai.onnx.ml", "intaglio", "local", "ai.onnx"))


@mutation
def weights_elsewhere(model: onnx.ModelProto, dice: random.Random) -> None:
    tensor = dice.choice(model.graph.initializer)
    tensor.data_location = TensorProto.EXTERNAL
    where = dice.choice(("../x", "m.onnx", "nothing", "/dev/zero", ""))
    for key, value in (("location", where), ("offset", str(dice.choice(NUMBERS))), ("length", "8")):
        tensor.external_data.add(key=key, value=value)


ONE_OPERAND = ("Relu", "Sigmoid", "Tanh", "Erf", "Neg", "Abs", "Sin", "Softmax", "Identity", "HardSwish", "Exp", "Sqrt")
TWO_OPERANDS = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu")


@mutation
def like_operator(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another operator that takes the same."""
    group = dice.choice((ONE_OPERAND, TWO_OPERANDS))
    node = dice.choice([n for n in _graph(model, dice).node if n.op_type in group])
    node.op_type = dice.choice(group)


@mutation
def node_between(model: onnx.ModelProto, dice: random.Random) -> None:
    """A node more between one and its readers, which may be a Cast, a turned axis, or a copy."""
    graph = _graph(model, dice)
    at = dice.randrange(len(graph.node))
    node = graph.node[at]
    made = node.output[0]
    node.output[0] = f"{made}/before"
    ways = [onnx.helper.make_node(op, [node.output[0]], [made]) for op in ONE_OPERAND]
    kind = dice.choice((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.DOUBLE))
    ways.append(onnx.helper.make_node("Cast", [node.output[0]], [made], to=kind))
    ways.append(onnx.helper.make_node("Transpose", [node.output[0]], [made]))
    ways.append(onnx.helper.make_node("ReduceMax", [node.output[0]], [made], keepdims=dice.randrange(2)))
    ways += [onnx.helper.make_node(op, [node.output[0]] * 2, [made]) for op in ("Add", "Mul", "MatMul")]
    graph.node.insert(at + 1, dice.choice(ways))


@mutation
def weight_scaled(model: onnx.ModelProto, dice: random.Random) -> None:
    tensor = dice.choice(model.graph.initializer)
    values = numpy_helper.to_array(tensor)
    factor = dice.choice((0, 1e-40, 1e-20, 1e20, 1e38, -1, float("nan")))
    with np.errstate(all="ignore"):
        tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), tensor.name))


@mutation
def weight_of_other_type(model: onnx.ModelProto, dice: random.Random) -> None:
    """Every float weight in another type, the ends too, as a converted model has them."""
    kind = dice.choice((np.float16, np.float64))
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            with np.errstate(all="ignore"):
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16 if kind is np.float16 else TensorProto.DOUBLE


@mutation
def weight_shared(model: onnx.ModelProto, dice: random.Random) -> None:
    """Two nodes read one weight, where the shapes are equal."""
    tensor = dice.choice(model.graph.initializer)
    like = [t.name for t in model.graph.initializer if t.dims == tensor.dims]
    for node in model.graph.node:
        node.input[:] = [tensor.name if name in like else name for name in node.input]


@mutation
def weight_as_node(model: onnx.ModelProto, dice: random.Random) -> None:
    """A weight made by a Constant, or asked for as an input with a default."""
    at = dice.randrange(len(model.graph.initializer))
    tensor = model.graph.initializer[at]
    if dice.random() < 0.5:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        return
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[at]


@mutation
def inner_output(model: onnx.ModelProto, dice: random.Random) -> None:
    """What stands in the middle is an output too, or the only one."""
    name = dice.choice([o for n in model.graph.node for o in n.output if o])
    if dice.random() < 0.3:
        del model.graph.output[:]
    model.graph.output.add(name=name).type.tensor_type.elem_type = TensorProto.FLOAT


@mutation
def free_sizes(model: onnx.ModelProto, dice: random.Random) -> None:
    """Sizes that are free, of one name or of none, or pinned to 1."""
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dice.random() < 0.4:
                dim.Clear()
                dim.dim_param = dice.choice(("", "N", "M", "1x", "N"))


@mutation
def number_nearby(model: onnx.ModelProto, dice: random.Random) -> None:
    """One number of an attribute or of an integer constant off by one, or doubled."""
    a = _attribute(model, dice)
    if a.ints:
        a.ints[dice.randrange(len(a.ints))] += dice.choice((-1, 1, 2))
    else:
        a.i += dice.choice((-1, 1, 2))
    integers = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64]
    if integers and dice.random() < 0.5:
        tensor = dice.choice(integers)
        values = numpy_helper.to_array(tensor) + dice.choice((-1, 1, -2))
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, np.int64), tensor.name))


GENTLE = (
    like_operator,
    node_between,
    weight_scaled,
    weight_of_other_type,
    weight_shared,
    weight_as_node,
    inner_output,
    free_sizes,
    number_nearby,
    values_odd,
)
"""What often leaves a model that runs, so that commands get to work on it."""


def flipped(content: bytes, dice: random.Random) -> bytes:
    """A few bytes other than they were, or the end gone."""
    changed = bytearray(content)
    for _ in range(dice.randrange(1, 4)):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed[: dice.randrange(len(changed))] if dice.random() < 0.1 else changed)


_CANNOT = (ValueError, TypeError, LookupError, OSError, OverflowError, onnx.checker.ValidationError)
"""What a model is told that cannot be changed in such a way."""


def broken(path: Path, dice: random.Random) -> tuple[bytes, str]:
    """A broken model, and what was done to it."""
    model = onnx.load(path)
    done, gentle = [path.stem], dice.random() < 0.5
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        change = dice.choice(GENTLE if gentle else MUTATIONS)
        done.append(change.__name__)
        with contextlib.suppress(*_CANNOT):
            change(model, dice)
    content = model.SerializeToString()
    if not gentle and dice.random() < 0.2:
        done.append("bytes")
        content = flipped(content, dice)
    return content, "+".join(done)


def broken_data(dice: random.Random) -> tuple[bytes, str]:
    """Samples of other shapes, types and numbers, or an archive with wrong bytes."""
    shape = dice.choice(((4, 1, 8, 8), (4, 8, 8, 1), (4, 64), (0, 1, 8, 8), (4,), (), (1, 1, 8, 8), (4, 1, 0, 8)))
    kind = dice.choice(("float32", "float64", "uint8", "int64", "bool", "complex64", "U3", "O", "float16", "M8[s]"))
    image = np.full(shape, dice.choice((0, 1, 255)), np.float32).astype(kind)
    if kind == "float32" and image.size:
        image.flat[0] = dice.choice((float("nan"), float("inf"), 1e38, 0.0))
    labels = np.full(dice.choice(((4,), (3,), (4, 1), ())), dice.choice((0, -1, 99, 2**31)))
    with np.errstate(all="ignore"):
        labels = labels.astype(dice.choice((kind, "int64", "int64")))
    arrays = {dice.choice(("image", "image", "x", "")): image, dice.choice(("labels", "labels", "y")): labels}
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **{name or "_": array for name, array in arrays.items()})
    content = file.getvalue()
    return (flipped(content, dice), "data+bytes") if dice.random() < 0.3 else (content, f"data {kind} {shape}")


RECIPE = """\
variables:
  keep: 0.8
passes:
  - pass: prune
    target: params
    keep: ${keep}
  - pass: quantize
    scheme: w8
gates:
  - size <= 0.9x
"""
STRANGE = (
    "[]",
    "{}",
    "null",
    "-1",
    "1e400",
    "!!python/name:os.system",
    "${keep}",
    "*a",
    "&a",
    "\x00",
    "|",
    "2026-11-30",
)


def broken_recipe(dice: random.Random) -> tuple[bytes, str]:
    """A recipe whose values, lines or bytes are others."""
    lines = RECIPE.splitlines()
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(lines))
        key = lines[at].partition(":")[0]
        lines[at] = dice.choice((f"{key}: {dice.choice(STRANGE)}", "", dice.choice(lines), f"  {lines[at]}"))
    content = "\n".join(lines).encode()
    return (flipped(content, dice), "recipe+bytes") if dice.random() < 0.3 and content else (content, "recipe")


def drawn(models: list[Path], dice: random.Random) -> tuple[bytes, str, tuple[str, ...]]:
    """A broken file, what was done to it, and the command that is run on it."""
    kind = dice.random()
    if kind < 0.04:
        return *broken_data(dice), dice.choice(ON_DATA)
    if kind < 0.08:
        return *broken_recipe(dice), dice.choice(ON_RECIPES)
    return *broken(dice.choice(models), dice), dice.choice(COMMANDS)


_OUT_OF_TIME = (signal.SIGXCPU, signal.SIGKILL)


def warm_up(folder: Path) -> list[Path]:
    """Import, by a run of every command on a good model, what every fork would import again; gives the models to break."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for command in COMMANDS:
            main([part.format(m=EXAMPLE, o=folder / "o.onnx") for part in command])
            cleared(folder / "o.onnx")
        return list(written(folder))


def cleared(out: Path) -> bool:
    """Remove what a command wrote; whether it was a model."""
    (out.parent / f"{out.name}.proof.onnx").unlink(missing_ok=True)
    if (lite := out.with_name(f"{out.name}.tflite")).exists():
        lite.unlink()
        return True
    if out.is_dir():
        wrote = (out / "model.onnx").exists() or any(out.glob("*.c"))
        shutil.rmtree(out)
        return wrote
    wrote = out.exists()
    out.unlink(missing_ok=True)
    return wrote


def cpu_seconds() -> float:
    """Of this process and those that it waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


def run_here(args: list[str], said: Path) -> str:
    """Run a command; gives how it ended: an exit code, or a hang. One that takes far too long ends this process."""
    before = cpu_seconds()
    spent = resource.getrusage(resource.RUSAGE_SELF)
    until = int(spent.ru_utime + spent.ru_stime) + HANG_SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
    code = 99
    quiet = contextlib.redirect_stdout(io.StringIO())
    with said.open("w") as file, quiet, contextlib.redirect_stderr(file), contextlib.suppress(BaseException):
        code = main(args)
    return "hang" if cpu_seconds() - before > HANG_SECONDS else str(code)


def forked(work: Callable[[int], None]) -> Iterator[str]:
    """Lines that ``work`` writes to a file in a fork; the last one is how that ended: an exit code, a signal or a hang."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            work(writing)
        finally:
            os._exit(0)
    os.close(writing)
    told, ended = b"", ""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while True:
            if not select.select([pipe], [], [], 10 * HANG_SECONDS)[0]:
                ended = "hang"
                os.kill(child, signal.SIGKILL)
            if not (some := pipe.read(1 << 16)):
                break
            *lines, told = (told + some).split(b"\n")
            yield from (line.decode() for line in lines)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    yield ended or (str(code) if code >= 0 else "hang" if -code in _OUT_OF_TIME else f"signal {-code}")


def fault(ended: str, said: str, wrote: bool) -> str:
    """What is wrong with how a run ended; empty where nothing is."""
    if not ended.isdigit() or int(ended) > 4:
        return ended
    if "internal:" in said:
        return said[said.index("internal:") :].splitlines()[0]
    return "wrote a file though it failed" if ended != "0" and wrote else ""


def trial(number: int, seed: int, models: list[Path], folder: Path) -> tuple[str, str]:
    """One run: how it ended, and what is wrong with that."""
    _, args = prepared(number, seed, models, folder)
    said = folder / "said"
    ended = run_here(args, said)
    return ended, fault(ended, said.read_text(errors="replace"), cleared(folder / "o.onnx"))


def prepared(number: int, seed: int, models: list[Path], folder: Path) -> tuple[str, list[str]]:
    """Write the broken file of a run; gives what was done to it, and the command."""
    content, done, command = drawn(models, random.Random(f"{seed} {number}"))
    kind = "npz" if done.startswith("data") else "yaml" if done.startswith("recipe") else "onnx"
    path = folder / f"m.{kind}"
    path.write_bytes(content)
    return done, [part.format(m=path, o=folder / "o.onnx") for part in command]


def trials(numbers: range, seed: int, models: list[Path], folder: Path, ends: Counter[str]) -> None:
    """Runs in one fork, and in another one after each that ended the first; tells of the bad ones."""
    left = list(numbers)

    def work(writing: int) -> None:
        for number in left:
            ended, wrong = trial(number, seed, models, folder)
            os.write(writing, f"{ended} {wrong}\n".encode())

    while left:
        *lines, last = forked(work)
        for line in lines:
            ended, _, wrong = line.partition(" ")
            ends[ended] += 1
            if wrong:
                tell(left[0], seed, models, folder, wrong)
            del left[0]
        if left:
            cleared(folder / "o.onnx")
            ends[last] += 1
            tell(left[0], seed, models, folder, last)
            del left[0]


def tell(number: int, seed: int, models: list[Path], folder: Path, wrong: str) -> None:
    """Print what was wrong, and keep the file where that is asked for."""
    done, args = prepared(number, seed, models, folder)
    path = Path(next(part for part in args if Path(part).stem == "m"))
    if kept := os.environ.get("INTAGLIO_FUZZ_KEEP"):
        shutil.copy(path, Path(kept) / f"{seed}-{number}{path.suffix}")
    told = " ".join(Path(part).name if "/" in part else part for part in args)
    print(f"BAD {seed}-{number} {told} [{done}]: {wrong}", flush=True)


if __name__ == "__main__":
    seconds, seed = float(sys.argv[1]), int(sys.argv[2])
    most = int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        os.environ["INTAGLIO_CACHE"] = name
        models = warm_up(Path(name))
        until, number = time.monotonic() + seconds, 0
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped early, it tells what it did
        with contextlib.suppress(KeyboardInterrupt):
            while time.monotonic() < until and number < most:
                batch = range(number, min(number + BATCH, most))
                trials(batch, seed, models, Path(name), ends)
                number = batch.stop
    print(f"{number} runs: {dict(ends)}")
