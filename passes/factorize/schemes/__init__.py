"""Ways to split a weight. A scheme in a module of this folder is found without being listed."""
