"""Models as tools for production prepare them, float16 and quantised ones among them: `python -m tools.formats`."""
