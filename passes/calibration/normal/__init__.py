"""What every channel is like without any data."""
