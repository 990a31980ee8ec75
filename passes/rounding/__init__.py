"""How rows of weights become numbers with scales, whatever the numbers are."""
