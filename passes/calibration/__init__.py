"""What calibrated passes share: running a model over data, statistics of its tensors, refitting its layers."""
