"""Methods that find out which weights may go, or learn with few."""
