"""This package measures what an explanation costs: it times callables in turns and measures the peak memory of runs."""
