"""What an explanation costs: timing in turns, peak memory, and both put together for one model."""
