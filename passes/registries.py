"""Where everything that can be plugged in is registered, by entry point group; each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..graph.registry import OWN, Registry

REGISTRIES = {
    "intaglio.passes": "passes.base:PASSES",
    "intaglio.criteria": "passes.prune.criteria.criteria:CRITERIA",
    "intaglio.repairs": "passes.prune.repair.repair:REPAIRS",
    "intaglio.merges": "passes.prune.experts.merging:MERGES",
    "intaglio.factorizations": "passes.factorize.schemes.scheme:SCHEMES",
    "intaglio.schemes": "passes.quantize.scheme:SCHEMES",
    "intaglio.rounders": "passes.quantize.rounding.rounding:ROUNDERS",
    "intaglio.ranges": "passes.quantize.ranges.ranges:RANGES",
    "intaglio.targets": "passes.quantize.targets:TARGETS",
    "intaglio.allocators": "passes.quantize.allocation.allocate:ALLOCATORS",
    "intaglio.binarize_schemes": "passes.binarize.scheme:SCHEMES",
    "intaglio.binarizers": "passes.binarize.algorithms.binarizer:BINARIZERS",
    "intaglio.sparsifiers": "passes.sparsify.method:METHODS",
    "intaglio.patterns": "passes.sparsify.patterns:PATTERNS",
    "intaglio.densities": "passes.sparsify.densities.density:DENSITIES",
    "intaglio.trainers": "passes.train.methods.method:METHODS",
    "intaglio.losses": "passes.train.losses.loss:LOSSES",
    "intaglio.estimators": "passes.train.binary.estimators:ESTIMATORS",
    "intaglio.binary_operators": "passes.train.binary.operators:BINARY_OPERATORS",
    "intaglio.augmentations": "passes.train.augmentations.augmentation:AUGMENTATIONS",
    "intaglio.solvers": "passes.budget.solvers:SOLVERS",
    "intaglio.moment_rules": "passes.calibration.normal.moments:MOMENT_RULES",
    "intaglio.metrics": "measure.accuracy:METRICS",
    "intaglio.executors": "measure.executors.executor:EXECUTORS",
    "intaglio.spaces": "pipeline.study.spaces:SPACES",
    "intaglio.strategies": "pipeline.study.strategies.strategy:STRATEGIES",
    "intaglio.predictors": "pipeline.study.predictors.predictor:PREDICTORS",
    "intaglio.importers": "importers.base:IMPORTERS",
    "intaglio.exporters": "exporters.base:EXPORTERS",
    "intaglio.rules": "graph.coupling.node:RULES",
    "intaglio.commands": "cli.plugged:PLUGGED",
}


def registry(group: str) -> Registry[Any]:
    """The registry of an entry point group."""
    module, _, name = REGISTRIES[group].partition(":")
    found: Registry[Any] = getattr(import_module(f"{OWN}.{module}"), name)
    return found
