"""`python -m tools.sweep` compares whole models with the gradient of the framework that they come from."""
