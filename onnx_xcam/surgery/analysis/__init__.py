"""This package finds facts about a model in its graph: shapes, constants, ranges of values, what depends on what."""
