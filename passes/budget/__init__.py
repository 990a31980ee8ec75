"""Choices under a limit."""
