"""Models that get other inputs and outputs than they had: not measured side by side as others are."""
