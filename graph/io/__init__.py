"""Files: read, checked, raised to a newer operator set, brought to standard form, written."""
