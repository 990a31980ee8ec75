"""ONNX graphs run in torch, so that gradients flow through them. The only part of the package that needs torch."""
