"""This package finds what is explained in a model: a vision task's score table, and the layers with its evidence."""
