"""This package emits the part that is added to a model: gradients, maps, and the outputs of the contract."""
