"""What is explained: the score table of a vision task, and the layers that carry its evidence."""
