"""How weights in bits stand in a model."""
