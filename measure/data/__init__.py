"""Data for a model: where it comes from and what is done to it."""
