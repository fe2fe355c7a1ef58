"""Model files: reading without the weights, weights in other files, and writing the result."""
