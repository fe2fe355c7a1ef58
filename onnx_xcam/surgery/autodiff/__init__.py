"""The backward pass: the sweep over the gradient rules, and nodes that are differentiated otherwise than they stand."""
