"""Conversions of ONNX operators, one small function each."""
