"""This package defines the records that `explain` and `evaluate` write, and that jobs and pages read.

Each record is one type. `docs/schemas` holds them as JSON Schema, which a tool makes from these types and a test
compares with them.
"""
