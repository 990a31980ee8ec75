"""Plug-ins of training."""
