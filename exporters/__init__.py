"""Exporters: from the standard graph to what runs. A module in this folder is found without being listed."""

from .base import EXPORTERS, Exporter

__all__ = ["EXPORTERS", "Exporter"]
