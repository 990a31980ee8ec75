"""Weights, and activations of networks trained for it, as bits."""
