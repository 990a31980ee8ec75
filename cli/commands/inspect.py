"""``intaglio inspect``: what a model is made of and where its cost lies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

from .. import console
from ..opened_model import OpenedModel, dims_text, open_model
from ..options import Debug, Json, ModelPath, Shapes, Values, option

if TYPE_CHECKING:
    from ...graph.cost import Cost
    from ...measure.run.tensor_specs import TensorSpec


def inspect(
    model: ModelPath,
    top: Annotated[int, option("--top N", "How many of the largest layers to list.", min=0)] = 10,
    shape: Shapes = None,
    value: Values = None,
    bits: Annotated[
        bool, option("--bits", "Also how few operations an order of the filters could leave, where they are signs.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a model is made of and where its cost lies.

    MACs and activations are those of one sample; symbolic dimensions count as 1 unless --shape pins them.

    Example: intaglio inspect model.onnx --top 20
    """
    from ...graph.cost import cost

    opened = open_model(model, shape, value)
    costs = cost(opened.model)
    result = _result(opened, costs)
    if bits:
        from ...measure.bit_order import bit_orders

        with console.progress("ordering filters"):
            result["bit_orders"] = [order.as_dict() for order in bit_orders(opened.model)]
    console.emit(result, lambda: _show(result, top))


def _result(opened: OpenedModel, costs: Cost) -> dict[str, Any]:
    from ...measure.run.tensor_specs import input_specs, output_specs

    model, proto = opened.model, opened.model.proto
    inputs, outputs = input_specs(model), output_specs(model)
    return {
        "model": str(opened.path),
        "opset": model.opset,
        "ir_version": proto.ir_version,
        "domains": {o.domain or "ai.onnx": o.version for o in proto.opset_import},
        "producer": " ".join(filter(None, (proto.producer_name, proto.producer_version))),
        "inputs": [_port(p) for p in inputs],
        "outputs": [_port(p) for p in outputs],
        "nodes": len(model.graph.node),
        "operators": dict(Counter(_operator(n.domain, n.op_type) for n in model.graph.node).most_common()),
        "functions": [f.name for f in proto.functions],
        "params": costs.params,
        "macs": costs.macs,
        **({"bops": costs.bops, "equivalent_macs": costs.equivalent_macs} if costs.bops else {}),
        **({"bit_params": costs.bit_params} if costs.bit_params else {}),
        "size_bytes": opened.size_bytes,
        "weight_bytes": costs.weight_bytes,
        "peak_activation_bytes": costs.peak_activation_bytes,
        "layers": [
            {
                "name": n.name,
                "op": n.op,
                "macs": n.macs,
                "params": n.params,
                "shape": n.out_shape,
                **({"bops": n.bops} if costs.bops else {}),
            }
            for n in costs.nodes
        ],
        "metadata": {p.key: p.value for p in proto.metadata_props},
        "notes": [*model.notes, *_free_dimensions(inputs), *_uncounted(costs)],
    }


def _show(result: dict[str, Any], top: int) -> None:
    described = [(f"{side[:-1]} {p['name']}", p["told"]) for side in ("inputs", "outputs") for p in result[side]]
    operators = ", ".join(f"{count} {op}" for op, count in result["operators"].items())
    versions = ", ".join(f"{d} {v}" for d, v in result["domains"].items() if d != "ai.onnx")
    made = f", made by {result['producer']}" if result["producer"] else ""
    console.facts(
        [
            ("model", result["model"]),
            ("opset", f"{result['opset']}{f' ({versions})' if versions else ''}, IR {result['ir_version']}{made}"),
            *described,
            ("nodes", f"{result['nodes']}: {operators}" if operators else 0),
            ("parameters", console.human(result["params"]) + _in_bits(result)),
            ("MACs", console.human(result["macs"])),
            *_bit_operations(result),
            ("file", console.human(result["size_bytes"], "B")),
            ("weights", console.human(result["weight_bytes"], "B")),
            ("peak activations", console.human(result["peak_activation_bytes"], "B")),
            *(
                (f"metadata {key}", value if len(value) <= 200 else value[:197] + "...")
                for key, value in result["metadata"].items()
            ),
            *(("note", note) for note in result["notes"]),
        ]
    )
    largest = sorted(result["layers"], key=lambda n: (_macs(n), n["params"]), reverse=True)[:top]
    largest = [n for n in largest if _macs(n) or n["params"]]
    if largest:
        console.line()
        console.table(
            _title(len(largest)),
            ("layer", "operator", "output", "MACs", *(["of bits"] if "bops" in result else []), "", "parameters", ""),
            [_layer(n, result) for n in largest],
        )
    if "bit_orders" in result:
        _show_orders(result["bit_orders"])


def _show_orders(orders: list[dict[str, Any]]) -> None:
    console.line()
    if not orders:
        console.line("no layer has weights that are signs")
        return
    rows = [
        [
            *(o["name"], o["groups"] * o["rows"], o["length"], console.human(o["operations"])),
            *(
                console.human(o["tree"]),
                console.number(o["saved"], unit=" x"),
                console.number(o["random_saved"], unit=" x"),
                o["depth"] or "-",
            ),
        ]
        for o in orders
    ]
    columns = ("layer", "filters", "length", "operations", "by a tree", "fewer", "random signs", "depth")
    console.table("Each filter's sum from that of a similar one", columns, rows)
    console.line(
        "random signs: how many times fewer operations a tree leaves of these; only what is more is the weights'"
    )
    console.line("depth: the steps that follow on each other; they are irregular, so no time is promised")


def _title(count: int) -> str:
    return f"The {count} largest layers" if count > 1 else "The largest layer"


def _layer(layer: dict[str, Any], result: dict[str, Any]) -> list[object]:
    shape = dims_text(layer["shape"])
    macs = [console.human(layer[key]) for key in ("macs", "bops") if key in layer]
    shares = [(_macs(layer), _macs(result)), (layer["params"], result["params"])]
    share = [console.percent(part / whole, 1) if whole else "-" for part, whole in shares]
    return [layer["name"], layer["op"], shape, *macs, share[0], console.human(layer["params"]), share[1]]


def _macs(counted: dict[str, Any]) -> float:
    """MACs of a layer or a model, those of bits among them."""
    from ...graph.bits import BITS_A_MAC

    return counted["macs"] + counted.get("bops", 0) / BITS_A_MAC


def _bit_operations(result: dict[str, Any]) -> list[tuple[str, str]]:
    if "bops" not in result:
        return []
    told = f"{console.human(result['bops'])}, as much as {console.human(_macs(result) - result['macs'])} of floats"
    return [("MACs of bits", told)]


def _in_bits(result: dict[str, Any]) -> str:
    return f", {console.human(result['bit_params'])} of them kept as bits" if "bit_params" in result else ""


def _port(port: TensorSpec) -> dict[str, Any]:
    return {"name": port.name, "shape": port.shape, "told": port.describe()}


def _operator(domain: str, op_type: str) -> str:
    from ...graph.traits import DEFAULT_DOMAINS

    return op_type if domain in DEFAULT_DOMAINS else f"{domain}.{op_type}"


def _free_dimensions(inputs: list[TensorSpec]) -> list[str]:
    """Symbols other than the batch, which make the figures too small as long as they count as 1."""
    from ...measure.run.tensor_specs import free_sizes

    free = free_sizes(inputs)
    return [f"MACs and activations count {', '.join(free)} as 1: pin real sizes with --shape NAME:DIMS"] if free else []


def _uncounted(costs: Cost) -> list[str]:
    if not costs.uncounted:
        return []
    some = ", ".join(costs.uncounted[:3]) + (", ..." if len(costs.uncounted) > 3 else "")
    return [f"MACs are not counted for {console.count(len(costs.uncounted), 'node')} of unknown shape: {some}"]
