"""What `explain` and `evaluate` write as data, one type for each record: jobs write them, jobs and pages read them.

`docs/schemas` holds the same as JSON Schema, made of these types by a tool and held against them by a test.
"""
