"""What is wrong with a model file, said before anything else trips over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from ..errors import BadModel
from ..model import Model
from ..nodes import all_nodes, display_name, is_standard, subgraphs
from ..traits import DEFAULT_DOMAINS
from .bounds import check_functions, check_model_texts, check_texts, check_values
from .schemas import check_bodies, check_constants, check_fields, check_node, key_of

_CONVERT = "convert it to ONNX first"
_NETWORK = "it holds weights without a graph; name the network: FILE.py:factory --weights FILE, or give a folder of transformers"
_STARTS = (
    (0, b"PK\x03\x04", "a zip archive (PyTorch or Keras, perhaps)", "export it to ONNX; archives are never opened"),
    (0, b"\x80\x02", "a pickle (an old PyTorch file, perhaps)", "export it to ONNX; pickles are never opened"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, perhaps)", _CONVERT),
    (0, b"GGUF", "a GGUF file", "it holds no graph; give the folder of transformers that it was made from"),
    (0, b"\x93NUMPY", "a numpy array", "give the model, not its data"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it with: git lfs pull"),
    (0, b"7767517", "an ncnn parameter file", "give the ONNX file it was made from"),
    (0, b"<?xml", "an XML file (OpenVINO, perhaps)", "give the ONNX file it was made from"),
    (2, bytes(6) + b'{"', "a safetensors file", _NETWORK),
    (4, b"TFL3", "a TensorFlow Lite model", "call it NAME.tflite"),
    (4, b"ORTM", "an ONNX Runtime (.ort) model", "give the .onnx file it was made from"),
)
"""Where which bytes stand in files of other kinds, what these are, and what to do."""


def looks_like(head: bytes) -> tuple[str, str] | None:
    """What a file that is no ONNX model looks like by its first bytes, and what to do about it."""
    for at, start, kind, fix in _STARTS:
        if head.startswith(start, at):
            return kind, fix
    text = head.lstrip()
    if text[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page", "the download went wrong; fetch the file itself"
    if text and all(32 <= c < 127 or c in b"\t\n\r" for c in text[:256]):
        return "a text file", "give the binary .onnx file"
    return None


def check_versions(proto: onnx.ModelProto, path: Path | None = None) -> None:
    """Raises BadModel where the installed onnx cannot know what the model means."""
    what = f"{path or 'the model'} is no usable ONNX model"
    if not proto.HasField("graph") or not proto.ir_version:
        raise BadModel(what, why="the protobuf message has no graph or no IR version", fix="is it another format?")
    if not proto.graph.node and not proto.graph.output:
        raise BadModel(what, why="its graph is empty: no nodes and no outputs", fix="export it again")
    if not proto.graph.output:
        raise BadModel(what, why="its graph has no outputs", fix="export it again")
    newer = f"update the onnx package ({onnx.__version__} is installed) or export for an older version"
    if proto.ir_version > onnx.IR_VERSION:
        raise BadModel(what, why=f"IR version {proto.ir_version}: {onnx.IR_VERSION} is the newest known", fix=newer)
    if not proto.opset_import:
        raise BadModel(what, why="it names no operator set", fix="the file is damaged; copy or export it again")
    newest = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if opset.domain in DEFAULT_DOMAINS and not 0 < opset.version <= newest:
            raise BadModel(what, why=f"operator set {opset.version}: 1 to {newest} are known", fix=newer)


def check_graph(model: Model) -> None:
    """Raises BadModel unless tensors are made once, before they are used, and nodes are as their operators define them.

    The one place where that is asked: nothing behind it meets what a definition forbids.
    """
    check_model_texts(model.proto)
    check_functions(model.proto)
    _check_scope(model.graph, "", [], [set(model.weights)], model.opset)
    for function in model.proto.functions:
        _check_function(function)
    for info in model.proto.training_info:
        for node in (*all_nodes(info.initialization), *all_nodes(info.algorithm)):
            check_fields(node)


def check_weights(model: Model) -> None:
    """Raises BadModel where a constant cannot be the operand of a node that it is, in bodies, too."""
    _check_constants(model.graph, model.opset, model.weights)


def _check_constants(graph: onnx.GraphProto, opset: int, weights: Mapping[str, np.ndarray]) -> None:
    check_constants(graph.node, opset, weights)
    for body in (body for node in graph.node for body in subgraphs(node)):
        own = {value.name for value in body.input}.union(*(node.output for node in body.node))
        outer = {name: weight for name, weight in weights.items() if name not in own}
        _check_constants(body, opset, {**outer, **{t.name: _blank(t) for t in body.initializer}})


def _blank(tensor: onnx.TensorProto) -> np.ndarray:
    """Of the type and shape of a tensor, and without its numbers."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.broadcast_to(np.zeros((), kind), tuple(tensor.dims))


def _check_function(function: onnx.FunctionProto) -> None:
    known: set[str] = set()
    _add(known, function.input, f"input of function {function.name!r}:")
    opset = next((o.version for o in function.opset_import if o.domain in DEFAULT_DOMAINS), 0)
    _check_nodes([function], [known], opset)
    for name in function.output:
        if name not in known:
            raise BadModel(f"nothing makes output {name!r} of function {function.name!r}", fix="export the model again")


def _check_nodes(
    graphs: Sequence[onnx.GraphProto | onnx.FunctionProto], scopes: Sequence[set[str]], opset: int
) -> None:
    """Check the innermost graph, which comes last; ``scopes`` has the names each graph knows so far."""
    known = scopes[-1]
    right: set[object] = set()
    for node in graphs[-1].node:
        if not node.op_type or isinstance(node.op_type, bytes):
            raise BadModel(f"node {display_name(node)!r} has no operator")
        if isinstance(node.name, bytes) or isinstance(node.domain, bytes):
            check_texts("node", (node.name, node.domain))
        key = key_of(node)
        if key is None or key not in right:
            check_fields(node)
            check_node(node, opset)
            right.add(key)
        for name in node.input:
            if name and not any(name in scope for scope in scopes):
                raise _undefined(node, name, graphs)
        if is_standard(node):
            check_bodies(node, opset)
        for body in subgraphs(node):
            _check_scope(body, "subgraph ", graphs, [*scopes, set()], opset)
        _add(known, (o for o in node.output if o), f"output of node {display_name(node)!r}:")


def _check_scope(
    graph: onnx.GraphProto,
    kind: str,
    around: Sequence[onnx.GraphProto | onnx.FunctionProto],
    scopes: Sequence[set[str]],
    opset: int,
) -> None:
    """Check a graph or body; the last of ``scopes`` has the names that it starts with."""
    _add(scopes[-1], (t.name for t in graph.initializer), f"{kind}initializer")
    _add(scopes[-1], (s.values.name for s in graph.sparse_initializer), f"{kind}sparse initializer")
    _add(scopes[-1], (i.name for i in graph.input), f"{kind or 'graph '}input")
    check_values(graph)
    _check_nodes([*around, graph], scopes, opset)
    for output in graph.output:
        if not any(output.name in scope for scope in scopes):
            raise BadModel(f"nothing makes graph output {output.name!r}", fix="export the model again")


def _undefined(node: onnx.NodeProto, name: str, graphs: Sequence[onnx.GraphProto | onnx.FunctionProto]) -> BadModel:
    what = f"node {display_name(node)!r} ({node.op_type}) uses tensor {name!r} before it exists"
    maker = next((n for graph in graphs for n in graph.node if name in n.output), None)
    if maker is None:
        return BadModel(what, why="nothing makes that tensor", fix="the file is damaged; export it again")
    why = f"node {display_name(maker)!r} makes it later: the nodes are not sorted, or form a cycle"
    return BadModel(what, why=why, fix="sort the nodes of the graph, then try again")


def _add(known: set[str], names: Iterable[str], kind: str) -> None:
    for name in names:
        if name in known:
            raise BadModel(f"{kind} {name!r} has the name of another tensor", fix="names must be unique; export again")
        check_texts(kind, (name,))
        known.add(name)
