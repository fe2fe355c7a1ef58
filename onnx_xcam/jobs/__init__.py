"""This part runs `explain` and `evaluate` over many photos, writes what they give, and can continue a run.

A job knows no command line: it tells a `Reporter` what happens, and raises `XcamError`.
"""
