"""Importers: from any framework to the standard graph. A module in this folder is found without being listed."""

from .base import IMPORTERS, Imported, Importer, Source, importer

__all__ = ["IMPORTERS", "Imported", "Importer", "Source", "importer"]
