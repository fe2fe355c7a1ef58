"""Nodes that are added: values with operators, what spells them at an opset, and their shapes."""
