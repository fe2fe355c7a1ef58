"""Whole models against the gradient of the framework that they come from: `python -m tools.sweep`."""
