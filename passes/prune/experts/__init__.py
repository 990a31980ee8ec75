"""Experts of mixtures: which there are, how often they are used, and the model without some of them."""
