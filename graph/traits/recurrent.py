"""Recurrent operators."""

FUNCTIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
"""Of each direction, in the order of the attribute `activations`, where that does not say otherwise."""
STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Operands that are first states."""
