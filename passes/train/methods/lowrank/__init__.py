"""Methods that train toward few ranks."""
