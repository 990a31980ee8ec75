"""Networks by family; every file in here is loaded by the registry."""
