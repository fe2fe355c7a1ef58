"""This package holds the model as the surgery reads it: a graph of nodes and tensors, and facts on operators."""
