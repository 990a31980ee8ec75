"""How weights become bits. An algorithm in a module of this folder is found without being listed."""
