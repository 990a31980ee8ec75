"""Exporters: from the standard graph to what runs. A module in this folder is found without being listed."""

from __future__ import annotations

from .base import EXPORTERS, Exporter

__all__ = ["EXPORTERS", "Exporter"]
