"""Running models: sessions, inputs for them, latency."""
