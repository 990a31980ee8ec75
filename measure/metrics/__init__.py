"""Metrics of what is no choice among classes alone: numbers, text, boxes."""
