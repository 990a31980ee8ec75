"""Whole branches of residual sums: which there are, which go, and what makes up for them."""
