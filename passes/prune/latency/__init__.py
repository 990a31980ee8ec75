"""A latency target and the time that narrower nodes take."""
