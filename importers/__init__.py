"""Importers: from any framework to the standard graph. A module in this folder is found without being listed."""

from __future__ import annotations

from .base import IMPORTERS, Importer

__all__ = ["IMPORTERS", "Importer"]
