"""Exporters: from the standard graph to what runs. A module in this folder is found without being listed."""

from .base import EXPORTERS, Artifact, CannotExport, Exporter, Runner, exporter, refuse

__all__ = ["EXPORTERS", "Artifact", "CannotExport", "Exporter", "Runner", "exporter", "refuse"]
