"""This package emits the backward pass: one sweep over the gradient rules, by node or by group of nodes."""
