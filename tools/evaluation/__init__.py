"""These programs measure how good maps are, and make models and photos to measure it on."""
