"""What quantization and binarization share: grids of numbers, where weights stand, noise, attempts within a limit."""
