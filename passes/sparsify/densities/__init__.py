"""Densities. A scheme in a module of this folder is found without being listed."""
