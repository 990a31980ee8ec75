"""Rewriting nodes."""
