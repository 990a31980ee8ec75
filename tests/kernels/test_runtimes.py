"""What the library asks of a runtime: the newest version it knows, an older one with less, or an error."""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_uint32, c_void_p
from typing import Any, ClassVar

import pytest

from intaglio.kernels import library
from intaglio.kernels.operators import OPERATORS

from .signs import needs_library

CREATE_STATUS, CREATE_DOMAIN, DOMAIN_ADD, ADD_DOMAIN, HAS_CONFIG, SLOTS = 0, 26, 27, 28, 237, 275


class Runtime:
    """A runtime of some version that only notes what it is told. The library keeps pointers to it."""

    kept: ClassVar[list[Runtime]] = []

    def __init__(self, newest: int) -> None:
        self.asked: list[int] = []
        self.errors: list[str] = []
        self.operators: list[tuple[str, int]] = []
        self.domains: list[str] = []
        self.registered = 0
        self.table = (c_void_p * SLOTS)()
        self.calls = [
            self._at(CREATE_STATUS, CFUNCTYPE(c_void_p, c_int, c_char_p), self._create_status),
            self._at(CREATE_DOMAIN, CFUNCTYPE(c_void_p, c_char_p, POINTER(c_void_p)), self._create_domain),
            self._at(DOMAIN_ADD, CFUNCTYPE(c_void_p, c_void_p, POINTER(c_void_p)), self._domain_add),
            self._at(ADD_DOMAIN, CFUNCTYPE(c_void_p, c_void_p, c_void_p), self._add_domain),
            self._at(HAS_CONFIG, CFUNCTYPE(c_void_p, c_void_p, c_char_p, POINTER(c_int)), lambda *given: None),
        ]
        self._get = CFUNCTYPE(c_void_p, c_uint32)(lambda version: self._get_api(version, newest))
        self.base = (c_void_p * 2)(ctypes.cast(self._get, c_void_p), None)
        Runtime.kept.append(self)

    def _at(self, slot: int, kind: Any, call: Any) -> Any:
        made = kind(call)
        self.table[slot] = ctypes.cast(made, c_void_p)
        return made

    def _get_api(self, version: int, newest: int) -> int | None:
        self.asked.append(version)
        return ctypes.addressof(self.table) if version <= newest else None

    def _create_status(self, code: int, message: bytes) -> int:
        self.errors.append(message.decode())
        return 1

    def _create_domain(self, name: bytes, domain: Any) -> None:
        self.domains.append(name.decode())
        domain[0] = 1

    def _domain_add(self, domain: int, operator: Any) -> None:
        version = ctypes.cast(operator, POINTER(c_uint32))[0]
        name = ctypes.cast(operator[2], CFUNCTYPE(c_char_p, c_void_p))
        self.operators.append((name(ctypes.cast(operator, c_void_p).value).decode(), version))

    def _add_domain(self, options: int, domain: int) -> None:
        self.registered += 1

    def register(self) -> int | None:
        entry = library.library().RegisterCustomOps
        entry.restype, entry.argtypes = c_void_p, (c_void_p, c_void_p)
        return entry(2, ctypes.addressof(self.base))


@needs_library
@pytest.mark.parametrize(("newest", "asked", "version"), [(40, [17], 17), (17, [17], 17), (16, [17, 16], 16)])
def test_the_newest_version_that_both_know_is_used(newest: int, asked: list[int], version: int) -> None:
    runtime = Runtime(newest)
    assert runtime.register() is None
    assert (runtime.asked, runtime.domains, runtime.registered) == (asked, ["intaglio"], 1)
    assert {name for name, _ in runtime.operators} == set(OPERATORS) - {"UnpackWeight"}
    assert {v for _, v in runtime.operators} == {version}
    assert runtime.register() is None
    assert (runtime.domains, runtime.registered) == (["intaglio"], 2)  # options share a domain


@needs_library
def test_a_runtime_that_is_too_old_is_refused() -> None:
    runtime = Runtime(15)
    assert runtime.register() == 1
    assert runtime.errors == ["the operators of domain intaglio need ONNX Runtime 1.16 or later"]
    assert not runtime.operators
