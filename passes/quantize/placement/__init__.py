"""Where integers go in a graph, and what runtimes compute in them."""
