"""What writes each operator: a module for each kind, found without being listed."""
