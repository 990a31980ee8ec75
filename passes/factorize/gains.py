"""How long layers and what they would become take on this machine, node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from ...graph.index import index_of
from ...graph.model import Model
from ...graph.shapes import Shapes
from ...measure.optime.cache import cache_folder
from ...measure.optime.probe import Layer, Operand, describe
from ...measure.optime.times import LayerTimes
from ..simplify import Names
from .candidates import Option
from .rewrite import split
from .schemes.scheme import SCHEMES
from .sites import Site, Unit


class Gains:
    """Times of units and of options in runs of a fixed reference; every shape is measured once and remembered.

    ``sizes`` gives symbolic dimensions the numbers of a real run.
    """

    def __init__(self, model: Model, sizes: Callable[[str], int], times: LayerTimes | None = None) -> None:
        self.model = model
        self.shapes = index_of(model).shapes_at(sizes)
        self.times = times or LayerTimes(folder=cache_folder())
        self.opsets = {o.domain: o.version for o in model.proto.opset_import}

    def units(self, units: Sequence[Unit]) -> list[float | None]:
        """What each takes now; None where a node cannot run alone."""
        return self._sums(
            [[self._described(s.proto, self.shapes, self.model.weights) for s in unit.sites] for unit in units]
        )

    def options(self, pairs: Sequence[tuple[Unit, Option]]) -> list[float | None]:
        """What each would take."""
        return self._sums([self._stages(unit, option) for unit, option in pairs])

    def gains(self, pairs: Sequence[tuple[Unit, Option]]) -> list[float | None]:
        """How many times faster each is than its layer is now."""
        before, after = self.units([unit for unit, _ in pairs]), self.options(pairs)
        return [b / a if a and b else None for a, b in zip(after, before, strict=True)]

    def _sums(self, layers: Sequence[Sequence[Layer]]) -> list[float | None]:
        times = iter(self.times.of([layer for some in layers for layer in some]))
        found: list[float | None] = []
        for some in layers:
            own = [next(times) for _ in some]
            known = [t for t in own if t is not None]
            found.append(sum(known) if len(known) == len(own) else None)
        return found

    def _stages(self, unit: Unit, option: Option) -> list[Layer]:
        scheme = SCHEMES[option.scheme]
        blank = split(self.model, unit, scheme, scheme.blank(unit.site, option.rank), Names(self.model))
        found = []
        for site in unit.sites:
            nodes = blank.nodes[site.place]
            constants = {**self.model.weights, **blank.weights}
            shapes = index_of(self._alone(site, nodes, constants)).shapes
            found += [self._described(node, shapes, constants) for node in nodes]
        return found

    def _alone(self, site: Site, nodes: Sequence[onnx.NodeProto], weights: Mapping[str, np.ndarray]) -> Model:
        """The nodes as a model of their own, for their shapes."""
        inputs = [
            helper.make_tensor_value_info(name, self.shapes.dtypes[name], self.shapes.dims[name])
            for name in dict.fromkeys(site.proto.input)
            if name and name not in self.model.weights
        ]
        return self.model.of_nodes(nodes, inputs, [onnx.ValueInfoProto(name=site.node)], weights)

    def _described(self, node: onnx.NodeProto, shapes: Shapes, constants: Mapping[str, np.ndarray]) -> Layer:
        operands = [
            Operand(tuple(shapes.dims[name]), shapes.dtypes[name], name in constants) if name else None
            for name in node.input
        ]
        return describe(node, operands, self.opsets)
