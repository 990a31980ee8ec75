"""Which passes, in which order and how far: a search for the best model within limits."""
