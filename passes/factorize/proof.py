"""Proof by running: the factorized model against the same network with each weight the product of its factors."""

from __future__ import annotations

from collections.abc import Sequence

from ...graph.index import index_of
from ...graph.model import Model
from ..base import MEMORY
from ..proof import Claim, Feed, Proof, prove_equal, prove_on_inputs
from .rewrite import Split

_CLAIM = Claim("factorized", "layer", "the network whose weights are the products of the factors")


def prove(
    reference: Model, small: Model, splits: Sequence[Split], real: Sequence[Feed], seed: int, memory: int = MEMORY
) -> Proof:
    """Run both on made-up inputs and on ``real`` ones: the outputs of factorized layers and of the network.

    Raises:
        ProofFailed: they differ; names the first layer at which they do.
        BadModel: one of them does not run.
    """
    made = {site.node for s in splits for site in s.unit.sites}
    inner = [name for name in index_of(reference).place if name in made]
    names = list(dict.fromkeys([*inner, *(o.name for o in reference.graph.output)]))

    def equal(inputs: tuple[Sequence[Feed], str]) -> Proof:
        return prove_equal(reference, small, names, inputs, _CLAIM, memory=memory)

    return prove_on_inputs(reference, real, seed, memory, equal)
