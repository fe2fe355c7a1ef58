"""The meaning of axes: images, channels, height, width and tokens, followed through a graph from its pictures."""
