"""This package makes models of parts of a model: of a node, or of the part behind a layer."""
