"""Programs that measure how good maps are, and that make models and photos to measure it on."""
