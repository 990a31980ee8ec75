"""Methods that train networks of one and two bits."""
