"""How a search chooses what it tries next: each file registers one way or two."""
