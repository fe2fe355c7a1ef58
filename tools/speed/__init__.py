"""These programs measure time and memory."""
