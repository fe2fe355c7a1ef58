"""`python -m tools.fuzz` feeds mutated files to the package, to find where that ends otherwise than it should."""
