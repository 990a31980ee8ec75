"""Parts of a search."""
