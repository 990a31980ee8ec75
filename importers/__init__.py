"""Importers: from any framework to the standard graph. A module in this folder is found without being listed."""

from .base import IMPORTERS, Importer

__all__ = ["IMPORTERS", "Importer"]
