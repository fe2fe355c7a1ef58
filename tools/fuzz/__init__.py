"""Mutated files, to find what the package ends in otherwise than it should: `python -m tools.fuzz`."""
