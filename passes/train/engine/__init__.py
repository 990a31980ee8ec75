"""What runs in torch; a pass imports it when it is run."""

ON_DEMAND = True
"""Nothing in here registers anything: who looks for what is registered leaves it alone."""
