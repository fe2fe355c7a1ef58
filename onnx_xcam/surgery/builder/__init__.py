"""This package builds the nodes that surgery adds: values with operators, what is recorded, simplified and exported."""
