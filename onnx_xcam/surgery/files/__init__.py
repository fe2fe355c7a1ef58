"""This package reads model files without their weights, follows weights to other files, and writes the result."""
