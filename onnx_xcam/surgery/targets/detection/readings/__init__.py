"""This package reads the outputs of detectors: one module for each form that these have, whatever the model is called.

A reading is found by `READINGS` (see `registry.py`), names what it was found by, and emits scores, probabilities and
boxes in the one form of `candidates.appended`.
"""
