"""These programs compare maps and metrics with those of other packages."""
