"""This package finds out what only a run of ONNX Runtime shows.

It tries whether products of 8-bit integers are exact on this processor, and whether a rewritten model gives the same.
"""
