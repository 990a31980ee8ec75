"""What is known of operators: one row an operator, which rules and passes ask instead of lists of their own."""

from .table import DEFAULT_DOMAINS, OPERATORS, data_operands, has, has_any, operator, operator_key, operators
from .trait import EVERYWHERE, Operator, Role, Runtime, Trait

__all__ = [
    "DEFAULT_DOMAINS",
    "EVERYWHERE",
    "OPERATORS",
    "Operator",
    "Role",
    "Runtime",
    "Trait",
    "data_operands",
    "has",
    "has_any",
    "operator",
    "operator_key",
    "operators",
]
