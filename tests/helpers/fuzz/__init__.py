"""What the fuzzer feeds to the package and how it calls it; `python -m tools.fuzz` runs many cases of it."""
