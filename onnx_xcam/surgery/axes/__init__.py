"""This package follows the meaning of axes through a graph: images, channels, height, width and tokens."""
