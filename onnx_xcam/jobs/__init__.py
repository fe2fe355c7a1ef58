"""This package runs `explain` and `evaluate` over many photos, writes their results, and can continue a run.

A job knows no command line: it calls a `Reporter` with what happens, and raises an `XcamError` where it must end.
"""
