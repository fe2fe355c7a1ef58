"""What is explained: the class score, the layers, and what their axes mean."""
