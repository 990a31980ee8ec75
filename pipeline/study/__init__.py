"""Many recipes tried on one model, for several objectives at once: which of them nothing beats."""
