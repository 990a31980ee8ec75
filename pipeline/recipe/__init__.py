"""Recipes: what is done to a model, as a file says it; read, checked, written, and shipped as presets."""
