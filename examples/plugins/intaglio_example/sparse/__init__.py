"""Examples for sparse weights."""
