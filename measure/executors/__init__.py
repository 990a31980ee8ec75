"""Where pieces of work run: in this process, in others, or on a cluster, with the same results."""
