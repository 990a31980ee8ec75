"""Calibrated pruning by second order: what goes, how much of each group."""
