"""The model as the surgery reads it: a graph of nodes and tensors, held against the definitions of its operators."""
