"""The table of operators against the definitions of onnx and ONNX Runtime: none is left out, none is made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

import intaglio
from intaglio.graph import bits
from intaglio.graph.traits import OPERATORS, Role, Trait, operator, operators
from intaglio.graph.traits.others import MACHINE_LEARNING, MACHINE_LEARNING_WITHOUT, MICROSOFT, MICROSOFT_WITHOUT
from intaglio.graph.traits.standard import STANDARD, WITHOUT

SCHEMAS = {(s.domain, s.name): s for s in onnx.defs.get_all_schemas()}
RUNTIME = {(s.domain, s.name): s for s in runtime.get_all_operator_schema()}
KERNELS = {(k.domain, k.op_name) for k in runtime.get_all_opkernel_def() if k.provider == "CPUExecutionProvider"}


def split(key: str) -> tuple[str, str]:
    domain, _, op = key.rpartition(":")
    return domain, op


def described() -> Iterator[tuple[str, list[str]]]:
    """Operators, with the names that their definitions give to operands."""
    for key in OPERATORS:
        schema = RUNTIME.get(split(key)) or SCHEMAS.get(split(key))
        if schema is not None:
            yield key, [i.name.lower() for i in schema.inputs]


def test_every_operator_of_the_installed_release_is_decided() -> None:
    released = {f"{domain}:{name}" if domain else name for domain, name in SCHEMAS}
    assert not released - set(OPERATORS), "a new release: give each of these a row, or list it among those without"


def test_no_operator_stands_in_two_rows() -> None:
    for rows, without in (
        (STANDARD, WITHOUT),
        (MACHINE_LEARNING, MACHINE_LEARNING_WITHOUT),
        (MICROSOFT, MICROSOFT_WITHOUT),
    ):
        names = " ".join((*rows, without)).split()
        assert len(set(names)) == len(names)


def test_every_row_is_of_an_operator_that_exists() -> None:
    ours = {key for key in OPERATORS if key.startswith(f"{bits.DOMAIN}:")}
    assert ours == {f"{bits.DOMAIN}:{op}" for op in bits.BIT_OPERATORS}
    assert not {key for key in set(OPERATORS) - ours if split(key) not in {**SCHEMAS, **RUNTIME}}


def test_operators_of_the_runtime_that_are_mentioned_have_rows_and_kernels() -> None:
    root = Path(intaglio.__file__).parent
    texts = [file.read_text() for room in ("graph", "passes", "measure") for file in (root / room).rglob("*.py")]
    known = {name for domain, name in RUNTIME if domain == "com.microsoft"}
    mentioned = {name for name in known if any(f'"com.microsoft:{name}"' in text for text in texts)}
    rows = {op for domain, op in map(split, OPERATORS) if domain == "com.microsoft"}
    assert mentioned
    assert mentioned <= rows
    assert not {op for op in rows if ("com.microsoft", op) not in KERNELS}


@pytest.mark.parametrize("trait", Trait.__members__.values(), ids=lambda t: t.name)
def test_no_trait_is_nobodys(trait: Trait) -> None:
    assert operators(trait)


def test_operators_with_bodies_are_those_that_hold_graphs() -> None:
    kinds = (onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS)
    with_graphs = {s.name for s in SCHEMAS.values() if any(a.type in kinds for a in s.attributes.values())}
    assert {split(key)[1] for key in operators(Trait.BODIES)} == with_graphs


def test_random_operators_are_those_that_are_not_determined() -> None:
    determined: Any = onnx.defs.OpSchema.node_determinism  # type: ignore[attr-defined]  # the stubs lack it
    loose = {s.name for s in SCHEMAS.values() if determined.fget(s).name == "NonDeterministic"}
    at_training, by_mistake = {"Dropout"}, {"AffineGrid"}
    assert operators(Trait.RANDOM) == loose - operators(Trait.BODIES) - at_training - by_mistake


def test_scales_and_codes_are_where_definitions_have_them() -> None:
    for key, names in described():
        row = operator(key)
        beside = [i for i, name in enumerate(names) if any(w in name for w in ("scale", "zero", "_zp", "absmax"))]
        if row.scales or row.codes:
            assert set(row.scales) == set(beside) & set(row.scales)
            assert not set(row.codes) & set(beside), key
            assert set(row.scales) >= {i for i in beside if "g_idx" not in names[i]}, key


def test_biases_are_where_definitions_have_them() -> None:
    for key, names in described():
        bias = operator(key).bias
        assert bias is None or names[bias] in ("b", "bias", "c"), key


def test_weights_are_floats_behind_or_before_the_data() -> None:
    for key, names in described():
        for i in operator(key).weights:
            assert names[min(i, len(names) - 1)] in ("w", "r", "b", "a", "data", "weight", "inputs"), key


def test_operands_that_name_axes_are_known() -> None:
    for key, names in described():
        if split(key)[0] == "" and operator(key).roles is not None:
            named = {i for i, name in enumerate(names) if name in ("axes", "axis")}
            assert {i for i, role in operator(key).roles.items() if role is Role.AXES} == named, key
