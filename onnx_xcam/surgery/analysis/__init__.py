"""Facts about a model that are read off its graph: shapes, constants, ranges of values, what depends on what."""
