"""A package that adds one of everything to intaglio: see CONTRIBUTING.md."""
