"""How long single operators take on this machine."""
