"""How integers stand in a model."""
