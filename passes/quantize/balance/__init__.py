"""What is done to a model before it is rounded, equal but for rounding: levelling, smoothing, biases."""
