"""Commands that take or make several models."""
