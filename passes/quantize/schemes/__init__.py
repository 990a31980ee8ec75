"""What becomes of weights and activations."""
